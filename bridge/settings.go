package bridge

import (
	"time"

	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/engine"
)

func limits(s config.Stream) egress.Limits {
	return egress.Limits{MaxBytes: int64(s.MaxBytes), MaxAge: time.Duration(s.MaxAge)}
}

func layoutOf(c config.Config) egress.Layout {
	return egress.Layout{
		Vitals: limits(c.Store.Vitals), Rejections: limits(c.Store.Rejections), Audit: limits(c.Store.Audit),
		Devices:  egress.Limits{MaxBytes: int64(c.Store.Devices.MaxBytes)},
		Replicas: c.Store.Replicas, DuplicateWindow: time.Duration(c.Store.DuplicateWindow),
		Republish: egress.Republish(c.Store.Republish), Consumers: c.Consumers,
	}
}

func engineOptions(c config.Config, layout egress.Layout, log zerolog.Logger) engine.Options {
	return engine.Options{
		Dir: c.Data, Listen: c.NATS.Listen, Sync: c.NATS.Sync.String(), MaxStore: layout.Total(),
		Log: log.With().Str("part", "nats").Logger(),
		Remote: engine.Remote{
			URL: string(c.NATS.URL), URLFile: c.NATS.URLFile, User: c.NATS.User, Password: string(c.NATS.Password), Token: string(c.NATS.Token),
			NKeyFile: c.NATS.NkeyFile, CredsFile: c.NATS.CredsFile,
			TLS: engine.TLS{CA: c.NATS.TLS.CA, Cert: c.NATS.TLS.Cert, Key: c.NATS.TLS.Key},
		},
	}
}
