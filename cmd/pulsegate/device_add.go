package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/pulsegate/pulsegate/bridge/registry"
)

func newDeviceAdd() *cobra.Command {
	n := registry.New{Kind: registry.KindDevice}
	var keyFile string
	cmd := &cobra.Command{
		Use:   "add ID --patient ID",
		Short: "Enrol a device and print its credentials",
		Long: `Enrol a device for a patient, and print what the device must know: its topic, its
MQTT user name and password, and its HMAC key in hexadecimal.

A device that has a key already brings it with --key-file: a file that holds 16 to
128 bytes in hexadecimal or base64, or - for the standard input.

An id that is enrolled already is an error, whatever its patient: its credentials are
not printed again.`,
		Example: `  pulsegate device add w-0001 --patient p-0001
  pulsegate device add w-0001 --patient p-0001 --json >> credentials.jsonl
  pulsegate device add w-0001 --patient p-0001 --ward 3A --label model=x2 --key-file key.hex`,
		Args: exactlyOne("the device's id"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			n.ID = args[0]
			if n.Labels, err = givenLabels(cmd); err != nil {
				return err
			}
			if n.Key, err = ownKey(cmd, keyFile); err != nil {
				return err
			}
			return add(cmd, n, func(r registry.Result) error { return show(cmd, *r.Credentials, printCredentials) })
		},
	}
	cmd.Flags().StringVar(&n.Patient, "patient", "", "`id` of the patient who wears the device (required)")
	cmd.Flags().StringVar(&keyFile, "key-file", "", "`file` that holds the device's own signing key")
	placeFlags(cmd, &n)
	_ = cmd.MarkFlagRequired("patient")
	return cmd
}

// placeFlags are what people know an entry by.
func placeFlags(cmd *cobra.Command, n *registry.New) {
	cmd.Flags().StringVar(&n.Ward, "ward", "", "`ward` that it belongs to")
	cmd.Flags().StringArray("label", nil, "a `name=value` of your own; may be given several times")
}

// add enrols a device or gateway; print gets its credentials.
func add(cmd *cobra.Command, n registry.New, print func(registry.Result) error) error {
	if err := checkText("--ward", n.Ward); err != nil {
		return err
	}
	err := change(cmd, func(ctx context.Context, c *registry.Client) (registry.Result, error) { return c.Add(ctx, n) }, print)
	if errors.Is(err, registry.ErrExists) {
		return fmt.Errorf("%w; see `pulsegate %s show %s`", err, n.Kind, n.ID)
	}
	return err
}

func givenLabels(cmd *cobra.Command) (map[string]string, error) {
	pairs, _ := cmd.Flags().GetStringArray("label")
	labels, err := parseLabels(pairs)
	if err != nil {
		return nil, fmt.Errorf("--label: %w", err)
	}
	return labels, nil
}

// ownKey reads an imported key, or returns nil where no file is named.
func ownKey(cmd *cobra.Command, file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	text, err := readInput(cmd, []string{file})
	if err != nil {
		return nil, fmt.Errorf("--key-file: %w", err)
	}
	key, err := registry.ParseKey(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return key, nil
}

func printCredentials(w io.Writer, c registry.Credentials) error {
	_, err := fmt.Fprintf(w, "device    %s\npatient   %s\ntopic     %s\nusername  %s\npassword  %s\nkey       %s\n",
		c.DeviceID, c.PatientID, c.Topic, c.Username, c.Password, c.Key)
	return err
}
