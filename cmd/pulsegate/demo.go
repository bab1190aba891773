package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/pulsegate/pulsegate/cmd/pulsegate/demo"
)

func newDemo() *cobra.Command {
	var o demo.Options
	var reportFile string
	cmd := &cobra.Command{
		Use:   "demo [flags] [--replay FILE...]",
		Short: "See it work: wearables, an attacker and a consumer in one process",
		Long: `Run everything in one process, with nothing to install: the gate with its broker
and NATS, wearables, an attacker who joins after a few seconds, and a consumer. The
board shows patients by urgency on two sides: what would reach triage if every
publish were believed, and what does reach it. It ends with a settled account.

The exit status is non-zero if anything authentic was lost or delivered twice,
anything forged was delivered, something was not acknowledged, nothing was sent, or
an attack sent nothing or met an outcome that it did not declare.`,
		Example: `  pulsegate demo
  pulsegate demo --duration 20s --devices 100 --report account.json
  pulsegate demo --attacks forged-signature,replay
  pulsegate demo --replay recordings/*.csv`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 && len(o.Replay) == 0 {
				return fmt.Errorf("unexpected argument %q; files of recordings follow --replay", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Replay = append(o.Replay, args...)
			o.Out, o.Width, o.Log = cmd.OutOrStdout(), terminalWidth(cmd.OutOrStdout()), quietLog(cmd.ErrOrStderr())
			out, err := openReport(reportFile)
			if err != nil {
				return err
			}
			defer out.Close()
			report, err := demo.Run(cmd.Context(), o)
			if err != nil {
				return err
			}
			return finish(cmd.OutOrStdout(), report, out)
		},
	}
	f := cmd.Flags()
	f.DurationVar(&o.Duration, "duration", 45*time.Second, "how long the wearables send; 0 is until Ctrl-C")
	f.IntVar(&o.Devices, "devices", 24, "number of honest wearables")
	f.Float64Var(&o.Rate, "rate", 1, "readings a second of each wearable")
	f.StringVar(&o.Attacks, "attacks", "all", "attacks by name, separated by commas, or all, or none")
	f.StringArrayVar(&o.Replay, "replay", nil, "recorded numerics in CSV, `FILE...`, to play in place of the model, each by one wearable")
	f.Uint64Var(&o.Seed, "seed", 1, "determines the values")
	f.StringVar(&reportFile, "report", "", "write the account to `FILE` as JSON")
	return cmd
}

// quietLog leaves the terminal to the board, but for what went wrong.
func quietLog(w io.Writer) zerolog.Logger {
	return zerolog.New(zerolog.ConsoleWriter{Out: w, TimeFormat: time.TimeOnly}).Level(zerolog.ErrorLevel).With().Timestamp().Logger()
}

// terminalWidth returns a function for the width of a terminal, nil for
// anything else.
func terminalWidth(w io.Writer) func() int {
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return nil
	}
	return func() int {
		width, _, err := term.GetSize(int(file.Fd()))
		if err != nil {
			return 0
		}
		return width
	}
}

// openReport opens the file for the report, before the demo runs and not after.
// Without a name the report goes nowhere.
func openReport(name string) (io.WriteCloser, error) {
	if name == "" {
		name = os.DevNull
	}
	file, err := os.Create(name)
	if err != nil {
		return nil, fmt.Errorf("--report: %w", err)
	}
	return file, nil
}

func finish(out io.Writer, report demo.Report, file io.Writer) error {
	if err := report.Print(out); err != nil {
		return err
	}
	text, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	if _, err := file.Write(append(text, '\n')); err != nil {
		return fmt.Errorf("--report: %w", err)
	}
	if failures := report.Failures(); len(failures) > 0 {
		return errors.New(strings.Join(failures, "; "))
	}
	return nil
}
