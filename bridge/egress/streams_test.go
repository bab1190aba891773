package egress_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/engine"
)

func (d *depot) config(t testing.TB, stream string) jetstream.StreamConfig {
	t.Helper()
	s, err := d.js.Stream(soon(t), stream)
	need(t, err)
	return s.CachedInfo().Config
}

func TestEnsureMakesWhatTheGateNeeds(t *testing.T) {
	d := openDepot(t)
	bucket, err := egress.Ensure(soon(t), d.nc, depotLayout())
	need(t, err)
	if _, err := bucket.Create(soon(t), "w-1", []byte("entry")); err != nil {
		t.Errorf("the bucket takes nothing: %v", err)
	}
	vitals := d.config(t, "VITALS")
	if !slices.Equal(vitals.Subjects, []string{"gate.in.vitals.>"}) || vitals.Discard != jetstream.DiscardNew ||
		vitals.Duplicates != 2*time.Minute || vitals.Retention != jetstream.LimitsPolicy {
		t.Errorf("VITALS is %+v", vitals)
	}
	if x := vitals.SubjectTransform; x == nil || x.Source != "gate.in.vitals.>" || x.Destination != "vitals.>" {
		t.Errorf("VITALS is transformed by %+v", x)
	}
	if x := vitals.RePublish; x == nil || x.Source != "vitals.>" || x.Destination != "vitals.>" || x.HeadersOnly {
		t.Errorf("VITALS is republished by %+v", x)
	}
	for _, name := range []string{"VITALS", "REJECTIONS", "AUDIT", "KV_devices"} {
		if c := d.config(t, name); c.Storage != jetstream.FileStorage || c.MaxBytes <= 0 || !c.AllowDirect {
			t.Errorf("%s is %+v, want files, a bound and direct get", name, c)
		}
	}
	for _, name := range []string{"REJECTIONS", "AUDIT"} {
		if c := d.config(t, name); c.Discard != jetstream.DiscardOld || c.MaxAge != time.Hour {
			t.Errorf("%s is %+v, want one that forgets the old after an hour", name, c)
		}
	}
	consumer, err := d.js.Consumer(soon(t), "VITALS", "triage")
	need(t, err)
	c := consumer.CachedInfo().Config
	if c.Durable != "triage" || c.FilterSubject != "vitals.live.>" || c.AckPolicy != jetstream.AckExplicitPolicy || c.DeliverSubject != "" {
		t.Errorf("the consumer is %+v", c)
	}
}

func TestEnsureAgainChangesNothing(t *testing.T) {
	d := openDepot(t)
	d.ensure(t, depotLayout())
	if a := publish(t, d.store(t, 10*time.Second), record(1)); a.err != nil {
		t.Fatal(a.err)
	}
	before, err := d.js.Stream(soon(t), "VITALS")
	need(t, err)
	d.ensure(t, depotLayout())
	after, err := d.js.Stream(soon(t), "VITALS")
	need(t, err)
	if !after.CachedInfo().Created.Equal(before.CachedInfo().Created) || after.CachedInfo().State.Msgs != 1 {
		t.Errorf("VITALS is another now: %+v", after.CachedInfo())
	}
}

func TestEnsureWithoutRepublish(t *testing.T) {
	d := openDepot(t)
	l := depotLayout()
	l.Republish, l.Consumers = false, nil
	d.ensure(t, l)
	if x := d.config(t, "VITALS").RePublish; x != nil {
		t.Errorf("VITALS is republished by %+v", x)
	}
}

