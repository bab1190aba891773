package doctor_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pulsegate/pulsegate/bridge"
	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/cmd/pulsegate/doctor"
)

// publishes and subscribes are all that a gate needs.
func publishes() []string {
	return []string{
		"$JS.API.INFO", "$JS.API.STREAM.INFO.*", "$JS.API.STREAM.CREATE.*", "$JS.API.STREAM.UPDATE.VITALS", "$JS.API.STREAM.MSG.GET.*",
		"$JS.API.CONSUMER.INFO.VITALS.>", "$JS.API.CONSUMER.CREATE.VITALS.>", "$JS.API.CONSUMER.CREATE.KV_devices.>", "$JS.API.CONSUMER.DELETE.KV_devices.>",
		"$JS.API.CONSUMER.CREATE.AUDIT.>", "$JS.API.CONSUMER.DELETE.AUDIT.>", "$JS.API.CONSUMER.MSG.NEXT.AUDIT.>",
		"$JS.API.DIRECT.GET.KV_devices.>", "$JS.FC.>", "gate.in.vitals.>", "$KV.devices.>", "gate.replicas", "gate.replicas.hello", "gate.presence", "_INBOX.>", "gate.registry.>",
		"gate.in.audit.>", "rejected.>",
	}
}

func subscribes() []string {
	return []string{"_INBOX.>", "gate.registry.>", "gate.replicas", "gate.replicas.hello", "gate.presence", "$SRV.>"}
}

func without(all []string, one string) []string {
	var rest []string
	for _, s := range all {
		if s != one {
			rest = append(rest, s)
		}
	}
	return rest
}

// restricted runs a server that lets the gate do only so much.
func restricted(t *testing.T, publish, subscribe []string) config.Config {
	t.Helper()
	account := server.NewAccount("GATE")
	c := settings(t)
	url := run(t, &server.Options{
		Accounts: []*server.Account{account},
		Users: []*server.User{{Username: "gate", Password: "sesame", Account: account, Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Allow: publish}, Subscribe: &server.SubjectPermission{Allow: subscribe},
		}}},
	}, "GATE")
	c.NATS.URL, c.NATS.User, c.NATS.Password = config.ServerURL(url), "gate", "sesame"
	return c
}

// TestExactPermissionsAreEnough keeps the list of what is tried in step with what
// a gate needs.
func TestExactPermissionsAreEnough(t *testing.T) {
	c, stop, log := startLogging(t, restricted(t, publishes(), subscribes()))
	r := examine(t, c)
	r.onlyFails(t)
	stop()
	if strings.Contains(log.String(), "ermissions") {
		t.Errorf("the gate has missed something: %s", log)
	}
	r.says(t, "permissions", doctor.OK, "has what it needs", "$SYS.REQ.USER.INFO")
	r.says(t, "mqtt", doctor.OK, c.MQTT.Listen)
}

func TestMissingPermissions(t *testing.T) {
	for _, missing := range []string{"gate.in.vitals.>", "gate.in.audit.>", "$JS.API.INFO", "$KV.devices.>", "$JS.API.STREAM.CREATE.*"} {
		c := restricted(t, without(publishes(), missing), subscribes())
		named := strings.ReplaceAll(missing, "*", "VITALS")
		refused(t, c, "NATS at nats://127.0.0.1:", "does not let this user publish "+named+": ", "configs/nats/accounts.conf")
		c.HTTP.Listen = vacant(t)
		r := examine(t, c)
		r.says(t, "permissions", doctor.Fail, "does not let the gate's user publish "+named+": ")
		if strings.Contains(r.String(), "sesame") {
			t.Errorf("it tells the password:\n%s", r)
		}
	}
	for _, missing := range []string{"gate.registry.>", "gate.replicas"} {
		c := restricted(t, publishes(), without(subscribes(), missing))
		refused(t, c, "does not let this user subscribe to "+missing+": ")
		c.HTTP.Listen = vacant(t)
		examine(t, c).says(t, "permissions", doctor.Fail, "subscribe to "+missing+": ")
	}
}

func TestPermissionsForRejectionsAndTooManyBeside(t *testing.T) {
	c := start(t, restricted(t, append(without(publishes(), "rejected.>"), "$SYS.REQ.USER.INFO"), subscribes()))
	r := examine(t, c)
	r.onlyFails(t)
	r.says(t, "permissions", doctor.Warn, "publish rejected.>, so that")

	c = settings(t)
	c.NATS.URL = config.ServerURL(run(t, &server.Options{}))
	r = examine(t, start(t, c))
	r.onlyFails(t)
	r.says(t, "permissions", doctor.Warn, "the account $G")
}

func TestNATSThatCannotBeUsed(t *testing.T) {
	c := settings(t)
	c.HTTP.Listen = vacant(t)
	c.NATS.URL = config.ServerURL("nats://" + vacant(t))
	r := examine(t, c)
	r.onlyFails(t, "nats")
	r.says(t, "nats", doctor.Fail, "cannot be reached")
	r.says(t, "disk", doctor.Skipped, `it needs "permissions"`)

	c = restricted(t, publishes(), subscribes())
	c.NATS.Password, c.HTTP.Listen = "another", vacant(t)
	r = examine(t, c)
	r.onlyFails(t, "nats")
	r.says(t, "nats", doctor.Fail, "refused the credentials")
}

