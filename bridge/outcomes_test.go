package bridge_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
	"github.com/pulsegate/pulsegate/bridge/registry"
)

func TestAReadingArrivesByteForByte(t *testing.T) {
	s := start(t, small(t))
	d := s.enrol(t, "w-0001", "p-0001")
	triage := s.subscribe(t, "consumer", "vitals.>")
	var sent [][]byte
	for _, version := range []byte{4, 5} {
		c := s.dial(t, d, version)
		for _, qos := range []byte{0, 1, 2} {
			payload := d.sign(t)
			sent = append(sent, payload)
			pk := mqttest.Publish(uint16(qos), qos, d.Topic, payload)
			pk.Properties.User = []packets.UserProperty{{Key: "Nats-Msg-Id", Val: "forged"}}
			c.Send(pk)
			switch qos {
			case 1:
				c.ExpectBytes(0x40, 2, 0, 1)
			case 2:
				c.ExpectBytes(0x50, 2, 0, 2)
				c.Send(mqttest.Pubrel(2))
				c.ExpectBytes(0x70, 2, 0, 2)
			}
		}
	}
	for i := range sent { // each once, in their order: a second copy would be in between
		m := receive(t, triage)
		if string(m.Data) != string(sent[i]) || m.Subject != "vitals.live.p-0001.w-0001" {
			t.Fatalf("%s: %s in place of %s", m.Subject, m.Data, sent[i])
		}
	}
	stored := s.stored(t)
	if len(stored) != len(sent) {
		t.Fatalf("%d are stored, want %d", len(stored), len(sent))
	}
	for i, m := range stored {
		checkStored(t, m, d, sent[i])
	}
}

func TestEveryOutcomeFromARealClient(t *testing.T) {
	s := start(t, small(t))
	d, other := s.enrol(t, "w-0001", "p-0001"), s.enrol(t, "w-0002", "p-0002")
	events := s.subscribe(t, "security", "rejected.>")
	triage := s.subscribe(t, "consumer", "vitals.>")
	v5, old := s.dial(t, d, 5), d.sign(t)
	v5.Send(mqttest.Publish(1, 1, d.Topic, old))
	v5.ExpectBytes(0x40, 2, 0, 1)

	forged := func(payload []byte) []byte {
		last := len(payload) - 3
		digit := byte('0')
		if payload[last] == digit {
			digit = '1'
		}
		payload[last] = digit
		return payload
	}
	for _, run := range []struct {
		name, outcome, device string
		topic                 string
		payload               []byte
		retain                bool
		code                  byte
		reason                string
	}{
		{"bytes that are no reading", "malformed", "w-0001", d.Topic, []byte(marker), false, 0x99, ""},
		{"nothing", "malformed", "w-0001", d.Topic, nil, false, 0x99, ""},
		{"too large", "malformed", "w-0001", d.Topic, []byte(strings.Repeat("x", 4097)), false, 0x99, ""},
		{"another topic", "malformed", "_", "wearables/w-0001/status", d.sign(t), false, 0x90, ""},
		{"a topic of the broker", "malformed", "_", "$SYS/broker", d.sign(t), false, 0x90, ""},
		{"no such device", "unknown_device", "_", "wearables/w-9999/vitals", d.sign(t), false, 0x87, ""},
		{"a forged signature", "bad_signature", "w-0001", d.Topic, forged(d.sign(t)), false, 0x87, ""},
		{"a value tampered with", "bad_signature", "w-0001", d.Topic, tampered(d.sign(t)), false, 0x87, ""},
		{"another's topic", "bad_signature", "w-0002", other.Topic, d.sign(t), false, 0x87, ""},
		{"out of range", "invalid_reading", "w-0001", d.Topic, d.sign(t, `"spo2":101`), false, 0x99, "spo2"},
		{"another's reading", "wrong_device", "w-0002", other.Topic, other.sign(t), false, 0x87, "connection"},
		{"another device within", "wrong_device", "w-0001", d.Topic, d.sign(t, `"device_id":"w-0002"`), false, 0x87, "device_id"},
		{"another patient", "wrong_patient", "w-0001", d.Topic, d.sign(t, `"patient_id":"p-0002"`), false, 0x87, "patient_id"},
		{"too old", "stale", "w-0001", d.Topic, d.sign(t, at(-80*time.Hour)), false, 0x83, "ago"},
		{"too early", "future", "w-0001", d.Topic, d.sign(t, at(time.Minute)), false, 0x83, "from now"},
		{"a copy", "duplicate", "w-0001", d.Topic, old, false, 0x00, ""},
		{"retained", "retained", "w-0001", d.Topic, d.sign(t), true, 0x87, ""},
	} {
		t.Run(run.name, func(t *testing.T) {
			pk := mqttest.Publish(7, 1, run.topic, run.payload)
			pk.FixedHeader.Retain = run.retain
			v5.Send(pk)
			ack := v5.Expect(packets.Puback)
			if ack.ReasonCode != run.code || (ack.Properties.ReasonString == "") != (run.reason == "") || !strings.Contains(ack.Properties.ReasonString, run.reason) {
				t.Errorf("PUBACK %#x %q, want %#x with %q", ack.ReasonCode, ack.Properties.ReasonString, run.code, run.reason)
			}
			r := receiveRejection(t, events)
			hash := sha256.Sum256(run.payload)
			if r.subject != "rejected."+run.outcome+"."+run.device || r.Outcome != run.outcome || r.Conn != "w-0001" || r.Remote == "" ||
				r.SHA256 != hex.EncodeToString(hash[:]) || r.Reason == "" || time.Since(r.Time) > time.Minute {
				t.Errorf("rejection %+v", r)
			}
			if device := strings.TrimSuffix(run.device, "_"); r.Device != device {
				t.Errorf("device_id %q, want %q", r.Device, device)
			}
		})
	}

	t.Run("will", func(t *testing.T) {
		c := mqttest.Dial(t, s.MQTT(), 5)
		if ack := c.Connect(d.DeviceID, mqttest.Login(d.Username, d.Password), mqttest.Will(d.Topic, d.sign(t))); ack.ReasonCode != 0x87 {
			t.Errorf("CONNACK %#x, want 0x87", ack.ReasonCode)
		}
		c.ExpectEnd()
		if r := receiveRejection(t, events); r.subject != "rejected.will.w-0001" {
			t.Errorf("rejection %+v", r)
		}
	})

	v3 := s.dial(t, d, 4) // to which all of it looks alike
	v3.Send(mqttest.Publish(7, 1, d.Topic, tampered(d.sign(t))))
	v3.ExpectBytes(0x40, 2, 0, 7)

	last := d.sign(t)
	v3.Send(mqttest.Publish(8, 1, d.Topic, last))
	v3.ExpectBytes(0x40, 2, 0, 8)
	for _, want := range [][]byte{old, last} {
		if m := receive(t, triage); string(m.Data) != string(want) {
			t.Errorf("triage saw %s", m.Data)
		}
	}
}

