package bridge_test

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/nats-io/nats.go"

	"github.com/pulsegate/pulsegate/bridge"
	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
	"github.com/pulsegate/pulsegate/bridge/presence"
)

// watchful makes a gate impatient.
func watchful(c *config.Config) {
	c.Presence.SilentAfter = config.Duration(time.Second)
	c.Presence.RefusedAfter = config.Duration(200 * time.Millisecond)
	c.Limits.LockoutAfter = 1_000_000
}

func announced(t *testing.T, sub *nats.Subscription) presence.Event {
	t.Helper()
	m := receive(t, sub)
	var e presence.Event
	must(t, json.Unmarshal(m.Data, &e))
	if m.Subject != "audit.presence."+e.Condition+"."+e.Device || strings.Contains(string(m.Data), marker) {
		t.Errorf("on %s: %s", m.Subject, m.Data)
	}
	return e
}

// expect receives an event and compares it.
func expect(t *testing.T, sub *nats.Subscription, condition presence.Condition, state, device string) presence.Event {
	t.Helper()
	e := announced(t, sub)
	if e.Condition != condition.String() || e.State != state || e.Device != device {
		t.Fatalf("announced: %+v, want %v %s of %s", e, condition, state, device)
	}
	return e
}

// announcements returns what AUDIT holds of devices, as condition, state, device.
func (s *system) announcements(t *testing.T) []string {
	t.Helper()
	reader, err := egress.NewReader(s.user(t, "security"), egress.StreamAudit, "audit.presence.>")
	must(t, err)
	var all []string
	_, err = reader.Read(t.Context(), 1, func(m egress.Stored) error {
		var e presence.Event
		all = append(all, "")
		err := json.Unmarshal(m.Data, &e)
		all[len(all)-1] = e.Condition + " " + e.State + " " + e.Device
		return err
	})
	must(t, err)
	return all
}

func accepts(t *testing.T, c *mqttest.Client, d *device) {
	t.Helper()
	c.Send(mqttest.Publish(1, 1, d.Topic, d.sign(t)))
	if ack := c.Expect(packets.Puback); ack.ReasonCode != 0 {
		t.Fatalf("PUBACK %#x", ack.ReasonCode)
	}
}

// onlyAnnounced makes sure that AUDIT holds no other announcements, and that no
// more were shown.
func (s *system) onlyAnnounced(t *testing.T, events *nats.Subscription, want ...string) {
	t.Helper()
	if got := s.announcements(t); !slices.Equal(got, want) {
		t.Errorf("the audit holds %q", got)
	}
	if n, _, err := events.Pending(); n != 0 || err != nil {
		t.Errorf("%d more were shown (%v)", n, err)
	}
}

// watchfulReplicas starts two gates on one NATS.
func watchfulReplicas(t *testing.T) (a *system, ofA config.Config, b *system) {
	t.Helper()
	n := newCluster(t)
	a = startAt(t, n, func(c *config.Config) { watchful(c); ofA = *c })
	b = startAt(t, n, func(c *config.Config) {
		watchful(c)
		c.Keys.MasterFile = filepath.Join(a.dir, bridge.MasterKeyFile)
	})
	return a, ofA, b
}

// TestSilenceIsAnnouncedOnce has two gates watch over a device, of which one is
// restarted while it is silent.
func TestSilenceIsAnnouncedOnce(t *testing.T) {
	a, first, b := watchfulReplicas(t)
	events := b.subscribe(t, "security", "audit.presence.>")
	d := a.enrol(t, "w-0001", "p-0001")
	if e := expect(t, events, presence.Silent, presence.Begun, "w-0001"); !e.LastHeard.IsZero() || e.LastSeq != nil {
		t.Errorf("of one who was never heard: %+v", e)
	}
	silent := `pulsegate_devices{state="silent"}`
	for _, s := range []*system{a, b} {
		until(t, "both gates know", func() bool { return s.counted(t, silent) == 1 })
	}

	must(t, a.Close(t.Context()))
	a = start(t, first)
	until(t, "the new gate knows", func() bool { return a.counted(t, silent) == 1 })
	c := b.dial(t, d, 5)
	d.seq = 41
	accepts(t, c, d)
	d.seq = 44
	accepts(t, c, d)
	expect(t, events, presence.Silent, presence.Over, "w-0001")
	if e := expect(t, events, presence.Silent, presence.Begun, "w-0001"); e.LastSeq == nil || *e.LastSeq != 45 || e.LastHeard.IsZero() {
		t.Errorf("of one who was heard: %+v", e)
	}
	if n := b.counted(t, "pulsegate_sequence_gaps_total"); n != 2 {
		t.Errorf("%d numbers are missing, want 2", n)
	}

	must(t, d.revoke(t, b))
	expect(t, events, presence.Silent, presence.Over, "w-0001")
	for _, s := range []*system{a, b} {
		until(t, "both gates forget it", func() bool { return s.counted(t, silent) == 0 })
	}
	b.onlyAnnounced(t, events, "silent begun w-0001", "silent over w-0001", "silent begun w-0001", "silent over w-0001")
	last, err := b.user(t, "security").Request("$JS.API.DIRECT.GET.AUDIT.audit.presence.silent.w-0001", nil, mqttest.Patience)
	must(t, err)
	if !strings.Contains(string(last.Data), `"state":"over"`) {
		t.Errorf("the last event is %s", last.Data)
	}
}

