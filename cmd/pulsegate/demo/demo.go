// Package demo runs everything in one process: the gate with its embedded
// broker and NATS, honest wearables, an attacker, and a consumer. It shows what
// would reach triage with and without the gate, and ends with a settled account.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge"
	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/device-sim/attack"
	"github.com/pulsegate/pulsegate/device-sim/fleet"
	"github.com/pulsegate/pulsegate/device-sim/ledger"
)

// Options are what can be chosen.
type Options struct {
	// Duration is how long the wearables send; 0 is until the context ends.
	Duration time.Duration
	// Devices is how many honest wearables there are, at least 1.
	Devices int
	// Rate is each one's readings a second.
	Rate float64
	// Attacks is a list as attack.Select takes it.
	Attacks string
	// Replay are files of recorded numerics, one for each device.
	Replay []string
	// Seed determines the values.
	Seed uint64
	// Out is where the board and the account go; Width is that of a terminal in
	// columns, or 0 for plain lines.
	Out   io.Writer
	Width func() int
	Log   zerolog.Logger
}

const (
	// attackAfter is when the attacker joins, or a quarter of the duration.
	attackAfter = 5 * time.Second
	// settleLimit bounds how long what was acknowledged may take to arrive.
	settleLimit = 10 * time.Second
	// deteriorating is the share of the patients who really become urgent.
	deteriorating = 0.1
)

func (o Options) check() error {
	switch {
	case o.Devices < 1 || o.Devices > 1000:
		return fmt.Errorf("--devices is %d; allowed: 1 to 1000", o.Devices)
	case o.Rate <= 0 || o.Rate > 100:
		return fmt.Errorf("--rate is %v; allowed: more than 0, at most 100 readings a second", o.Rate)
	case o.Duration < 0:
		return fmt.Errorf("--duration is %v; it must not be negative", o.Duration)
	}
	return nil
}

// Run runs the demo until its duration is over or ctx ends, and settles the
// account. Its error is about the demo's own running; whether the account is
// good is for the Report to say.
func Run(ctx context.Context, o Options) (Report, error) {
	if err := o.check(); err != nil {
		return Report{}, err
	}
	attacks, err := attack.Select(o.Attacks)
	if err != nil {
		return Report{}, fmt.Errorf("--%w", err)
	}
	recordings, err := openRecordings(o)
	if err != nil {
		return Report{}, err
	}
	dir, err := os.MkdirTemp("", "pulsegate-demo-")
	if err != nil {
		return Report{}, fmt.Errorf("making a directory for the demo: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	fmt.Fprintln(o.Out, "Pulsegate demo: starting the gate with its MQTT broker and NATS JetStream.")
	board := newBoard(time.Now)
	b, err := bridge.Start(ctx, configuration(dir), bridge.Options{Log: o.Log, Tap: board.raw})
	if err != nil {
		return Report{}, err
	}
	s := &show{options: o, bridge: b, dir: dir, board: board, attacks: attacks, recordings: recordings}
	report, err := s.run(ctx)
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleLimit)
	defer cancel()
	return report, errors.Join(err, b.Close(closing))
}

func openRecordings(o Options) ([]fleet.Recording, error) {
	var all []fleet.Recording
	for _, path := range o.Replay {
		r, err := fleet.OpenRecording(path)
		if err != nil {
			return nil, fmt.Errorf("--replay: %w", err)
		}
		all = append(all, r)
	}
	return all, nil
}

// configuration is the default one with free ports and little disk.
func configuration(dir string) config.Config {
	c := config.Default()
	c.Data = dir
	c.MQTT.Listen, c.NATS.Listen, c.HTTP.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	c.Store.Vitals.MaxBytes, c.Store.Rejections.MaxBytes = 256*config.MiB, 64*config.MiB
	c.Store.Audit.MaxBytes, c.Store.Devices.MaxBytes = 8*config.MiB, 8*config.MiB
	// The account names what became of every single attempt, so none may only be
	// counted, and the attacker stays connected; nobody is slowed, whatever the rate.
	c.Limits.RejectionRate, c.Limits.LockoutAfter = 100_000, 1_000_000
	c.Limits.DeviceRate = 1000
	return c
}

// show is one run.
type show struct {
	options    Options
	bridge     *bridge.Bridge
	dir        string
	board      *board
	attacks    []attack.Attack
	recordings []fleet.Recording
	books      *ledger.Ledger
}

func (s *show) run(ctx context.Context) (Report, error) {
	crew, err := s.enrol(ctx)
	if err != nil {
		return Report{}, err
	}
	if s.books, err = ledger.Open(""); err != nil {
		return Report{}, err
	}
	triage, err := subscribe(s.dir, s.board)
	if err != nil {
		return Report{}, err
	}
	defer triage.close()
	sending, stop := context.WithCancel(ctx)
	defer stop()
	if s.options.Duration > 0 {
		sending, stop = context.WithTimeout(ctx, s.options.Duration)
		defer stop()
	}
	display := startDisplay(s, crew)
	playErr := s.play(sending, crew)
	display.stop()
	settling, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleLimit)
	defer cancel()
	entries, err := s.books.Entries()
	if err := errors.Join(playErr, err); err != nil {
		return Report{}, err
	}
	if err := triage.await(settling, entries); err != nil {
		return Report{}, err
	}
	return settle(entries, triage.received(), triage.refused(), s.attacks), nil
}

