//go:build linux

package faults

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/bridge/verify"
	"github.com/pulsegate/pulsegate/device-sim/attack"
	"github.com/pulsegate/pulsegate/device-sim/fleet"
	"github.com/pulsegate/pulsegate/device-sim/ledger"
)

// overheard is what the devices sent.
type overheard struct {
	mu  sync.Mutex
	all []captured
}

type captured struct {
	device  string
	payload []byte
	at      time.Time
}

// captureOf notes the time itself, since a device's clock may be slow.
func captureOf(s fleet.Sending) captured { return captured{s.Device, s.Payload, time.Now()} }

func (o *overheard) add(c captured) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = append(o.all, c)
}

// draw is one of the last few or of all, evenly: what was under way when
// something broke should come again often.
func (o *overheard) draw(random *rand.Rand) (captured, bool) {
	const few = 200
	o.mu.Lock()
	defer o.mu.Unlock()
	from := o.all
	if len(from) > few && random.IntN(2) == 0 {
		from = from[len(from)-few:]
	}
	if len(from) == 0 {
		return captured{}, false
	}
	return from[random.IntN(len(from))], true
}

// forge attacks the devices with forged and altered readings, by the password of
// a gateway: nothing but the signature speaks against them.
func (w *ward) forge(broker string, gateway registry.Credentials, targets []registry.Credentials) {
	w.t.Helper()
	stolen := gateway
	stolen.PatientID, stolen.Topic, stolen.Key = "p-"+gateway.DeviceID,
		strings.Replace(targets[0].Topic, targets[0].DeviceID, gateway.DeviceID, 1), strings.Repeat("5a", 32)
	attacks, err := attack.Select("forged-signature,tampered-value,tampered-patient,other-topic,unknown-device")
	must(w.t, err)
	a, err := attack.New(attack.Options{
		Broker: broker, Stolen: stolen, Targets: attack.Targets(targets), Capture: w.fleet,
		Attacks: attacks, Rate: 20, Seed: *seed, Ledger: w.books, Logger: zerolog.Nop(),
	})
	must(w.t, err)
	w.company.Go(func() {
		if _, err := a.Run(w.playing); err != nil {
			w.t.Errorf("the attacker: %v", err)
		}
	})
}

// replayer sends again what others sent, with the password of a gateway, which
// may bring the readings of every device.
type replayer struct {
	*ward
	broker  string
	gateway registry.Credentials
	topics  map[string]string
	book    *ledger.Book
	client  mqtt.Client
	// answered counts its acknowledgements, old those of what JetStream has
	// forgotten by then.
	answered, old *tally
}

func (w *ward) newReplayer(broker string, gateway registry.Credentials, devices []registry.Credentials) *replayer {
	w.t.Helper()
	r := &replayer{ward: w, broker: broker, gateway: gateway, topics: make(map[string]string), answered: newTally(), old: newTally()}
	for _, d := range devices {
		r.topics[d.DeviceID] = d.Topic
	}
	var err error
	r.book, err = w.books.Book("replayer." + gateway.DeviceID)
	must(w.t, err)
	return r
}

// awaitAnswers waits until so many more have been counted.
func (r *replayer) awaitAnswers(counted *tally, n int) {
	r.t.Helper()
	select {
	case <-counted.more(n):
	case <-time.After(patience):
		r.t.Fatalf("of %d more replays not all were acknowledged", n)
	}
}

// replay sends at random what was overheard, so often a second, until the load
// ends.
func (r *replayer) replay(random *rand.Rand, rate int) {
	r.company.Go(func() {
		defer r.hangUp()
		ticks := time.NewTicker(time.Second / time.Duration(rate))
		defer ticks.Stop()
		for {
			select {
			case <-r.playing.Done():
				return
			case <-ticks.C:
			}
			if c, ok := r.overheard.draw(random); ok {
				r.send(c)
			}
		}
	})
}

// copy sends what the channel yields at once, until the load ends.
func (r *replayer) copy(from <-chan captured) {
	r.company.Go(func() {
		defer r.hangUp()
		for {
			select {
			case <-r.playing.Done():
				return
			case c := <-from:
				r.send(c)
			}
		}
	})
}

// send enters the attempt into the ledger first: of what is stored, nothing may
// be missing there. It is tried once.
func (r *replayer) send(c captured) {
	if !r.connected() {
		return
	}
	ref, err := r.book.Sent(ledger.Message{
		Device: c.device, Topic: r.topics[c.device], Payload: c.payload, QoS: 1,
		Attack: attack.Replay, Expected: []string{verify.Duplicate.String(), verify.Accepted.String()},
	}, time.Now())
	if err != nil {
		r.t.Errorf("the replayer: %v", err)
		return
	}
	token := r.client.Publish(r.topics[c.device], 1, false, c.payload)
	if !r.over(token) || token.Error() != nil {
		r.hangUp()
		return
	}
	r.answered.add()
	if time.Since(c.at) > forgotten {
		r.old.add()
	}
	if err := r.book.Acknowledged(ref, time.Now()); err != nil {
		r.t.Errorf("the replayer: %v", err)
	}
}

// over waits for a token, for as long as a gate may keep a reading.
func (r *replayer) over(token mqtt.Token) bool {
	ctx, cancel := context.WithTimeout(r.playing, 20*time.Second)
	defer cancel()
	select {
	case <-token.Done():
		return true
	case <-ctx.Done():
		return false
	}
}

func (r *replayer) connected() bool {
	if r.client != nil && r.client.IsConnectionOpen() {
		return true
	}
	r.hangUp()
	client := mqtt.NewClient(fleet.ClientOptions(r.broker, r.gateway))
	if token := client.Connect(); !r.over(token) || token.Error() != nil {
		return false
	}
	r.client = client
	return true
}

func (r *replayer) hangUp() {
	if r.client != nil {
		r.client.Disconnect(0)
		r.client = nil
	}
}
