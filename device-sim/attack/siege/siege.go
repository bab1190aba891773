// Package siege attacks a gate by way of its protocols, to break or to starve it,
// and says where it did not do what it must. An honest device publishes all the
// while, and a victim logs in after each attack: both must be served.
package siege

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/device-sim/attack"
	"github.com/pulsegate/pulsegate/device-sim/ledger"
)

// LeastCredentials is how many devices a siege needs: an honest one, a victim, and
// three whose credentials the attacker has.
const LeastCredentials = 5

// Defaults of Options.
const (
	DefaultStrength    = 1
	DefaultLimit       = 5 * time.Second
	DefaultQuiet       = 3 * time.Second
	DefaultPatience    = 10 * time.Second
	DefaultCloseWithin = 20 * time.Second
)

// Attack is one of All.
type Attack struct {
	Name string
	// Description says what is done, Expected what the gate must do.
	Description, Expected string
	// NeedsNATS says that it is done on NATS.
	NeedsNATS bool
	// slow attacks take their time beside the others.
	slow bool
	run  func(context.Context, *trial)
}

// Options are what a siege has. Broker, Credentials and Attacks must be there;
// zero stands for the default of the others.
type Options struct {
	// Broker is host:port of MQTT over TCP.
	Broker string
	// Credentials are, in this order, of the honest device, of the victim, and
	// of devices that the attacker has stolen; at least LeastCredentials.
	// Nobody else may use them meanwhile.
	Credentials []registry.Credentials
	// NATS are URLs of users that may read and no more, with their credentials.
	NATS    []string
	Attacks []Attack
	// Strength multiplies how often things are tried, and Limit.
	Strength int
	// Limit is how long one attack may take at strength 1; what it has not tried
	// by then it leaves out. The slow ones have CloseWithin.
	Limit time.Duration
	// Duration is how long to repeat all attacks; zero is once.
	Duration time.Duration
	// Pause is how long to rest between two rounds: each connection that the
	// attacker closes keeps a port of its machine for a while.
	Pause time.Duration
	// Quiet is how long the honest device publishes alone before.
	Quiet time.Duration
	// Patience is how long the gate may take to answer, or to hang up on what
	// it must hang up on.
	Patience time.Duration
	// CloseWithin is how long it may wait for a CONNECT, or for the rest of a
	// packet of a client whose keep alive is two seconds.
	CloseWithin time.Duration
	// Seed determines the mutations.
	Seed uint64
	// Logger is never given a payload, a password or a key.
	Logger zerolog.Logger
	// Clock stamps the readings; nil is time.Now.
	Clock func() time.Time
}

func (o Options) complete() (Options, error) {
	o.Strength = defaulted(o.Strength, DefaultStrength)
	o.Limit = defaulted(o.Limit, DefaultLimit)
	o.Quiet = defaulted(o.Quiet, DefaultQuiet)
	o.Patience = defaulted(o.Patience, DefaultPatience)
	o.CloseWithin = defaulted(o.CloseWithin, DefaultCloseWithin)
	if o.Clock == nil {
		o.Clock = time.Now
	}
	needsNATS := slices.ContainsFunc(o.Attacks, func(a Attack) bool { return a.NeedsNATS })
	switch {
	case o.Broker == "":
		return o, errors.New("attack: no broker's address")
	case len(o.Attacks) == 0:
		return o, errors.New("attack: no attacks")
	case len(o.Credentials) < LeastCredentials:
		return o, fmt.Errorf("attack: credentials of %d devices are too few; at least %d are needed: an honest device, a victim, the attacker's", len(o.Credentials), LeastCredentials)
	case o.Strength < 1 || o.Strength > 1000:
		return o, fmt.Errorf("attack: the strength is %d; it must be from 1 to 1000", o.Strength)
	case needsNATS && len(o.NATS) == 0:
		return o, errors.New("attack: no URL of NATS, which one of the attacks needs")
	}
	seen := make(map[string]bool)
	for _, c := range o.Credentials {
		if seen[c.DeviceID] {
			return o, fmt.Errorf("attack: device %q is there twice", c.DeviceID)
		}
		seen[c.DeviceID] = true
	}
	return o, nil
}

func defaulted[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}

// siege is a run.
type siege struct {
	Options
	books  *books
	honest *honest
	// victim is held by whoever is the victim: a second one would take over.
	victim sync.Mutex
	// stolen are the attacker's credentials that no connection uses.
	stolen chan registry.Credentials
	// crafter makes the messages of the attacks with one message each, in the
	// name of the last of the stolen devices, which serves nothing else.
	crafter *attack.Attacker
	spies   []*spy
}