// edit is what somebody with the gate's credentials might do to a stream.
type edit struct {
	stream string
	change func(*jetstream.StreamConfig)
	says   string
	// mends is true for what the gate's next start puts right.
	mends bool
}

func edits() map[string]edit {
	return map[string]edit{
		"discard":  {"VITALS", func(s *jetstream.StreamConfig) { s.Discard = jetstream.DiscardOld }, "discard is DiscardOld, not DiscardNew", false},
		"subjects": {"VITALS", func(s *jetstream.StreamConfig) { s.Subjects = []string{"gate.in.vitals.>", "readings.>"} }, "subjects is gate.in.vitals.>,readings.>", false},
		"transform": {"VITALS", func(s *jetstream.StreamConfig) {
			s.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "gate.in.vitals.>", Destination: "readings.>"}
		}, "subject transform is gate.in.vitals.> to readings.>", false},
		"larger":           {"VITALS", func(s *jetstream.StreamConfig) { s.MaxBytes *= 2 }, "it holds 8388608 bytes", false},
		"registry":         {"KV_devices", func(s *jetstream.StreamConfig) { s.MaxMsgsPerSubject = 5 }, "messages' limit per subject is 5, not 1", false},
		"duplicate window": {"VITALS", func(s *jetstream.StreamConfig) { s.Duplicates = time.Minute }, "duplicate window is 1m0s, not 10m0s", true},
		"smaller":          {"VITALS", func(s *jetstream.StreamConfig) { s.MaxBytes /= 2 }, "limit in bytes is 2097152, not 4194304", true},
		"shorter":          {"REJECTIONS", func(s *jetstream.StreamConfig) { s.MaxAge = time.Hour }, "age limit is 1h0m0s, not 720h0m0s", true},
		"republish":        {"VITALS", func(s *jetstream.StreamConfig) { s.RePublish = nil }, "republish is off, not vitals.> to vitals.>", true},
	}
}

func TestStreamsChangedByHand(t *testing.T) {
	c, js := own(t)
	started := start(t, c)
	for name, e := range edits() {
		t.Run(name, func(t *testing.T) {
			stream, err := js.Stream(within(t), e.stream)
			must(t, err)
			good := stream.CachedInfo().Config
			edited := good
			e.change(&edited)
			_, err = js.UpdateStream(within(t), edited)
			must(t, err)
			defer func() { _, err := js.UpdateStream(within(t), good); must(t, err) }()
			r := examine(t, started)
			r.onlyFails(t, "streams")
			r.says(t, "streams", doctor.Fail, e.stream+" is not as ", e.says)
			examine(t, started).says(t, "streams", doctor.Fail, e.says) // since the doctor changes nothing
			if !e.mends {
				another := c
				another.Data = t.TempDir()
				refused(t, another, "stream "+e.stream+" is not as Pulsegate needs it: "+e.says)
			}
		})
	}
	examine(t, started).onlyFails(t)
	must(t, js.DeleteConsumer(within(t), "VITALS", "triage"))
	r := examine(t, started)
	r.onlyFails(t, "streams")
	r.says(t, "streams", doctor.Fail, "not there: triage")
}

func TestAFullStream(t *testing.T) {
	c, js := own(t)
	c.Store.Vitals.MaxBytes = 64 * config.KiB
	c = start(t, c)
	fill := func(upTo uint64) {
		payload := strings.Repeat("x", 500)
		for {
			stream, err := js.Stream(within(t), "VITALS")
			must(t, err)
			if s := stream.CachedInfo().State.Bytes; s+600 > upTo {
				return
			}
			_, err = js.Publish(within(t), "gate.in.vitals.late.p.w.1", []byte(payload))
			must(t, err)
		}
	}
	fill(56 << 10)
	r := examine(t, c)
	r.onlyFails(t)
	r.says(t, "streams", doctor.Warn, "VITALS is nearly full", "of 64 KiB")
	fill(64<<10 + 100)
	examine(t, c).says(t, "streams", doctor.Fail, "VITALS is full", "takes nothing more")
}

func TestTheMasterKey(t *testing.T) {
	for name, make := range map[string]func(*testing.T) config.Config{
		"embedded": settings,
		"own":      func(t *testing.T) config.Config { c, _ := own(t); return c },
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t, make(t))
			file := filepath.Join(c.Data, bridge.MasterKeyFile)
			r := examine(t, c)
			r.onlyFails(t)
			r.says(t, "registry", doctor.OK, "newest: 1")
			must(t, os.WriteFile(file, []byte(strings.Repeat("5e", 32)+"\n"), 0o600))
			r = examine(t, c)
			r.onlyFails(t, "registry")
			r.says(t, "registry", doctor.Fail, "is not the one that this registry was made with")
			if strings.Contains(r.String(), "5e5e") {
				t.Errorf("it tells the key:\n%s", r)
			}
			must(t, os.Remove(file))
			r = examine(t, c)
			r.onlyFails(t, "registry")
			r.says(t, "registry", doctor.Fail, "there is no master key "+file, "restore it")
		})
	}
}

func TestAClockThatIsOff(t *testing.T) {
	c := start(t, settings(t))
	o := options(c)
	o.Now = func() time.Time { return time.Now().Add(-time.Minute) }
	r := result(doctor.Run(t.Context(), o))
	r.says(t, "clock", doctor.Fail, "behind NATS'", "2s are allowed", "NTP")
}