func TestWhoMayConnect(t *testing.T) {
	s := start(t, small(t))
	d, other := s.enrol(t, "w-0001", "p-0001"), s.enrol(t, "w-0002", "p-0002")
	audit := s.subscribe(t, "security", "audit.login.>")
	s.journal.hide("a wrong password")
	long := strings.Repeat("n", 1500)
	for name, run := range map[string]struct {
		id, user, password string
		codes              [2]byte
	}{
		"wrong password":      {d.DeviceID, d.Username, "a wrong password", [2]byte{4, 0x86}},
		"another's password":  {d.DeviceID, d.Username, other.Password, [2]byte{4, 0x86}},
		"the signing key":     {d.DeviceID, d.Username, d.Key, [2]byte{4, 0x86}},
		"no such device":      {"w-9999", "w-9999", d.Password, [2]byte{4, 0x86}},
		"a very long name":    {long, long, d.Password, [2]byte{4, 0x86}},
		"another's client id": {other.DeviceID, d.Username, d.Password, [2]byte{5, 0x87}},
	} {
		for i, version := range []byte{4, 5} {
			c := mqttest.Dial(t, s.MQTT(), version)
			if ack := c.Connect(run.id, mqttest.Login(run.user, run.password)); ack.ReasonCode != run.codes[i] {
				t.Errorf("%s, version %d: CONNACK %#x, want %#x", name, version, ack.ReasonCode, run.codes[i])
			}
			c.ExpectEnd()
			m := receive(t, audit)
			var event map[string]string
			must(t, json.Unmarshal(m.Data, &event))
			if m.Subject != "audit.login.refused" || event["client_id"] != run.id[:min(64, len(run.id))] || event["remote"] == "" || event["reason"] == "" {
				t.Errorf("%s: event %s", name, m.Data)
			}
			if strings.Contains(string(m.Data), run.password) {
				t.Errorf("%s: the event holds the password", name)
			}
		}
	}
}

func TestADeviceIsServedFromAddToRemove(t *testing.T) {
	s := start(t, small(t))
	d := s.enrol(t, "w-0001", "p-0001")
	c := s.dial(t, d, 5)
	_, err := s.Registry().Remove(t.Context(), registry.KindDevice, d.DeviceID)
	must(t, err)
	if bye := c.Expect(packets.Disconnect); bye.ReasonCode != 0x98 {
		t.Errorf("DISCONNECT %#x, want 0x98", bye.ReasonCode)
	}
	again := s.enrol(t, "w-0001", "p-0001")
	stolen := mqttest.Dial(t, s.MQTT(), 5)
	if ack := stolen.Connect(d.DeviceID, mqttest.Login(d.Username, d.Password)); ack.ReasonCode != 0x86 {
		t.Errorf("the removed device's password is good again: CONNACK %#x", ack.ReasonCode)
	}
	fresh := s.dial(t, again, 5)
	fresh.Send(mqttest.Publish(1, 1, d.Topic, d.sign(t)), mqttest.Publish(2, 1, d.Topic, again.sign(t)))
	if ack := fresh.Expect(packets.Puback); ack.ReasonCode != 0x87 {
		t.Errorf("the removed device's key is good again: PUBACK %#x", ack.ReasonCode)
	}
	fresh.ExpectBytes(0x40, 2, 0, 2)
}

// TestAPacketTooLargeToReadLeavesATrace sends more than Mochi reads: nothing can
// acknowledge it, but the security officer hears of it.
func TestAPacketTooLargeToReadLeavesATrace(t *testing.T) {
	s := start(t, small(t))
	d := s.enrol(t, "w-0001", "p-0001")
	events := s.subscribe(t, "security", "rejected.>")
	c := s.dial(t, d, 4)
	_ = c.TrySend(mqttest.Publish(1, 1, d.Topic, make([]byte, 17<<10)))
	c.ExpectEnd()
	if m := receive(t, events); m.Subject != "rejected.malformed.w-0001" {
		t.Errorf("%s: %s", m.Subject, m.Data)
	}
}