// Run attacks, and returns what came of it. Its error is that it could not be
// tried, or that ctx ended.
func Run(ctx context.Context, o Options) (Report, error) {
	o, err := o.complete()
	if err != nil {
		return Report{}, err
	}
	s, err := newSiege(ctx, o)
	if err != nil {
		return Report{}, err
	}
	defer s.close()
	go s.honest.run()
	if err := wait(ctx, o.Quiet); err != nil {
		return Report{}, err
	}
	s.honest.disturbed()
	report := Report{}
	end := time.Now().Add(o.Duration)
	for round := uint64(0); ; round++ {
		s.round(ctx, &report, o.Seed+round)
		if !time.Now().Before(end) || wait(ctx, o.Pause) != nil {
			break
		}
	}
	report.add(s.honest.finish())
	report.Honest = s.honest.latencies()
	if len(s.spies) > 0 {
		report.add(s.settle(ctx))
	}
	return report, ctx.Err()
}

func newSiege(ctx context.Context, o Options) (*siege, error) {
	s := &siege{Options: o, books: newBooks(o.Clock), stolen: make(chan registry.Credentials, len(o.Credentials))}
	for _, c := range o.Credentials {
		if err := s.books.enter(c); err != nil {
			return nil, err
		}
	}
	for _, c := range o.Credentials[2 : len(o.Credentials)-1] {
		s.stolen <- c
	}
	for _, url := range o.NATS {
		spy, err := newSpy(ctx, url, o.Patience)
		if err != nil {
			s.close()
			return nil, err
		}
		s.spies = append(s.spies, spy)
	}
	var err error
	if s.honest, err = newHonest(ctx, o, s.books); err != nil {
		s.close()
		return nil, fmt.Errorf("the honest device %s: %w", o.Credentials[0].DeviceID, err)
	}
	if s.crafter, err = newCrafter(o, s.honest); err != nil {
		s.close()
	}
	return s, err
}

// newCrafter makes an attacker that publishes nothing itself.
func newCrafter(o Options, capture attack.Capture) (*attack.Attacker, error) {
	books, err := ledger.Open("")
	if err != nil {
		return nil, err
	}
	var each []attack.Attack
	for _, a := range attack.All() {
		if !a.NeedsVictim {
			each = append(each, a)
		}
	}
	return attack.New(attack.Options{
		Broker: o.Broker, Stolen: o.Credentials[len(o.Credentials)-1], Targets: attack.Targets(o.Credentials[:2]),
		Capture: capture, Attacks: each, Seed: o.Seed, Ledger: books, Logger: o.Logger, Clock: o.Clock,
	})
}

func (s *siege) close() {
	if s.honest != nil {
		s.honest.close()
	}
	for _, one := range s.spies {
		one.close()
	}
}

// round tries each attack once, the slow ones beside the others.
func (s *siege) round(ctx context.Context, report *Report, seed uint64) {
	rows := make([]Row, len(s.Attacks))
	var slow sync.WaitGroup
	for i, a := range s.Attacks {
		if a.slow {
			slow.Go(func() { rows[i] = s.try(ctx, a, seed+uint64(i)) })
		}
	}
	for i, a := range s.Attacks {
		if !a.slow && ctx.Err() == nil {
			rows[i] = s.try(ctx, a, seed+uint64(i))
		}
	}
	slow.Wait()
	for i, row := range rows {
		row.Attack = s.Attacks[i].Name
		report.add(row)
	}
}

func (s *siege) try(ctx context.Context, a Attack, seed uint64) Row {
	t := &trial{siege: s, attack: a, random: rand.New(rand.NewPCG(seed, 0)), row: Row{Attack: a.Name}}
	limit := s.Limit * time.Duration(s.Strength)
	if a.slow {
		limit = s.CloseWithin + s.Patience
	}
	start := time.Now()
	bounded, cancel := context.WithTimeout(ctx, limit)
	a.run(bounded, t)
	cancel()
	if ctx.Err() == nil {
		t.afterwards(ctx)
	}
	s.Logger.Info().Str("attack", a.Name).Dur("took", time.Since(start)).Int("tried", t.row.Tried).Int("otherwise", t.row.Otherwise).Msg("tried")
	return t.row
}

// wait ends early with ctx.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
