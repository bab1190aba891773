//go:build linux

package faults

import (
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/pulsegate/pulsegate/bridge/reading"
	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/device-sim/fleet"
	"github.com/pulsegate/pulsegate/device-sim/ledger"
)

// probe is an impatient honest device, which shows how soon a gate is normal
// again: those of the fleet wait longer and longer before they connect.
type probe struct {
	*ward
	broker      string
	credentials registry.Credentials
	key         []byte
	book        *ledger.Book
	client      mqtt.Client
	seq         uint64
}

const (
	// prompt is within what time a normal gate acknowledges a new reading.
	prompt = 100 * time.Millisecond
	// pause is that of the probe before it tries again.
	pause = 20 * time.Millisecond
)

func (w *ward) newProbe(broker string, c registry.Credentials) *probe {
	w.t.Helper()
	key, err := fleet.Key(c)
	must(w.t, err)
	book, err := w.books.Book(c.DeviceID)
	must(w.t, err)
	return &probe{ward: w, broker: broker, credentials: c, key: key, book: book}
}

// untilNormal measures and sends, one reading after the other, until one is
// acknowledged promptly; it returns when that was measured.
func (p *probe) untilNormal() time.Time {
	p.t.Helper()
	defer p.hangUp()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		measured := time.Now()
		p.deliver(end)
		if time.Since(measured) < prompt {
			return measured
		}
	}
	p.t.Fatalf("no reading was acknowledged within %v", prompt)
	return time.Time{}
}

// deliver keeps a reading until it is acknowledged, as every device does.
func (p *probe) deliver(end time.Time) {
	p.t.Helper()
	p.seq++
	payload, err := reading.Sign(p.key, fleet.Sample{
		Device: p.credentials.DeviceID, Patient: p.credentials.PatientID, Timestamp: time.Now(), Seq: p.seq, SpO2: 97, HeartRate: 72,
	}.Text())
	must(p.t, err)
	ref, err := p.book.Sent(ledger.Message{
		Device: p.credentials.DeviceID, Patient: p.credentials.PatientID, Topic: p.credentials.Topic, Payload: payload, QoS: 1,
	}, time.Now())
	must(p.t, err)
	for !p.attempt(payload) {
		if time.Now().After(end) {
			p.t.Fatal("the probe's reading is not acknowledged")
		}
		time.Sleep(pause) // nobody tells when the gate lets it in
		must(p.t, p.book.Again(ref, time.Now()))
	}
	must(p.t, p.book.Acknowledged(ref, time.Now()))
}

// attempt sends once, connecting if need be, and says whether it was answered.
func (p *probe) attempt(payload []byte) bool {
	if p.client == nil || !p.client.IsConnectionOpen() {
		client := mqtt.NewClient(fleet.ClientOptions(p.broker, p.credentials))
		if token := client.Connect(); !token.WaitTimeout(patience) || token.Error() != nil {
			return false
		}
		p.client = client
	}
	token := p.client.Publish(p.credentials.Topic, 1, false, payload)
	if !token.WaitTimeout(patience) || token.Error() != nil {
		p.hangUp()
		return false
	}
	return true
}

func (p *probe) hangUp() {
	if p.client != nil {
		p.client.Disconnect(0)
		p.client = nil
	}
}
