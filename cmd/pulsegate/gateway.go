package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/pulsegate/pulsegate/bridge/registry"
)

func newGateway() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "gateway",
		Short: "Enrol, limit, revoke and list gateways that carry devices' readings",
		Long: `Enrol and look after gateways: connections that bring the readings of devices which do
not connect themselves. A gateway signs nothing, so it can bring only what its devices
have signed, and only of the devices that it carries.`,
		Example: `  pulsegate gateway add g-01 --device w-0001 --prefix ward3-
  pulsegate gateway carry g-01 --prefix ward4-`,
	}
	connectFlags(cmd)
	jsonFlag(cmd)
	cmd.AddCommand(newGatewayAdd(), newList(registry.KindGateway), newShow(registry.KindGateway), newGatewayCarry(),
		newRevoke(registry.KindGateway), newRestore(registry.KindGateway), newRemove(registry.KindGateway))
	return cmd
}

func carryFlags(cmd *cobra.Command, devices, prefixes *[]string) {
	cmd.Flags().StringSliceVar(devices, "device", nil, "`id` of a device that it carries; may be given several times")
	cmd.Flags().StringSliceVar(prefixes, "prefix", nil, "`start` of the ids of devices that it carries; may be given several times")
}

func newGatewayAdd() *cobra.Command {
	n := registry.New{Kind: registry.KindGateway}
	cmd := &cobra.Command{
		Use:   "add ID [--device ID]... [--prefix START]...",
		Short: "Enrol a gateway and print its credentials",
		Long: `Enrol a gateway and print its MQTT user name and password; its MQTT client id must be
its id too. It carries the devices that --device names, enrolled or not yet, and those
whose ids begin with a --prefix; without either it carries none until
"pulsegate gateway carry".

Devices and gateways share one space of ids. An id that is taken is an error.`,
		Example: `  pulsegate gateway add g-01 --device w-0001 --device w-0002
  pulsegate gateway add g-01 --prefix ward3- --ward 3A --json`,
		Args: exactlyOne("the gateway's id"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			n.ID = args[0]
			if n.Labels, err = givenLabels(cmd); err != nil {
				return err
			}
			return add(cmd, n, func(r registry.Result) error {
				return show(cmd, gatewayCredentials{r.Entry.ID, r.Credentials.Username, r.Credentials.Password}, printGatewayCredentials)
			})
		},
	}
	carryFlags(cmd, &n.Carries, &n.Prefixes)
	placeFlags(cmd, &n)
	return cmd
}

type gatewayCredentials struct {
	GatewayID string `json:"gateway_id"`
	Username  string `json:"username"`
	Password  string `json:"password"`
}

func printGatewayCredentials(w io.Writer, c gatewayCredentials) error {
	_, err := fmt.Fprintf(w, "gateway   %s\nusername  %s\npassword  %s\n", c.GatewayID, c.Username, c.Password)
	return err
}

func newGatewayCarry() *cobra.Command {
	var devices, prefixes []string
	var nothing bool
	cmd := &cobra.Command{
		Use:   "carry ID ([--device ID]... [--prefix START]... | --nothing)",
		Short: "Set for which devices a gateway may bring readings",
		Long: `Set for which devices a gateway may bring readings: those named, and no others from
now on. A gateway that carries them already stays as it is, with exit status 0.`,
		Example: `  pulsegate gateway carry g-01 --device w-0001 --prefix ward3-
  pulsegate gateway carry g-01 --nothing`,
		Args: exactlyOne("the gateway's id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if nothing == (len(devices)+len(prefixes) > 0) {
				return errors.New("say what the gateway carries: --device and --prefix, or else --nothing")
			}
			return change(cmd, func(ctx context.Context, c *registry.Client) (registry.Result, error) {
				return c.Carry(ctx, args[0], devices, prefixes)
			}, func(r registry.Result) error {
				return changed(cmd, args[0], "carries "+carriage(r.Entry))(r)
			})
		},
	}
	carryFlags(cmd, &devices, &prefixes)
	cmd.Flags().BoolVar(&nothing, "nothing", false, "it carries no device any more")
	return cmd
}
