package bridge_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
	"github.com/pulsegate/pulsegate/device-sim/load"
)

// hourAgo is an hour of readings, one a second, that ended an hour ago.
func hourAgo(t *testing.T, d *device) [][]byte {
	t.Helper()
	var payloads [][]byte
	for second := range 3600 {
		payloads = append(payloads, d.sign(t, at(-2*time.Hour+time.Duration(second)*time.Second)))
	}
	return payloads
}

// deliver sends all of it, and returns when all is acknowledged.
func (s *system) deliver(t *testing.T, d *device, payloads [][]byte) {
	t.Helper()
	_, err := load.Closed(t.Context(), load.Options{
		Broker: s.MQTT(), InFlight: 64, Lanes: []load.Lane{{Credentials: d.Credentials, Payloads: payloads}},
	})
	must(t, err)
}

// counted is the sum of a metric over its labels.
func (s *system) counted(t *testing.T, name string) int {
	t.Helper()
	_, text := s.page(t, "/metrics")
	found := regexp.MustCompile(`(?m)^`+regexp.QuoteMeta(name)+`(?:\{.*\})? (\S+)$`).FindAllStringSubmatch(text, -1)
	if found == nil {
		t.Fatalf("there is no metric %s", name)
	}
	sum := 0.0
	for _, series := range found {
		n, err := strconv.ParseFloat(series[1], 64)
		must(t, err)
		sum += n
	}
	return int(sum)
}

// onceEach makes sure that the stream holds just these payloads, each once, on
// the subjects of a kind.
func onceEach(t *testing.T, all []egress.Stored, kind string, d *device, payloads [][]byte) {
	t.Helper()
	held := map[string]int{}
	for _, m := range all {
		if strings.HasPrefix(m.Subject, "vitals."+kind+"."+d.PatientID+"."+d.DeviceID) {
			held[string(m.Data)]++
		}
	}
	for _, p := range payloads {
		if held[string(p)] != 1 {
			t.Fatalf("%s: stored %d times: %s", kind, held[string(p)], p)
		}
	}
	if len(held) != len(payloads) {
		t.Errorf("%s: %d different readings are stored, want %d", kind, len(held), len(payloads))
	}
}

// answer publishes at QoS 1 and returns the reason code of the PUBACK.
func answer(t *testing.T, c *mqttest.Client, id uint16, topic string, payload []byte) byte {
	t.Helper()
	c.Send(mqttest.Publish(id, 1, topic, payload))
	ack := c.Expect(packets.Puback)
	if ack.PacketID != id {
		t.Errorf("PUBACK of %d, want %d", ack.PacketID, id)
	}
	return ack.ReasonCode
}

// TestADeviceThatBufferedAnHour sends an hour of old readings at once; then an
// attacker who recorded them replays them, to the same gate and to a new one.
func TestADeviceThatBufferedAnHour(t *testing.T) {
	c := small(t)
	c.NATS.Sync = config.Sync(time.Minute)
	// By default the burst is for one such hour at once, not for its replay too.
	c.Limits.DeviceBurst = 10_000
	s := start(t, c)
	d := s.enrol(t, "w-0001", "p-0001")
	live := s.subscribe(t, "consumer", "vitals.live.>")
	hour := hourAgo(t, d)
	s.deliver(t, d, hour)
	onceEach(t, s.stored(t), "late", d, hour)
	lookups := s.counted(t, "pulsegate_late_lookups_total")
	if lookups > 61 {
		t.Errorf("the hour cost %d look-ups, more than one a minute", lookups)
	}

	s.deliver(t, d, hour)
	if again := s.counted(t, "pulsegate_late_lookups_total"); again != lookups {
		t.Errorf("its replay cost %d look-ups", again-lookups)
	}
	must(t, s.Close(t.Context()))
	s = start(t, c)
	s.deliver(t, d, hour)
	if lookups := s.counted(t, "pulsegate_late_lookups_total"); lookups > 61 {
		t.Errorf("the replay after a restart cost %d look-ups, more than one a minute", lookups)
	}
	onceEach(t, s.stored(t), "late", d, hour)
	if n, _, err := live.Pending(); n != 0 || err != nil {
		t.Errorf("triage was shown %d late readings as current (%v)", n, err)
	}
}