// crew are the enrolled devices by their part.
type crew struct {
	honest           []registry.Credentials
	attacker, victim *registry.Credentials
}

func (s *show) enrol(ctx context.Context) (crew, error) {
	n := s.options.Devices
	if len(s.recordings) > 0 {
		n = len(s.recordings)
	}
	var c crew
	add := func(i int) (*registry.Credentials, error) {
		one, err := s.bridge.Enrol(ctx, fmt.Sprintf("w-%04d", i), fmt.Sprintf("p-%04d", i))
		return &one, err
	}
	for i := 1; i <= n; i++ {
		one, err := add(i)
		if err != nil {
			return crew{}, err
		}
		c.honest = append(c.honest, *one)
	}
	if len(s.attacks) == 0 {
		return c, nil
	}
	var err, victimErr error
	c.attacker, err = add(n + 1)
	if attack.NeedVictim(s.attacks) {
		c.victim, victimErr = add(n + 2)
	}
	return c, errors.Join(err, victimErr)
}

// play lets the fleet and, a little later, the attacker run until the context
// ends, and returns when both have drained.
func (s *show) play(ctx context.Context, c crew) error {
	f, err := fleet.New(fleet.Options{
		Broker: s.bridge.MQTT(), Credentials: c.honest, Rate: s.options.Rate, Seed: s.options.Seed,
		Deteriorating: deteriorating, Recordings: s.recordings, Victim: c.victim,
		Ledger: s.books, Logger: s.options.Log,
	})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	attacked := make(chan error, 1)
	go func() { attacked <- s.attack(ctx, c, f) }()
	_, err = f.Run(ctx)
	stop()
	return errors.Join(err, <-attacked)
}

func (s *show) attack(ctx context.Context, c crew, f *fleet.Fleet) error {
	if c.attacker == nil {
		return nil
	}
	wait := attackAfter
	if d := s.options.Duration; d > 0 {
		wait = min(wait, d/4)
	}
	select {
	case <-time.After(wait):
	case <-ctx.Done():
		return nil
	}
	o := attack.Options{
		Broker: s.bridge.MQTT(), Stolen: *c.attacker, Targets: attack.Targets(c.honest), Capture: f,
		Attacks: s.attacks, Seed: s.options.Seed, Ledger: s.books, Logger: s.options.Log,
	}
	if v := f.Victim(); v != nil {
		o.Victim = v
	}
	a, err := attack.New(o)
	if err != nil {
		return err
	}
	s.board.underAttack()
	_, err = a.Run(ctx)
	return err
}
