package doctor_test

import (
	"os"
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/bridge/certs/certstest"
	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/cmd/pulsegate/doctor"
)

// withTLS adds a listener with a certificate of an authority.
func withTLS(t *testing.T, a *certstest.Authority, days time.Duration) (config.Config, certstest.Pair) {
	t.Helper()
	c := settings(t)
	pair := a.Issue(t, "gate", certstest.Until(time.Now().Add(days*24*time.Hour+time.Minute)))
	c.MQTT.TLS.Listen, c.MQTT.TLS.Cert, c.MQTT.TLS.Key = "127.0.0.1:0", pair.Cert, pair.Key
	return c, pair
}

func TestCertificates(t *testing.T) {
	a := certstest.New(t)
	other := a.Issue(t, "other")
	for name, want := range map[string]struct {
		days   time.Duration
		change func(*config.Config)
		status doctor.Status
		says   string
		starts string
	}{
		"good":         {days: 31, status: doctor.OK, says: "mqtt.tls.cert: "},
		"ends soon":    {days: 29, status: doctor.Warn, says: "is valid for 29 days more"},
		"expired":      {days: -3, status: doctor.Fail, says: "has expired on "}, // and yet the gate starts, with a warning
		"another key":  {days: 90, change: func(c *config.Config) { c.MQTT.TLS.Key = other.Key }, status: doctor.Fail, says: "private key does not match", starts: "private key does not match"},
		"not there":    {days: 90, change: func(c *config.Config) { c.MQTT.TLS.Cert = "/none" }, status: doctor.Fail, says: "/none", starts: "/none"},
		"no authority": {days: 90, change: func(c *config.Config) { c.MQTT.TLS.Client, c.MQTT.TLS.ClientCA = config.ClientBoth, other.Key }, status: doctor.Fail, says: "mqtt.tls.client_ca: ", starts: "is no certificate"},
		"its end":      {days: 90, change: func(c *config.Config) { c.MQTT.TLS.Client, c.MQTT.TLS.ClientCA = config.ClientBoth, a.File }, status: doctor.Warn, says: "mqtt.tls.client_ca: " + a.File + " is valid for 0 days more"},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := withTLS(t, a, want.days)
			c.HTTP.Listen = vacant(t)
			if want.change != nil {
				want.change(&c)
			}
			r := examine(t, c)
			r.says(t, "certificates", want.status, want.says)
			if want.status == doctor.Fail {
				r.onlyFails(t, "certificates")
			} else {
				r.onlyFails(t)
			}
			if want.starts != "" {
				refused(t, c, "mqtt.tls: ", want.starts)
			}
		})
	}
}

// TestTheCertificateOfNATS looks at what the server shows, which the gate has no
// file of.
func TestTheCertificateOfNATS(t *testing.T) {
	a := certstest.New(t)
	pair := a.Issue(t, "nats")
	c := settings(t)
	c.HTTP.Listen = vacant(t)
	c.NATS.URL, c.NATS.TLS.CA = config.ServerURL(runTLS(t, pair)), a.File
	r := examine(t, c)
	r.onlyFails(t)
	r.says(t, "nats", doctor.Warn, "the certificate of tls://127.0.0.1:", "is valid for 0 days more")

	old := a.Issue(t, "nats", certstest.Until(time.Now().Add(-time.Hour)))
	c.NATS.URL = config.ServerURL(runTLS(t, old))
	refused(t, c, "has a certificate that does not verify", "expired", "give it a new one")
	r = examine(t, c)
	r.onlyFails(t, "nats")
	r.says(t, "nats", doctor.Fail, "expired", "give it a new one")
}

func TestFiles(t *testing.T) {
	a := certstest.New(t)
	c, pair := withTLS(t, a, 90)
	c = start(t, c)
	examine(t, c).says(t, "files", doctor.OK, "5 files")
	for name, want := range map[string]struct {
		file string
		mode os.FileMode
		says string
	}{
		"master key": {c.Data + "/master.key", 0o640, "the master key: " + c.Data + "/master.key has mode 0640, so that others can use it: chmod 600"},
		"operator":   {c.Data + "/operator.url", 0o604, "the URL of the operator: "},
		"TLS key":    {pair.Key, 0o644, "mqtt.tls.key: "},
	} {
		t.Run(name, func(t *testing.T) {
			must(t, os.Chmod(want.file, want.mode))
			defer func() { must(t, os.Chmod(want.file, 0o600)) }()
			examine(t, c).says(t, "files", doctor.Fail, want.says)
		})
	}
	// A group may read it, as is usual for certificates that several programs use.
	must(t, os.Chmod(pair.Key, 0o640))
	examine(t, c).says(t, "files", doctor.OK)
	must(t, os.Chmod(c.Data, 0o777))
	examine(t, c).says(t, "data directory", doctor.Fail, "has mode 0777", "chmod 700")
	must(t, os.Chmod(c.Data, 0o755))
	examine(t, c).says(t, "data directory", doctor.Warn, "has mode 0755", "chmod 700")
}

func TestOwners(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root can give files away")
	}
	c := settings(t)
	c.HTTP.Listen = vacant(t)
	must(t, os.Mkdir(c.Data, 0o700))
	must(t, os.Chown(c.Data, 65532, 65532))
	must(t, os.WriteFile(c.Data+"/master.key", nil, 0o600))
	r := examine(t, c)
	r.onlyFails(t, "files")
	r.says(t, "files", doctor.Fail, "master.key belongs to root", "to user 65532", "chown")
	must(t, os.Chown(c.Data+"/master.key", 65532, 65532))
	examine(t, c).says(t, "files", doctor.OK, "1 files")
}
