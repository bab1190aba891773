package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/pulsegate/pulsegate/bridge/registry"
)

// askLimit bounds one question to the service.
const askLimit = 15 * time.Second

func newDevice() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "device",
		Short: "Enrol, list and remove devices of a running service",
	}
	connectFlags(cmd)
	cmd.PersistentFlags().Bool("json", false, "print one JSON object a line")
	cmd.AddCommand(newDeviceAdd(), newDeviceList(), newDeviceShow(), newDeviceRemove(), newDeviceImport())
	return cmd
}

// ask runs a verb against the service with the operator's credentials.
func ask(cmd *cobra.Command, verb func(context.Context, *registry.Client) error) error {
	nc, err := connect(cmd, operator)
	if err != nil {
		return err
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), askLimit)
	defer cancel()
	return verb(ctx, registry.NewClient(nc))
}

func newDeviceAdd() *cobra.Command {
	var patient string
	cmd := &cobra.Command{
		Use:   "add ID --patient ID",
		Short: "Enrol a device and print its credentials",
		Long: `Enrol a device for a patient, and print what the device must know: its topic, its
MQTT user name and password, and its HMAC key as 64 hexadecimal digits.`,
		Example: `  pulsegate device add w-0001 --patient p-0001
  pulsegate device add w-0001 --patient p-0001 --json >> credentials.jsonl`,
		Args: exactlyOne("the device's id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(cmd, func(ctx context.Context, c *registry.Client) error {
				credentials, err := c.Add(ctx, args[0], patient)
				if err != nil {
					return err
				}
				return show(cmd, credentials, printCredentials)
			})
		},
	}
	cmd.Flags().StringVar(&patient, "patient", "", "`id` of the patient who wears the device (required)")
	_ = cmd.MarkFlagRequired("patient")
	return cmd
}

func newDeviceList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the devices",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(cmd, func(ctx context.Context, c *registry.Client) error {
				entries, err := c.List(ctx)
				if err != nil {
					return err
				}
				if asJSON(cmd) {
					return printLines(cmd.OutOrStdout(), entries)
				}
				return printTable(cmd.OutOrStdout(), entries)
			})
		},
	}
}

func newDeviceShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show a device, without its secrets",
		Args:  exactlyOne("the device's id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(cmd, func(ctx context.Context, c *registry.Client) error {
				entry, err := c.Show(ctx, args[0])
				if err != nil {
					return err
				}
				return show(cmd, entry, func(w io.Writer, e registry.Entry) error {
					return printTable(w, []registry.Entry{e})
				})
			})
		},
	}
}

func newDeviceRemove() *cobra.Command {
	return &cobra.Command{
		Use:   "remove ID",
		Short: "Remove a device: from then on it is unknown, and its secrets never come back",
		Args:  exactlyOne("the device's id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(cmd, func(ctx context.Context, c *registry.Client) error {
				if err := c.Remove(ctx, args[0]); err != nil {
					return err
				}
				removed := struct {
					DeviceID string `json:"removed"`
				}{args[0]}
				return show(cmd, removed, func(w io.Writer, _ struct {
					DeviceID string `json:"removed"`
				}) error {
					_, err := fmt.Fprintf(w, "removed %s\n", args[0])
					return err
				})
			})
		},
	}
}

// exactlyOne is an argument check that says what is missing.
func exactlyOne(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("%s takes one argument, %s, but got %d; see `%s --help`", cmd.CommandPath(), what, len(args), cmd.CommandPath())
		}
		return nil
	}
}

func asJSON(cmd *cobra.Command) bool {
	yes, _ := cmd.Flags().GetBool("json")
	return yes
}

func show[T any](cmd *cobra.Command, value T, text func(io.Writer, T) error) error {
	if asJSON(cmd) {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(value)
	}
	return text(cmd.OutOrStdout(), value)
}

func printLines[T any](w io.Writer, values []T) error {
	encoder := json.NewEncoder(w)
	for _, v := range values {
		if err := encoder.Encode(v); err != nil {
			return err
		}
	}
	return nil
}

func printCredentials(w io.Writer, c registry.Credentials) error {
	_, err := fmt.Fprintf(w, "device    %s\npatient   %s\ntopic     %s\nusername  %s\npassword  %s\nkey       %s\n",
		c.DeviceID, c.PatientID, c.Topic, c.Username, c.Password, c.Key)
	return err
}

func printTable(w io.Writer, entries []registry.Entry) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "DEVICE\tPATIENT\tGENERATION\tADDED")
	for _, e := range entries {
		fmt.Fprintf(table, "%s\t%s\t%d\t%s\n", e.DeviceID, e.PatientID, e.Generation, e.Added.Format(time.RFC3339))
	}
	return table.Flush()
}
