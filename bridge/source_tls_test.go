package bridge_test

import (
	"os"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge"
	"github.com/pulsegate/pulsegate/bridge/certs/certstest"
	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/ingress/source/mosquittest"
)

func TestASourceThatCannotBe(t *testing.T) {
	t.Parallel()
	pair := certstest.New(t).Issue(t, "the gate")
	for want, files := range map[string]config.TLS{
		"source: TLS: source.tls.ca: open /none":            {CA: "/none"},
		"source.tls.ca: " + pair.Key + " holds no cert":     {CA: pair.Key},
		"source: TLS: source.tls.cert: open /none: no such": {Cert: "/none", Key: pair.Key},
	} {
		c := small(t)
		c.Source.URL, c.Source.ClientID, c.Source.TLS = "mqtts://127.0.0.1:1", "replica-1", files
		must(t, c.Validate())
		b, err := bridge.Start(t.Context(), c, bridge.Options{Log: zerolog.Nop()})
		if err == nil {
			_ = b.Close(t.Context())
			t.Fatalf("it starts; want %q", want)
		}
		if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v: want one line with %q", err, want)
		}
	}
}

// Over TLS, with the host's name as client id.
func TestASourceOverTLS(t *testing.T) {
	t.Parallel()
	host, err := os.Hostname()
	must(t, err)
	servers, clients := certstest.New(t), certstest.New(t)
	shown, own := servers.Issue(t, "the broker"), clients.Issue(t, "the gate")
	m := mosquittest.Start(t, "cafile "+clients.File, "certfile "+shown.Cert, "keyfile "+shown.Key, "require_certificate true")
	startFrom(t, m, func(c *config.Config) {
		c.Source.URL, c.Source.ClientID = config.ServerURL("mqtts://"+m.Address), ""
		c.Source.TLS = config.TLS{CA: servers.File, Cert: own.Cert, Key: own.Key}
	})
	m.Await(t, " as pulsegate-"+host+" (", 1)
}