func (d *device) revoke(t *testing.T, s *system) error {
	_, err := s.Registry().Revoke(t.Context(), "device", d.DeviceID, "ann")
	return err
}

// refusedUntil sends what is refused until something is announced.
func refusedUntil(t *testing.T, events *nats.Subscription, c *mqttest.Client, topic string, payload func() []byte) {
	t.Helper()
	until(t, "something is announced", func() bool {
		c.Send(mqttest.Publish(1, 1, topic, payload()))
		if ack := c.Expect(packets.Puback); ack.ReasonCode == 0 {
			t.Fatal("it is accepted")
		}
		n, _, err := events.Pending()
		must(t, err)
		return n > 0
	})
}

// TestOnlyRefusedIsAnnounced tells of a device whose key is wrong, and of one
// that forges another's readings, but not of that other.
func TestOnlyRefusedIsAnnounced(t *testing.T) {
	config := small(t)
	watchful(&config)
	config.Presence.SilentAfter = 0
	s := start(t, config)
	events := s.subscribe(t, "security", "audit.presence.>")
	d, forger := s.enrol(t, "w-0001", "p-0001"), s.enrol(t, "w-0666", "p-0666")
	right, f := s.dial(t, d, 5), s.dial(t, forger, 5)

	refusedUntil(t, events, f, d.Topic, func() []byte { return tampered(d.sign(t)) })
	if e := expect(t, events, presence.Refused, presence.Begun, "w-0666"); e.Outcome != "bad_signature" || e.Count < 5 {
		t.Errorf("announced: %+v", e)
	}
	mistaken := &device{Credentials: d.Credentials}
	mistaken.Key = forger.Key
	refusedUntil(t, events, right, d.Topic, func() []byte { return mistaken.sign(t) })
	expect(t, events, presence.Refused, presence.Begun, "w-0001")
	if n := s.counted(t, `pulsegate_devices{state="refused"}`); n != 2 {
		t.Errorf("%d devices are refused, want 2", n)
	}
	accepts(t, right, d)
	expect(t, events, presence.Refused, presence.Over, "w-0001")
	accepts(t, f, forger)
	expect(t, events, presence.Refused, presence.Over, "w-0666")
}

// TestGatewaysReadings tells of a device that a gateway carries by what has the
// device's signature, and not by what a gateway makes up.
func TestGatewaysReadings(t *testing.T) {
	config := small(t)
	watchful(&config)
	config.Presence.SilentAfter = 0
	s := start(t, config)
	events := s.subscribe(t, "security", "audit.presence.>")
	d, other := s.enrol(t, "w-0001", "p-0001"), s.enrol(t, "w-0002", "p-0002")
	g := s.gateway(t, "g-1")
	for range 50 {
		g.Send(mqttest.Publish(1, 1, other.Topic, tampered(other.sign(t))))
		g.Expect(packets.Puback)
	}
	refusedUntil(t, events, g, d.Topic, func() []byte { return d.sign(t, at(time.Hour)) })
	if e := expect(t, events, presence.Refused, presence.Begun, "w-0001"); e.Outcome != "future" {
		t.Errorf("announced: %+v", e)
	}
	g.Send(mqttest.Publish(1, 1, other.Topic, tampered(other.sign(t))))
	g.Expect(packets.Puback)
	accepts(t, g, d)
	expect(t, events, presence.Refused, presence.Over, "w-0001")
	if got := s.announcements(t); len(got) != 2 {
		t.Errorf("the audit holds %q", got)
	}
}
