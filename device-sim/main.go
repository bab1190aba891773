// Command device-sim is a fleet of simulated wearables, and on request their
// attacker.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/device-sim/attack"
	"github.com/pulsegate/pulsegate/device-sim/fleet"
	"github.com/pulsegate/pulsegate/device-sim/ledger"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "device-sim:", err)
		stop()
		os.Exit(1)
	}
}

// settings are the flags.
type settings struct {
	broker, credentials, attacks, ledger, level string
	devices                                     int
	rate, attackRate, speed, deteriorating      float64
	seed                                        uint64
	duration, drain                             time.Duration
	recordings                                  []string
	json                                        bool
}

func command() *cobra.Command {
	s := &settings{}
	c := &cobra.Command{
		Use:   "device-sim --mqtt ADDR --credentials FILE [flags] [--replay FILE...]",
		Short: "Simulate wearables that send signed readings, and their attacker",
		Long: `device-sim lets each device of a credentials file sign readings and send them at
QoS 1. Every reading is kept until it is acknowledged and sent again, the same
bytes, after a lost connection. The exit status is 0 only where something was
sent, all of it was acknowledged and no reading was left unsent.

Acknowledged is not accepted: over MQTT 3.1.1, which device-sim speaks, a gate
acknowledges a reading that it refuses too. What is stored is shown by
"device-sim settle", from the account that --ledger leaves.

FILE holds lines as "pulsegate device add ID --patient ID --json" prints them.
With attacks the last device of it belongs to the attacker, and the one before
to a victim for the attack "replay".`,
		Example: `  device-sim --mqtt 127.0.0.1:1883 --credentials devices.jsonl --duration 1m
  device-sim --mqtt 127.0.0.1:1883 --credentials devices.jsonl --replay recordings/*.csv --speed 20
  device-sim --mqtt 127.0.0.1:1883 --credentials - --attacks forged-signature,replay --ledger sent < devices.jsonl`,
		SilenceUsage: true, SilenceErrors: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 && len(s.recordings) == 0 {
				return fmt.Errorf("unexpected argument %q; files of recordings follow --replay", args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			s.recordings = append(s.recordings, args...)
			return s.run(c.Context(), c.InOrStdin(), c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	f.StringVar(&s.broker, "mqtt", "127.0.0.1:1883", "the gate's MQTT `address`")
	f.StringVar(&s.credentials, "credentials", "", "the devices' credentials; - is the standard input")
	f.IntVar(&s.devices, "devices", 0, "how many honest devices to simulate (default all)")
	f.Float64Var(&s.rate, "rate", 1, "readings a second of each device")
	f.Uint64Var(&s.seed, "seed", 1, "determines the simulated values")
	f.DurationVar(&s.duration, "duration", 0, "how long to send (default until interrupted, or the recordings end)")
	f.Float64Var(&s.deteriorating, "deteriorating", 0.1, "the share of patients that deteriorate")
	f.StringArrayVar(&s.recordings, "replay", nil, "recorded numerics in CSV, `FILE...`, each played by one device")
	f.Float64Var(&s.speed, "speed", 1, "how many seconds of a recording to play in one")
	f.StringVar(&s.attacks, "attacks", "none", "attacks to run: all, none, or some of their names, comma-separated")
	f.Float64Var(&s.attackRate, "attack-rate", attack.DefaultRate, "how often a second to try each attack")
	f.StringVar(&s.ledger, "ledger", "", "a `directory` for the account of everything sent")
	f.DurationVar(&s.drain, "drain", fleet.DefaultDrain, "how long to wait at the end for acknowledgements")
	f.StringVar(&s.level, "log-level", "warn", "debug, info, warn or error")
	f.BoolVar(&s.json, "json", false, "print the summary as JSON")
	if err := c.MarkFlagRequired("credentials"); err != nil {
		panic(err) // the flag is declared above
	}
	c.AddCommand(settleCommand(), attackCommand())
	c.CompletionOptions.DisableDefaultCmd = true
	return c
}

// summary is what is printed in the end.
type summary struct {
	fleet.Summary
	// NeverSent counts readings that were signed only, Unacknowledged those that
	// were sent without an answer.
	NeverSent      int64                   `json:"never_sent"`
	Unacknowledged int64                   `json:"unacknowledged"`
	Attacks        map[string]attack.Count `json:"attacks,omitempty"`
}

func (s *settings) run(ctx context.Context, in io.Reader, out, errOut io.Writer) error {
	level, err := zerolog.ParseLevel(s.level)
	if err != nil || s.level == "" {
		return fmt.Errorf("--log-level: %q is none of debug, info, warn, error", s.level)
	}
	if err := s.checkRates(); err != nil {
		return err
	}
	log := newLogger(errOut, level)
	attacks, err := attack.Select(s.attacks)
	if err != nil {
		return err
	}
	crew, err := s.crew(in, attacks)
	if err != nil {
		return err
	}
	books, err := ledger.Open(s.ledger)
	if err != nil {
		return err
	}
	sim, err := s.simulation(crew, attacks, books, log)
	if err != nil {
		return errors.Join(err, books.Close())
	}
	total, err := s.play(ctx, sim)
	if err := errors.Join(err, books.Close()); err != nil {
		return err
	}
	if err := s.print(out, total); err != nil {
		return err
	}
	return verdict(total)
}

// checkRates refuses 0, which in the options of a fleet or an attacker stands
// for the default.
func (s *settings) checkRates() error {
	for _, f := range []struct {
		flag  string
		value float64
	}{{"rate", s.rate}, {"speed", s.speed}, {"attack-rate", s.attackRate}} {
		if f.value <= 0 {
			return fmt.Errorf("--%s: %g; it must be more than 0", f.flag, f.value)
		}
	}
	return nil
}

// crew says who is who among the credentials.
type crew struct {
	honest           []registry.Credentials
	victim, attacker *registry.Credentials
}

func (s *settings) crew(in io.Reader, attacks []attack.Attack) (crew, error) {
	all, err := s.readCredentials(in)
	if err != nil {
		return crew{}, err
	}
	c := crew{honest: all}
	if len(attacks) > 0 {
		c.attacker = c.takeLast()
	}
	if attack.NeedVictim(attacks) {
		c.victim = c.takeLast()
	}
	if len(c.honest) == 0 {
		return crew{}, fmt.Errorf("--credentials: %d devices are too few: attacks need one, replay one more, and no honest one is left", len(all))
	}
	if s.devices < 0 || s.devices > len(c.honest) {
		return crew{}, fmt.Errorf("--devices: %d, but the credentials are enough for %d honest ones", s.devices, len(c.honest))
	}
	if s.devices > 0 {
		c.honest = c.honest[:s.devices]
	}
	return c, nil
}

func (c *crew) takeLast() *registry.Credentials {
	if len(c.honest) == 0 {
		return nil
	}
	last := len(c.honest) - 1
	taken := c.honest[last]
	c.honest = c.honest[:last]
	return &taken
}

func (s *settings) readCredentials(in io.Reader) ([]registry.Credentials, error) {
	if s.credentials == "-" {
		all, err := registry.ReadCredentials(in)
		if err != nil {
			return nil, fmt.Errorf("--credentials: the standard input: %w", err)
		}
		return all, nil
	}
	file, err := os.Open(s.credentials)
	if err != nil {
		return nil, fmt.Errorf("--credentials: %w", err)
	}
	defer file.Close()
	all, err := registry.ReadCredentials(file)
	if err != nil {
		return nil, fmt.Errorf("--credentials: %s: %w", s.credentials, err)
	}
	return all, nil
}

// simulation is a fleet and perhaps its attacker.
type simulation struct {
	fleet    *fleet.Fleet
	attacker *attack.Attacker
}

func (s *settings) simulation(c crew, attacks []attack.Attack, books *ledger.Ledger, log zerolog.Logger) (simulation, error) {
	var recordings []fleet.Recording
	for _, path := range s.recordings {
		r, err := fleet.OpenRecording(path)
		if err != nil {
			return simulation{}, err
		}
		recordings = append(recordings, r)
	}
	if n := len(recordings); n > 0 && n < len(c.honest) {
		log.Warn().Msgf("only %d of %d devices play, each one recording: there are no more", n, len(c.honest))
		// The others have nothing to play, so they are no targets either.
		c.honest = c.honest[:n]
	}
	f, err := fleet.New(fleet.Options{
		Broker: s.broker, Credentials: c.honest, Rate: s.rate, Seed: s.seed, Deteriorating: s.deteriorating,
		Recordings: recordings, Speed: s.speed, Victim: c.victim, Drain: s.drain, Ledger: books, Logger: log,
	})
	if err != nil || c.attacker == nil {
		return simulation{fleet: f}, err
	}
	o := attack.Options{
		Broker: s.broker, Stolen: *c.attacker, Targets: attack.Targets(c.honest), Capture: f,
		Attacks: attacks, Rate: s.attackRate, Seed: s.seed, Ledger: books, Logger: log,
	}
	// A nil *Victim in the interface would not be nil.
	if v := f.Victim(); v != nil {
		o.Victim = v
	}
	a, err := attack.New(o)
	return simulation{fleet: f, attacker: a}, err
}

// play runs both until the context ends, the duration is over or the recordings
// are.
func (s *settings) play(ctx context.Context, sim simulation) (summary, error) {
	if s.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.duration)
		defer cancel()
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	type attacked struct {
		counts map[string]attack.Count
		err    error
	}
	attacks := make(chan attacked, 1)
	go func() {
		if sim.attacker == nil {
			attacks <- attacked{}
			return
		}
		counts, err := sim.attacker.Run(ctx)
		attacks <- attacked{counts, err}
	}()
	total, err := sim.fleet.Run(ctx)
	stop()
	a := <-attacks
	return summary{
		Summary: total, NeverSent: total.Measured - total.Sent, Unacknowledged: total.Sent - total.Acknowledged,
		Attacks: a.counts,
	}, errors.Join(err, a.err)
}

func (s *settings) print(out io.Writer, total summary) error {
	if s.json {
		return json.NewEncoder(out).Encode(total)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d devices: sent %d, acknowledged %d, unacknowledged %d; never sent %d; sent again %d\n",
		total.Devices, total.Sent, total.Acknowledged, total.Unacknowledged, total.NeverSent, total.Resent)
	if total.SkippedRows > 0 {
		fmt.Fprintf(&b, "rows of recordings skipped for a missing value: %d\n", total.SkippedRows)
	}
	for _, a := range attack.All() {
		if count, ok := total.Attacks[a.Name]; ok {
			fmt.Fprintf(&b, "attack %-16s sent %d\n", a.Name, count.Sent)
		}
	}
	b.WriteString("acknowledged is not accepted: `device-sim settle` shows what is stored\n")
	_, err := io.WriteString(out, b.String())
	return err
}

// verdict decides the exit status.
func verdict(total summary) error {
	var why string
	if total.LastFailure != nil {
		why = fmt.Sprintf("; last: %v", total.LastFailure)
	}
	switch {
	case total.Sent == 0:
		return fmt.Errorf("nothing was sent%s", why)
	case total.Unacknowledged > 0:
		return fmt.Errorf("%d readings were not acknowledged, %d more were never sent%s", total.Unacknowledged, total.NeverSent, why)
	case total.NeverSent > 0:
		return fmt.Errorf("%d readings were never sent%s", total.NeverSent, why)
	}
	return nil
}
