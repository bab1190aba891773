package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/pulsegate/pulsegate/bridge"
	"github.com/pulsegate/pulsegate/bridge/config"
)

const (
	// startLimit bounds how long the service may take to come up.
	startLimit = time.Minute
	// stopLimit bounds how long it may take to end.
	stopLimit = 15 * time.Second
)

func newServe() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the service",
		Long: `Run the service: an MQTT broker for devices, verification, and NATS with
JetStream, embedded unless --nats names a real server. It needs no configuration.
What can be configured is shown by "pulsegate config"; each setting can be given in
a YAML file, as an environment variable (PULSEGATE_MQTT_LISTEN for mqtt.listen), or,
for the most usual ones, as a flag. Flags win over variables, variables over the file.`,
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
	fmt.Fprintf(out, "pulsegate %s is ready: MQTT on %s, NATS on %s, HTTP on %s; try: pulsegate device add w-0001 --patient p-0001%s; pulsegate watch%s\n",
		version(), listening(b), b.NATS(), b.HTTP(), dataFlag(c.Data), dataFlag(c.Data))
	<-ctx.Done()
	log.Info().Msg("stopping")
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	return b.Close(stopping)
}

// listening lists where devices can connect: the plain listener by its address
// alone, others by their URLs.
func listening(b *bridge.Bridge) string {
	return strings.ReplaceAll(strings.Join(b.Listeners(), " and "), "mqtt://", "")
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
