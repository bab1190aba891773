package bridge

import (
	"time"

	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/engine"
)

func streamLimits(s config.Stream) egress.Limits {
	return egress.Limits{MaxBytes: int64(s.MaxBytes), MaxAge: time.Duration(s.MaxAge)}
}

// LayoutOf is how a configuration wants the streams to be.
func LayoutOf(c config.Config) egress.Layout {
	return egress.Layout{
		Vitals: streamLimits(c.Store.Vitals), Rejections: streamLimits(c.Store.Rejections), Audit: streamLimits(c.Store.Audit),
		Devices:  egress.Limits{MaxBytes: int64(c.Store.Devices.MaxBytes)},
		Replicas: c.Store.Replicas, DuplicateWindow: time.Duration(c.Store.DuplicateWindow),
		Republish: egress.Republish(c.Store.Republish), Consumers: c.Consumers,
	}
}

func engineOptions(c config.Config, layout egress.Layout, log zerolog.Logger) engine.Options {
	return engine.Options{
		Dir: c.Data, Listen: c.NATS.Listen, Sync: c.NATS.Sync.String(), MaxStore: layout.Total(),
		Log:    log.With().Str("part", "nats").Logger(),
		Remote: RemoteOf(c),
	}
}

// RemoteOf is the NATS server that a configuration names, and how the gate logs
// in there; the URL and its file are empty for the embedded one.
func RemoteOf(c config.Config) engine.Remote {
	return engine.Remote{
		URL: string(c.NATS.URL), URLFile: c.NATS.URLFile, User: c.NATS.User, Password: string(c.NATS.Password), Token: string(c.NATS.Token),
		NKeyFile: c.NATS.NkeyFile, CredsFile: c.NATS.CredsFile,
		TLS: engine.TLS{CA: c.NATS.TLS.CA, Cert: c.NATS.TLS.Cert, Key: c.NATS.TLS.Key},
	}
}

func lateOptions(c config.Config) egress.LateOptions {
	if c.Freshness.Late != config.LateKeep {
		return egress.LateOptions{}
	}
	return egress.LateOptions{
		MaxAge: time.Duration(c.Freshness.MaxAge), MaxFuture: time.Duration(c.Freshness.MaxFuture),
		Tolerance: time.Duration(c.Freshness.ClockTolerance), Window: time.Duration(c.Store.DuplicateWindow),
	}
}
