package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/pulsegate/pulsegate/bridge"
	"github.com/pulsegate/pulsegate/bridge/config"
)

const (
	// startLimit bounds how long the service may take to come up.
	startLimit = time.Minute
	// finishLimit bounds how long it may take, once it is to stop, until what is
	// in flight is stored and acknowledged. Then it ends, within some seconds.
	finishLimit = 10 * time.Second
)

func newServe() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the service",
		Long: `Run the service: an MQTT broker for devices, verification, and NATS with
JetStream, embedded unless --nats names a real server. It needs no configuration.
What can be configured is shown by "pulsegate config"; each setting can be given in
a YAML file, as an environment variable (PULSEGATE_MQTT_LISTEN for mqtt.listen), or,
for the most usual ones, as a flag. Flags win over variables, variables over the file.

SIGTERM or Ctrl-C ends it once the readings in flight are stored and acknowledged, or
after 10 seconds; devices then connect elsewhere. A second one ends it at once.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(cmd)
			if err != nil {
				return err
			}
			return serve(cmd.Context(), c, cmd.OutOrStdout())
		},
	}
	config.RegisterFlags(cmd.Flags())
	return cmd
}

func loadConfig(cmd *cobra.Command) (config.Config, error) {
	return config.Load(config.Sources{Environ: os.Environ(), Allow: verbVariables(), Flags: cmd.Flags()})
}

func serve(ctx context.Context, c config.Config, out io.Writer) error {
	log, err := newLog(c.Log)
	if err != nil {
		return err
	}
	starting, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	b, err := bridge.Start(starting, c, bridge.Options{Log: log, Version: version()})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "pulsegate %s is ready: MQTT %s, NATS on %s, HTTP on %s; try: pulsegate device add w-0001 --patient p-0001%s; pulsegate watch%s\n",
		version(), listening(b), b.NATS(), b.HTTP(), dataFlag(c.Data), dataFlag(c.Data))
	notify(log, daemon.SdNotifyReady)
	var failed error
	select {
	case <-ctx.Done():
	case failed = <-b.Failed():
		log.Error().Err(failed).Msg("the gate cannot go on")
	}
	notify(log, daemon.SdNotifyStopping)
	log.Info().Msg("stopping, once what is in flight has been answered; a second signal ends it at once")
	finishing, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishLimit)
	defer cancel()
	return errors.Join(failed, b.Close(finishing))
}

// notify tells systemd, if it has started this process and wants to know
// (sd_notify(3)).
func notify(log zerolog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn().Err(err).Str("state", state).Msg("systemd, as which $NOTIFY_SOCKET names it, could not be told")
	}
}

// listening lists where devices can connect, the plain listener by its address
// alone, others by their URLs; and the other broker that readings come from.
func listening(b *bridge.Bridge) string {
	var places []string
	if all := b.Listeners(); len(all) > 0 {
		places = append(places, "on "+strings.ReplaceAll(strings.Join(all, " and "), "mqtt://", ""))
	}
	if other := b.Source(); other != "" {
		places = append(places, "from "+other)
	}
	return strings.Join(places, " and ")
}

// dataFlag is what another verb needs in order to find the data directory.
func dataFlag(dir string) string {
	if standard, err := config.DefaultData(os.Environ()); err == nil && standard == dir {
		return ""
	}
	return fmt.Sprintf(" --data %q", dir)
}

func newLog(c config.Log) (zerolog.Logger, error) {
	level, err := zerolog.ParseLevel(c.Level)
	if err != nil {
		return zerolog.Nop(), fmt.Errorf("log.level: %w", err)
	}
	var w io.Writer = os.Stderr
	if c.Format == config.FormatConsole || c.Format == config.FormatAuto && term.IsTerminal(int(os.Stderr.Fd())) {
		w = zerolog.ConsoleWriter{Out: os.Stderr, TimeFormat: time.TimeOnly}
	}
	return zerolog.New(w).Level(level).With().Timestamp().Logger(), nil
}
