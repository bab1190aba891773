package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/pulsegate/pulsegate/device-sim/attack/siege"
)

// besieging are the flags of attack.
type besieging struct {
	broker, credentials, attacks, level string
	nats                                []string
	strength                            int
	duration, pause, quiet              time.Duration
	seed                                uint64
	json                                bool
}

func attackCommand() *cobra.Command {
	b := &besieging{}
	c := &cobra.Command{
		Use:   "attack --broker ADDR --credentials FILE [--nats URL...]",
		Short: "Try to break or starve a gate of your own, and say what it did otherwise than it must",
		Long: `attack tries everything below on a gate, and prints a table of what it did as
expected and otherwise. Only ever attack a gate of your own: its records will show
the attempts, and readings of the devices in FILE will be stored.

FILE holds lines as "pulsegate device add ID --patient ID --json" prints them, of at
least five devices that nobody else uses meanwhile: the first is honest and publishes
ten readings a second throughout, the second is the victim, whose name is abused and
who must be let in all the same, and the others are the attacker's, stolen with
passwords and keys.

With --nats, which can be repeated, the attacks on NATS are tried with each URL's
credentials, which should be a reader's (consumer.url, security.url), and what came
out of the gate is compared with what was signed and acknowledged.

The exit status is 0 only where everything was tried and went as expected.

` + listOfAttacks(),
		Example: `  device-sim attack --broker 127.0.0.1:1883 --credentials devices.jsonl --nats "$(cat ~/.local/state/pulsegate/consumer.url)"
  device-sim attack --credentials devices.jsonl --attacks oversized,topic-alias --json | jq .attacks
  device-sim attack --credentials devices.jsonl --attacks random-mutation --duration 30m --pause 500ms`,
		Args:         cobra.NoArgs,
		SilenceUsage: true, SilenceErrors: true,
		RunE: func(c *cobra.Command, _ []string) error {
			return b.run(c.Context(), c.InOrStdin(), c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	f.StringVar(&b.broker, "broker", "127.0.0.1:1883", "the gate's MQTT `address`, without TLS")
	f.StringVar(&b.credentials, "credentials", "", "the devices' credentials; - is the standard input")
	f.StringArrayVar(&b.nats, "nats", nil, "NATS `URL` with a reader's credentials (visible to other users of this machine); can be repeated")
	f.StringVar(&b.attacks, "attacks", "all", "attacks to try: all, or some of their names, comma-separated")
	f.IntVar(&b.strength, "strength", siege.DefaultStrength, "multiplies how much is tried, and how long each attack may take")
	f.DurationVar(&b.duration, "duration", 0, "how long to try them again and again (default once)")
	f.DurationVar(&b.pause, "pause", 0, "how long to rest between rounds of --duration")
	f.DurationVar(&b.quiet, "quiet", siege.DefaultQuiet, "how long the honest device publishes alone before")
	f.Uint64Var(&b.seed, "seed", 1, "determines the mutations")
	f.StringVar(&b.level, "log-level", "warn", "debug, info, warn or error")
	f.BoolVar(&b.json, "json", false, "print the table as JSON")
	if err := c.MarkFlagRequired("credentials"); err != nil {
		panic(err) // the flag is declared above
	}
	return c
}

// listOfAttacks describes each in a line, and what must come of it in another.
func listOfAttacks() string {
	var b strings.Builder
	b.WriteString("The attacks, and what the gate must do:\n")
	for _, a := range siege.All() {
		fmt.Fprintf(&b, "\n  %s\n      %s:\n      %s\n", a.Name, a.Description, a.Expected)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func (b *besieging) run(ctx context.Context, in io.Reader, out, errOut io.Writer) error {
	level, err := zerolog.ParseLevel(b.level)
	if err != nil || b.level == "" {
		return fmt.Errorf("--log-level: %q is none of debug, info, warn, error", b.level)
	}
	attacks, err := siege.Select(b.attacks)
	if err != nil {
		return fmt.Errorf("--attacks: %w", err)
	}
	if len(b.nats) == 0 && b.attacks == "all" {
		attacks = siege.OverMQTT(attacks)
	}
	for _, url := range b.nats {
		if hosts(url) == "" {
			return fmt.Errorf("--nats: not a NATS URL, as nats://consumer:PASSWORD@127.0.0.1:4222 is one")
		}
	}
	all, err := (&settings{credentials: b.credentials}).readCredentials(in)
	if err != nil {
		return err
	}
	report, err := siege.Run(ctx, siege.Options{
		Broker: b.broker, Credentials: all, NATS: b.nats, Attacks: attacks, Strength: b.strength, Duration: b.duration,
		Pause: b.pause, Quiet: b.quiet, Seed: b.seed, Logger: newLogger(errOut, level),
	})
	if err != nil && len(report.Rows) == 0 {
		return err
	}
	if err := b.print(out, report); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	return report.Err()
}

func (b *besieging) print(out io.Writer, r siege.Report) error {
	if b.json {
		return json.NewEncoder(out).Encode(r)
	}
	_, err := io.WriteString(out, r.Text())
	return err
}

func newLogger(out io.Writer, level zerolog.Level) zerolog.Logger {
	return zerolog.New(zerolog.SyncWriter(zerolog.ConsoleWriter{Out: out, TimeFormat: time.TimeOnly, NoColor: true})).
		Level(level).With().Timestamp().Logger()
}
