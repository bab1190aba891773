package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/cmd/pulsegate/doctor"
)

// usageError is one of how a command was called.
type usageError struct{ error }

// exitCode is the exit status for an error: doctor's callers can tell what they
// did wrong from what is wrong.
func exitCode(err error) int {
	if _, usage := errors.AsType[usageError](err); usage {
		return 2
	}
	return 1
}

func newDoctor() *cobra.Command {
	var o doctor.Options
	var device string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look at everything the service depends on, and say what to do",
		Long: `Look at the configuration, files, certificates, the disk, NATS with its permissions and
streams, the clock and the registry, and go a device's way through the running service.
Each line says ok, or what is wrong and what to do. It takes the flags, variables and
file that "pulsegate serve" runs with, and is run as the same user on the same machine.

Nothing is changed, but that a device is enrolled for a moment and removed again. It
sends a signed reading of the future, which the service refuses: consumers of readings
see nothing, while REJECTIONS and AUDIT tell of it. --device names one of yours instead,
which nothing else may be using: a file as "pulsegate device add --json" prints it.

The exit status is 0 if nothing fails, 1 if something does, 2 if this was called wrongly.`,
		Example: `  pulsegate doctor
  pulsegate doctor --config /etc/pulsegate/pulsegate.yaml --json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("%s takes no argument, but got %d; see `%s --help`", cmd.CommandPath(), len(args), cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.Device, err = doctorDevice(device, o); err != nil {
				return usageError{err}
			}
			return examine(cmd, o)
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	config.RegisterFlags(cmd.Flags())
	cmd.Flags().Bool("json", false, "print one JSON array")
	cmd.Flags().StringVar(&device, "device", "", "`file` with the credentials of a device to send with")
	cmd.Flags().StringVar(&o.Cert, "cert", "", "`file` with that device's client certificate")
	cmd.Flags().StringVar(&o.Key, "key", "", "`file` with its key")
	return cmd
}

func doctorDevice(file string, o doctor.Options) (*registry.Credentials, error) {
	switch {
	case (o.Cert == "") != (o.Key == ""):
		return nil, errors.New("--cert and --key belong together: give both or neither")
	case file == "" && o.Cert != "":
		return nil, errors.New("--cert is for the device of --device: give that too")
	case file == "":
		return nil, nil
	}
	opened, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("--device: %w", err)
	}
	defer opened.Close()
	all, err := registry.ReadCredentials(opened)
	if err != nil {
		return nil, fmt.Errorf("--device: %s: %w", file, err)
	}
	return &all[0], nil
}

func examine(cmd *cobra.Command, o doctor.Options) error {
	o.Config, o.Refused = loadConfig(cmd)
	o.By, o.Now = whoami()+" with doctor", time.Now
	c := &o.Config
	c.MQTT.Listen, c.MQTT.TLS.Listen, c.MQTT.WebSocket.Listen = reachable(c.MQTT.Listen), reachable(c.MQTT.TLS.Listen), reachable(c.MQTT.WebSocket.Listen)
	c.HTTP.Listen = reachable(c.HTTP.Listen)
	scheme := "http"
	if c.HTTP.TLS.Cert != "" {
		scheme = "https"
	}
	o.Ready = func(ctx context.Context) error { return askReady(ctx, scheme, c.HTTP.Listen) }
	checks := doctor.Run(cmd.Context(), o)
	print := doctor.Print
	if asJSON(cmd) {
		print = doctor.PrintJSON
	}
	if err := print(cmd.OutOrStdout(), checks); err != nil {
		return err
	}
	if failed := doctor.Failed(checks); len(failed) > 0 {
		return fmt.Errorf("not in order: %s", strings.Join(failed, ", "))
	}
	return nil
}