// TestContradictionsAreErrors makes each stream anew with one setting changed.
func TestContradictionsAreErrors(t *testing.T) {
	d := openDepot(t)
	d.ensure(t, depotLayout())
	for name, c := range map[string]struct {
		stream, says string
		change       func(*jetstream.StreamConfig)
	}{
		"subjects":        {"VITALS", "subjects is gate.in.vitals.live.>, not gate.in.vitals.>", func(c *jetstream.StreamConfig) { c.Subjects = []string{"gate.in.vitals.live.>"} }},
		"more subjects":   {"VITALS", "subjects is gate.in.vitals.>,other.>", func(c *jetstream.StreamConfig) { c.Subjects = append(c.Subjects, "other.>") }},
		"no transform":    {"VITALS", "subject transform is none", func(c *jetstream.StreamConfig) { c.SubjectTransform = nil; c.RePublish = nil }},
		"transform":       {"VITALS", "subject transform is gate.in.vitals.> to readings.>", func(c *jetstream.StreamConfig) { c.SubjectTransform.Destination = "readings.>" }},
		"republish":       {"VITALS", "republish is vitals.> to elsewhere.>", func(c *jetstream.StreamConfig) { c.RePublish.Destination = "elsewhere.>" }},
		"discard":         {"VITALS", "discard is DiscardOld, not DiscardNew", func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }},
		"retention":       {"VITALS", "retention is WorkQueue, not Limits", func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy }},
		"storage":         {"VITALS", "storage is Memory, not File", func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }},
		"kept longer":     {"VITALS", "it keeps messages 2h0m0s, and the configured 1h0m0s would delete some", func(c *jetstream.StreamConfig) { c.MaxAge = 2 * time.Hour }},
		"kept for ever":   {"VITALS", "the configured 1h0m0s would delete some", func(c *jetstream.StreamConfig) { c.MaxAge = 0 }},
		"larger":          {"VITALS", "it holds 33554432 bytes, and the configured 16777216 are fewer", func(c *jetstream.StreamConfig) { c.MaxBytes *= 2 }},
		"number":          {"VITALS", "messages' limit is 1000, not -1", func(c *jetstream.StreamConfig) { c.MaxMsgs = 1000 }},
		"per subject":     {"VITALS", "messages' limit per subject is 1, not -1", func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 1 }},
		"message size":    {"VITALS", "message size is 100, not 8192", func(c *jetstream.StreamConfig) { c.MaxMsgSize = 100 }},
		"no direct get":   {"VITALS", "direct get is false", func(c *jetstream.StreamConfig) { c.AllowDirect = false }},
		"no answer":       {"VITALS", "acknowledgement off is true", func(c *jetstream.StreamConfig) { c.NoAck = true }},
		"sources":         {"VITALS", "number of sources is 1", func(c *jetstream.StreamConfig) { c.Sources = []*jetstream.StreamSource{{Name: "AUDIT"}} }},
		"persisted later": {"VITALS", "persistence is ", func(c *jetstream.StreamConfig) { c.PersistMode = jetstream.AsyncPersistMode }},
		"rejections":      {"REJECTIONS", "subjects is rejected.*.*", func(c *jetstream.StreamConfig) { c.Subjects = []string{"rejected.*.*"} }},
		"audit":           {"AUDIT", "discard is DiscardNew, not DiscardOld", func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardNew }},
		"registry":        {"KV_devices", "storage is Memory, not File", func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }},
		"larger registry": {"KV_devices", "it holds 2097152 bytes", func(c *jetstream.StreamConfig) { c.MaxBytes *= 2 }},
	} {
		t.Run(name, func(t *testing.T) {
			good := d.config(t, c.stream)
			changed := d.config(t, c.stream)
			c.change(&changed)
			d.replace(t, changed)
			_, err := egress.Ensure(soon(t), d.nc, depotLayout())
			for _, part := range []string{"stream " + c.stream, c.says, "`nats stream edit " + c.stream + "`"} {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("the error is %v, want it to say %q", err, part)
				}
			}
			if now := d.config(t, c.stream); now.MaxBytes != changed.MaxBytes || now.Discard != changed.Discard {
				t.Error("the stream was changed all the same")
			}
			d.replace(t, good)
			d.ensure(t, depotLayout())
		})
	}
}

func (d *depot) replace(t testing.TB, c jetstream.StreamConfig) {
	t.Helper()
	need(t, d.js.DeleteStream(soon(t), c.Name))
	_, err := d.js.CreateStream(soon(t), c)
	need(t, err)
}

func TestRaisedLimitsGrow(t *testing.T) {
	d := openDepot(t)
	d.ensure(t, depotLayout())
	if a := publish(t, d.store(t, 10*time.Second), record(1)); a.err != nil {
		t.Fatal(a.err)
	}
	l := depotLayout()
	l.Vitals = egress.Limits{MaxBytes: 32 << 20, MaxAge: 2 * time.Hour}
	l.Audit.MaxAge = 0
	l.Devices.MaxBytes = 2 << 20
	d.ensure(t, l)
	if c := d.config(t, "VITALS"); c.MaxBytes != 32<<20 || c.MaxAge != 2*time.Hour || c.SubjectTransform == nil {
		t.Errorf("VITALS is %+v", c)
	}
	if c := d.config(t, "AUDIT"); c.MaxAge != 0 {
		t.Errorf("AUDIT keeps messages %v, want for ever", c.MaxAge)
	}
	if c := d.config(t, "KV_devices"); c.MaxBytes != 2<<20 {
		t.Errorf("the bucket may have %d bytes", c.MaxBytes)
	}
	if n := d.messages(t, "VITALS"); n != 1 {
		t.Errorf("VITALS has %d readings, want the 1 from before", n)
	}
}

