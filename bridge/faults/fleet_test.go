//go:build linux

package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/engine"
	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/device-sim/fleet"
	"github.com/pulsegate/pulsegate/device-sim/ledger"
)

// ward is a fleet of honest devices under load, perhaps its attackers, and the
// account of what they sent.
type ward struct {
	t      *testing.T
	fleet  *fleet.Fleet
	ledger string
	books  *ledger.Ledger
	// acknowledged counts what the devices had acknowledged.
	acknowledged *tally
	overheard    *overheard
	// leave ends the devices' measuring; company waits for all.
	playing context.Context
	leave   context.CancelFunc
	company sync.WaitGroup
}

// load is how much the devices send.
type load struct {
	// rate is each device's readings a second.
	rate float64
	// age is how old the readings are when they are first sent.
	age time.Duration
	// observer is told too.
	observer fleet.Observer
}

// freshness is whether readings are live, or late from the start: the gate has
// another way to know each as new.
type freshness struct {
	name     string
	devices  int
	load     load
	settings []string
	// some is how many acknowledgements to wait for at most.
	some int
}

func liveAndLate() []freshness {
	return []freshness{
		{name: "live", devices: 20, load: load{rate: pace}, some: 500},
		// What a gate looks up in a second is bounded, hence fewer readings.
		{name: "late", devices: 5, load: load{rate: 4, age: 5 * time.Minute}, settings: forgetful(), some: 40},
	}
}

// forgotten is when JetStream has forgotten a reading, by the settings of
// forgetful: from then on the gate must find the copies by itself.
const forgotten = 6500 * time.Millisecond

func forgetful() []string {
	return []string{
		"FRESHNESS_MAX_AGE=500ms", "FRESHNESS_MAX_FUTURE=2s", "FRESHNESS_CLOCK_TOLERANCE=500ms", impatient,
		fmt.Sprintf("STORE_DUPLICATE_WINDOW=%v", forgotten),
	}
}

// newWard connects to a broker, host:port, once it is started.
func newWard(t *testing.T, broker string, devices []registry.Credentials, l load) *ward {
	t.Helper()
	w := &ward{t: t, ledger: t.TempDir(), acknowledged: newTally(), overheard: &overheard{}}
	var err error
	w.books, err = ledger.Open(w.ledger)
	must(t, err)
	w.fleet, err = fleet.New(fleet.Options{
		Broker: broker, Credentials: devices, Rate: l.rate, Seed: *seed, Drain: patience,
		Ledger: w.books, Logger: zerolog.Nop(), Observer: w.observer(l.observer),
		Clock: func() time.Time { return time.Now().Add(-l.age) },
	})
	must(t, err)
	w.playing, w.leave = context.WithCancel(t.Context())
	t.Cleanup(func() {
		w.end()
		_ = w.books.Close()
	})
	return w
}

func (w *ward) observer(also fleet.Observer) fleet.Observer {
	return fleet.Observer{
		Sent: func(s fleet.Sending) {
			w.overheard.add(captureOf(s))
			if also.Sent != nil {
				also.Sent(s)
			}
		},
		Acknowledged: func(a fleet.Acknowledgement) {
			w.acknowledged.add()
			if also.Acknowledged != nil {
				also.Acknowledged(a)
			}
		},
	}
}

// start lets the devices measure and send.
func (w *ward) start() {
	w.company.Go(func() {
		if _, err := w.fleet.Run(w.playing); err != nil {
			w.t.Errorf("the fleet: %v", err)
		}
	})
}

// await waits until so many more readings have been acknowledged.
func (w *ward) await(n int) {
	w.t.Helper()
	select {
	case <-w.acknowledged.more(n):
	case <-time.After(patience):
		w.t.Fatalf("of %d more readings not all were acknowledged; the fleet: %+v", n, w.fleet.Summary())
	}
}

// end ends the load and waits until everything is acknowledged.
func (w *ward) end() {
	w.leave()
	w.company.Wait()
}

// settlement is what `device-sim settle --json` prints.
type settlement struct {
	Sent         int `json:"sent"`
	Acknowledged int `json:"acknowledged"`
	Delivered    int `json:"delivered"`
	StoredLate   int `json:"stored_late"`
	Lost         int `json:"lost"`
	StoredTwice  int `json:"stored_twice"`
	Forged       int `json:"forged"`
	Misfiled     int `json:"misfiled"`
	Inversions   struct {
		Total int `json:"total"`
	} `json:"inversions"`
}

// settle ends the load and compares what was sent with what is stored.
// credentials is the directory that holds the consumer's URL.
func (w *ward) settle(fault string, runs int, credentials string) settlement {
	w.t.Helper()
	w.end()
	must(w.t, w.books.Close())
	tool := exec.Command(program(w.t, settleProgram), "settle", "--json", "--ledger", w.ledger, "--nats-file", engine.URLFile(credentials, "consumer"))
	out, failure := tool.Output()
	var s settlement
	if err := json.Unmarshal(out, &s); err != nil {
		w.t.Fatalf("settling: %v: %v: %s", failure, err, out)
	}
	w.t.Logf("fault=%s runs=%d sent=%d acknowledged=%d stored=%d late=%d lost=%d twice=%d forged=%d misfiled=%d resent=%d inversions=%d",
		fault, runs, s.Sent, s.Acknowledged, s.Delivered, s.StoredLate, s.Lost, s.StoredTwice, s.Forged, s.Misfiled, w.fleet.Summary().Resent, s.Inversions.Total)
	if failure != nil {
		w.t.Errorf("settling: %v: %s", failure, out)
	}
	if u := w.fleet.Summary(); u.Unacknowledged() > 0 || s.Acknowledged != s.Sent || s.Delivered != s.Sent {
		w.t.Errorf("not everything has arrived: %+v; the fleet: %+v", s, u)
	}
	return s
}

// tally counts events.
type tally struct {
	mu      sync.Mutex
	n       int
	waiting map[chan struct{}]int
}

func newTally() *tally { return &tally{waiting: make(map[chan struct{}]int)} }

func (t *tally) add() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n++
	for reached, at := range t.waiting {
		if t.n >= at {
			close(reached)
			delete(t.waiting, reached)
		}
	}
}

func (t *tally) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n
}

// more is closed when so many more have happened.
func (t *tally) more(n int) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	reached := make(chan struct{})
	if n <= 0 {
		close(reached)
	} else {
		t.waiting[reached] = t.n + n
	}
	return reached
}
