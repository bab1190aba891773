package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/pulsegate/pulsegate/bridge/reading"
	"github.com/pulsegate/pulsegate/bridge/registry"
)

func newSign() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sign (--device ID | --key HEX | --key-file FILE) [FILE]",
		Short: "Sign a reading as a device does",
		Long: `Read the text of a reading, one flat JSON object without a signature, and print the
payload that a device would publish: the same bytes, with the signature as last
member. The text comes from FILE, or from standard input.

The text must end in }, so one line end after it is left out. The payload is
printed without a line end, since that would not belong to it, but for a terminal.

--device asks the running service for the device's key. A key on the command line
can be seen by other users of the machine; --key-file FILE, holding the 64
hexadecimal digits (32 to 256 for an imported key), cannot.`,
		Example: `  printf '{"device_id":"w-0001","patient_id":"p-0001","timestamp":%s,"spo2":97,"heart_rate":72}' "$(date +%s)" |
      pulsegate sign --device w-0001 | mosquitto_pub -i w-0001 -u w-0001 -P PASSWORD -t wearables/w-0001/vitals -q 1 -s`,
		Args: atMostOne("a file"),
		RunE: runSign,
	}
	connectFlags(cmd)
	keyFlags(cmd, "device whose key the running service is asked for")
	return cmd
}

func runSign(cmd *cobra.Command, args []string) error {
	source, err := onlyOne(cmd, "device", "key", "key-file")
	if err != nil {
		return err
	}
	if source == "" {
		return fmt.Errorf("no key: give one of --device, --key or --key-file; see `%s --help`", cmd.CommandPath())
	}
	text, err := readInput(cmd, args)
	if err != nil {
		return err
	}
	key, err := signingKey(cmd, source)
	if err != nil {
		return err
	}
	payload, err := reading.Sign(key, withoutLineEnd(text))
	if err != nil {
		return err
	}
	if isTerminal(cmd.OutOrStdout()) {
		payload = append(payload, '\n')
	}
	_, err = cmd.OutOrStdout().Write(payload)
	return err
}

func signingKey(cmd *cobra.Command, source string) (key []byte, err error) {
	if source != "device" {
		return givenKey(cmd, source)
	}
	id, _ := cmd.Flags().GetString("device")
	err = ask(cmd, func(ctx context.Context, c *registry.Client) error {
		credentials, err := c.Credentials(ctx, id)
		if err != nil {
			return err
		}
		key, err = parseKey(credentials.Key, "the key of "+id)
		return err
	})
	return key, err
}

// withoutLineEnd takes off the one line end that editors and echo leave.
func withoutLineEnd(text []byte) []byte {
	text = bytes.TrimSuffix(text, []byte{'\n'})
	return bytes.TrimSuffix(text, []byte{'\r'})
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