// TestARegistryThatForgetsIsMended takes a bucket made with a time to live.
func TestARegistryThatForgetsIsMended(t *testing.T) {
	d := openDepot(t)
	d.ensure(t, depotLayout())
	forgetful := d.config(t, "KV_devices")
	forgetful.MaxAge = time.Hour
	d.replace(t, forgetful)
	d.ensure(t, depotLayout())
	if c := d.config(t, "KV_devices"); c.MaxAge != 0 {
		t.Errorf("devices are forgotten after %v", c.MaxAge)
	}
}

func TestStreamsTooLargeForTheServer(t *testing.T) {
	l := depotLayout()
	e, err := engine.Open(soon(t), engine.Options{
		Dir: t.TempDir(), Listen: "127.0.0.1:0", Sync: "1m", MaxStore: l.Total() - 1, Log: zerolog.Nop(),
	})
	need(t, err)
	t.Cleanup(func() { need(t, e.Close()) })
	_, err = egress.Ensure(soon(t), e.Conn(), l)
	if err == nil || !strings.Contains(err.Error(), "lower store.*.max_bytes") {
		t.Errorf("the error is %v, want one that says what to lower", err)
	}
}

// serverWith runs a nats-server on a configuration, and connects to it.
func serverWith(t *testing.T, config string) *nats.Conn {
	t.Helper()
	o := &server.Options{}
	need(t, o.ProcessConfigString(config))
	o.Host, o.Port, o.NoSigs, o.StoreDir = "127.0.0.1", server.RANDOM_PORT, true, t.TempDir()
	s, err := server.NewServer(o)
	need(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatal("nats-server does not start")
	}
	nc, err := nats.Connect(s.ClientURL(), nats.UserInfo("gate", "password"))
	need(t, err)
	t.Cleanup(nc.Close)
	return nc
}

func TestStreamsTooLargeForTheAccount(t *testing.T) {
	nc := serverWith(t, `jetstream: {max_file: 1GB}
accounts { GATE { jetstream: {max_file: 40MB}, users: [{user: gate, password: password}] } }`)
	_, err := egress.Ensure(soon(t), nc, depotLayout())
	if err == nil || !strings.Contains(err.Error(), "the account's JetStream may hold") || !strings.Contains(err.Error(), "lower store.*.max_bytes") {
		t.Errorf("the error is %v, want one that compares the two", err)
	}
}

func TestNoJetStream(t *testing.T) {
	for name, config := range map[string]string{
		"server":  `accounts { GATE { users: [{user: gate, password: password}] } }`,
		"account": "jetstream: enabled\n" + `accounts { GATE { users: [{user: gate, password: password}] } }`,
	} {
		_, err := egress.Ensure(soon(t), serverWith(t, config), depotLayout())
		if err == nil || !strings.Contains(err.Error(), "no JetStream for this account: enable it") {
			t.Errorf("%s without JetStream: %v", name, err)
		}
	}
}

// TestWhatTakesNothingAwayIsApplied turns republish off and on, and raises the
// duplicate window, which JetStream fills only at its next start.
func TestWhatTakesNothingAwayIsApplied(t *testing.T) {
	d := openDepot(t)
	l := depotLayout()
	d.ensure(t, l)
	l.Republish = !l.Republish
	d.ensure(t, l)
	if on := d.config(t, "VITALS").RePublish != nil; on != bool(l.Republish) {
		t.Errorf("republish is on: %v, want %v", on, l.Republish)
	}
	l.DuplicateWindow *= 2
	if _, err := egress.Ensure(soon(t), d.nc, l); !errors.Is(err, egress.ErrWindowRaised) {
		t.Errorf("raising the window: %v", err)
	}
	d.ensure(t, l)
	if w := d.config(t, "VITALS").Duplicates; w != l.DuplicateWindow {
		t.Errorf("the window is %v, want %v", w, l.DuplicateWindow)
	}
}