// TestLateAcrossChanges lets a device measure, and then be rotated and given to
// another patient before it can send.
func TestLateAcrossChanges(t *testing.T) {
	s := start(t, small(t))
	d := s.enrol(t, "w-0001", "p-0001")
	triage := s.subscribe(t, "consumer", "vitals.>")
	before := [][]byte{d.sign(t, at(-2*time.Minute)), d.sign(t, at(-time.Second)), d.sign(t)}
	_, err := s.Registry().Assign(t.Context(), d.DeviceID, "p-0002", "ann")
	must(t, err)
	_, err = s.Registry().Rotate(t.Context(), d.DeviceID, 0, "ann")
	must(t, err)
	now := &device{seq: 100}
	now.Credentials, err = s.Registry().Credentials(d.DeviceID)
	must(t, err)
	s.journal.hide(now.Password, now.Key)

	after := now.sign(t)
	client := s.dial(t, now, 5)
	for i, p := range before {
		if code := answer(t, client, uint16(i+1), d.Topic, p); code != 0 {
			t.Errorf("reading %d: %#x", i, code)
		}
	}
	for _, run := range []struct {
		name    string
		payload []byte
		code    byte
	}{
		{"the former patient, measured after", now.sign(t, `"patient_id":"p-0001"`), 0x87},
		{"the former key, measured after", d.sign(t, `"patient_id":"p-0002"`), 0x87},
		{"the new patient, measured before", now.sign(t, at(-2*time.Minute)), 0x87},
		{"a copy of what was late", before[0], 0},
		{"the present", after, 0},
	} {
		if code := answer(t, client, 9, d.Topic, run.payload); code != run.code {
			t.Errorf("%s: %#x, want %#x", run.name, code, run.code)
		}
	}
	all := s.stored(t)
	onceEach(t, all, "late", d, before)
	onceEach(t, all, "live", now, [][]byte{after})
	if len(all) != 4 {
		t.Errorf("%d readings are stored, want 4", len(all))
	}
	for _, want := range append(before, after) {
		if m := receive(t, triage); string(m.Data) != string(want) {
			t.Errorf("shown on %s: %s", m.Subject, m.Data)
		}
	}
	minute := time.Now().Add(-2 * time.Minute).UTC().Format("200601021504")
	earlier := time.Now().Add(-3 * time.Minute).UTC().Format("200601021504")
	if got := all[0].Subject; got != "vitals.late.p-0001.w-0001."+minute && got != "vitals.late.p-0001.w-0001."+earlier {
		t.Errorf("it is stored on %s", got)
	}
}

// TestLateRefused stores nothing that is old where the gate is told so.
func TestLateRefused(t *testing.T) {
	c := small(t)
	c.Freshness.Late = config.LateRefuse
	s := start(t, c)
	d := s.enrol(t, "w-0001", "p-0001")
	events := s.subscribe(t, "security", "rejected.>")
	client := s.dial(t, d, 5)
	if code := answer(t, client, 1, d.Topic, d.sign(t, at(-2*time.Minute))); code != 0x83 {
		t.Errorf("PUBACK %#x, want 0x83", code)
	}
	if r := receiveRejection(t, events); r.Outcome != "stale" {
		t.Errorf("rejection %+v", r)
	}
	if all := s.stored(t); len(all) != 0 {
		t.Errorf("stored: %s", all[0].Data)
	}
}

// TestTwoReplicasAndLateCopies lets two gates take the same late readings, and
// live ones that have just become late, at once.
func TestTwoReplicasAndLateCopies(t *testing.T) {
	a, b, _ := replicas(t)
	var copies sync.WaitGroup
	payloads := map[*device][][]byte{}
	for n := range 8 {
		d := a.enrol(t, fmt.Sprintf("w-%04d", n), fmt.Sprintf("p-%04d", n))
		for i := range 100 {
			payloads[d] = append(payloads[d], d.sign(t, at(-61*time.Second-time.Duration(i)*time.Second)))
		}
		for _, one := range []*system{a, b} {
			copies.Go(func() { one.deliver(t, d, payloads[d]) })
		}
	}
	copies.Wait()
	all := a.stored(t)
	for d, sent := range payloads {
		onceEach(t, all, "late", d, sent)
	}
	if len(all) != 800 {
		t.Errorf("%d are stored, want 800", len(all))
	}
}
