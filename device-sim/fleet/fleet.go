// Package fleet simulates honest wearables: each with its own MQTT connection,
// signing what a physiological model or a recording yields, and keeping every
// reading until it is acknowledged.
package fleet

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/pulsegate/pulsegate/bridge/reading"
	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/bridge/verify"
	"github.com/pulsegate/pulsegate/device-sim/ledger"
)

type counters struct {
	measured, sent, acknowledged, resent, connected atomic.Int64
	failure                                         atomic.Pointer[error]
}

// settings are what all wearables of a fleet share.
type settings struct {
	broker   string
	drain    time.Duration
	observer Observer
	log      zerolog.Logger
	clock    func() time.Time
	counters *counters
}

// Fleet is a set of wearables.
type Fleet struct {
	*settings
	wearables     []*wearable
	sources       []source
	victim        *Victim
	deteriorating []string
	skipped       int
}

// New makes a fleet. It connects nowhere yet.
func New(o Options) (*Fleet, error) {
	o, err := complete(o)
	if err != nil {
		return nil, err
	}
	f := &Fleet{settings: &settings{
		broker: o.Broker, drain: o.Drain, observer: o.Observer, log: o.Logger, clock: o.Clock,
		counters: &counters{},
	}}
	for _, c := range o.Credentials {
		w, err := newWearable(f.settings, c, o.Ledger)
		if err != nil {
			return nil, err
		}
		f.wearables = append(f.wearables, w)
	}
	if len(o.Recordings) > 0 {
		f.replay(o)
	} else {
		f.simulate(o)
	}
	if o.Victim == nil {
		return f, nil
	}
	w, err := newWearable(f.settings, *o.Victim, o.Ledger)
	if err != nil {
		return nil, err
	}
	f.victim = newVictim(w, newPatient(o.Seed, uint64(len(f.wearables))))
	return f, nil
}

func newWearable(s *settings, c registry.Credentials, l *ledger.Ledger) (*wearable, error) {
	if !reading.ValidID(c.DeviceID) || !reading.ValidID(c.PatientID) {
		return nil, fmt.Errorf("fleet: device %q with patient %q: ids are 1 to %d of A-Z a-z 0-9 - _",
			c.DeviceID, c.PatientID, reading.MaxID)
	}
	key, err := Key(c)
	if err != nil {
		return nil, err
	}
	book, err := l.Book(c.DeviceID)
	if err != nil {
		return nil, err
	}
	return &wearable{settings: s, credentials: c, key: key, book: book}, nil
}

// Key returns a device's signing key, at least 16 bytes. Its error does not
// quote it.
func Key(c registry.Credentials) ([]byte, error) {
	const shortest = 16
	key, err := hex.DecodeString(c.Key)
	if err != nil || len(key) < shortest {
		return nil, fmt.Errorf("fleet: device %s: its key is not at least %d hex digits", c.DeviceID, 2*shortest)
	}
	return key, nil
}

func (f *Fleet) replay(o Options) {
	second := time.Duration(float64(time.Second) / o.Speed)
	for i, r := range o.Recordings {
		f.sources = append(f.sources, &replay{rows: r.Rows, phase: f.phase(i, second), speed: o.Speed})
		f.skipped += r.Skipped()
	}
}

func (f *Fleet) simulate(o Options) {
	period := time.Duration(float64(time.Second) / o.Rate)
	chosen := choose(len(f.wearables), o.Deteriorating, o.Seed)
	for i, w := range f.wearables {
		patient := newPatient(o.Seed, uint64(i))
		if chosen[i] {
			patient.doomed = true
			f.deteriorating = append(f.deteriorating, w.credentials.DeviceID)
		}
		f.sources = append(f.sources, &endless{patient: patient, phase: f.phase(i, period), period: period})
	}
}

// phase spreads the devices' first readings over one period.
func (f *Fleet) phase(i int, period time.Duration) time.Duration {
	return period * time.Duration(i) / time.Duration(len(f.wearables))
}

// choose picks the deteriorating among n patients: at least one of them where
// the share is above 0.
func choose(n int, share float64, seed uint64) map[int]bool {
	chosen := make(map[int]bool)
	order := rand.New(rand.NewPCG(seed, math.MaxUint64)).Perm(n)
	// The subtraction takes back what the product was rounded up by.
	const rounding = 1e-9
	for _, i := range order[:int(math.Ceil(share*float64(n)-rounding))] {
		chosen[i] = true
	}
	return chosen
}

// expected are the outcomes of an honest reading. Sent again, it may also meet
// the copy that was stored.
func expected() []string {
	return []string{verify.Accepted.String(), verify.Duplicate.String()}
}

// Run lets the fleet measure and deliver until the context ends, or the
// recordings do; then it waits for acknowledgements, at most for the drain time.
// Being unable to connect is no error: see Summary. It may be called once.
func (f *Fleet) Run(ctx context.Context) (Summary, error) {
	honest, wearing := errgroup.WithContext(ctx)
	for i, w := range f.wearables {
		honest.Go(func() error { return w.play(wearing, f.sources[i]) })
	}
	// The victim goes on while the others do, be it that recordings end them.
	wearingVictim, stop := context.WithCancel(wearing)
	defer stop()
	victim := make(chan error, 1)
	go func() { victim <- f.victim.run(wearingVictim) }()
	err := honest.Wait()
	stop()
	return f.Summary(), errors.Join(err, <-victim)
}

// Summary returns what the fleet has done so far. It may be called at any time.
func (f *Fleet) Summary() Summary {
	s := Summary{
		Devices:      len(f.wearables),
		Measured:     f.counters.measured.Load(),
		Sent:         f.counters.sent.Load(),
		Acknowledged: f.counters.acknowledged.Load(),
		Resent:       f.counters.resent.Load(),
		Connections:  f.counters.connected.Load(),
		SkippedRows:  f.skipped,
	}
	if f.victim != nil {
		s.Devices++
	}
	if failure := f.counters.failure.Load(); failure != nil {
		s.LastFailure = *failure
	}
	return s
}

// Deteriorating returns the devices whose patients deteriorate.
func (f *Fleet) Deteriorating() []string { return f.deteriorating }

// Victim returns the device that the fleet gives up from time to time, or nil.
func (f *Fleet) Victim() *Victim { return f.victim }

// Latest returns the payload that the device had acknowledged last.
func (f *Fleet) Latest(device string) ([]byte, bool) {
	for _, w := range f.wearables {
		if c := w.latest.Load(); w.credentials.DeviceID == device && c != nil {
			return c.payload, true
		}
	}
	return nil, false
}
