package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/pulsegate/pulsegate/bridge/egress"
)

func newWatch() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "watch [--late | --rejections] [--all] [--follow] [--json]",
		Short: "Show verified readings, or rejections, as they are stored",
		Long: `Show verified readings as they are stored, each once and none left out, until
interrupted; with --late those that were too old for triage when they came, and with
--rejections what was refused, and why. It uses the consumer's credentials, and for
rejections those of the security officer.

With --all it begins with the oldest that is stored and ends when it has caught up;
with --all --follow it then goes on with the new ones.

With --json each line is one object:
  subject   the NATS subject
  headers   the message's headers, each a string, or an array where it occurs more
            than once; Nats-Sequence and Nats-Time-Stamp are its place in the stream
            and when it was stored
  data      the payload, which is JSON: the same value, number for number, without
            white space between the members, unprintable characters escaped
What is no JSON, which the gate never stores, would come as data_base64.`,
		Example: `  pulsegate watch
  pulsegate watch --all --json | jq -c .data
  pulsegate watch --late --all
  pulsegate watch --rejections --all --follow`,
		Args: cobra.NoArgs,
		RunE: runWatch,
	}
	connectFlags(cmd)
	cmd.Flags().Bool("late", false, "show readings that came too late for triage")
	cmd.Flags().Bool("rejections", false, "show what was refused")
	cmd.MarkFlagsMutuallyExclusive("late", "rejections")
	cmd.Flags().Bool("all", false, "begin with the oldest that is stored, and end when caught up")
	cmd.Flags().Bool("follow", false, "with --all, go on with what is stored from then on")
	cmd.Flags().Bool("json", false, "print one JSON object a line")
	cmd.Flags().Uint("count", 0, "end after so many; 0 is no `limit`")
	return cmd
}

// errEnough ends a watch that has shown as many as were asked for.
var errEnough = errors.New("enough")

func runWatch(cmd *cobra.Command, _ []string) error {
	role, stream, subject := consumer, egress.StreamVitals, egress.SubjectLive
	switch {
	case given(cmd, "late"):
		subject = egress.SubjectLate
	case given(cmd, "rejections"):
		role, stream, subject = security, egress.StreamRejections, egress.SubjectRejections
	}
	nc, err := connect(cmd, role)
	if err != nil {
		return err
	}
	defer nc.Close()
	reader, err := egress.NewReader(nc, stream, subject)
	if err != nil {
		return err
	}
	limit, _ := cmd.Flags().GetUint("count")
	show := limited(newLines(cmd, stream).show, limit)
	err = forbidden(cmd, watch(cmd, nc, reader, show))
	if errors.Is(err, errEnough) || cmd.Context().Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func watch(cmd *cobra.Command, nc *nats.Conn, reader *egress.Reader, show func(egress.Stored) error) error {
	from := uint64(0)
	switch {
	case given(cmd, "all") && !given(cmd, "follow"):
		_, err := reader.Read(cmd.Context(), from, show)
		return err
	case !given(cmd, "all"):
		last, err := reader.Last(cmd.Context())
		if err != nil {
			return err
		}
		from = last + 1
	}
	note := func(text string) { fmt.Fprintf(cmd.ErrOrStderr(), "pulsegate: %s\n", text) }
	nc.SetDisconnectErrHandler(func(_ *nats.Conn, err error) {
		if err != nil {
			note("the connection to NATS is lost; waiting for it")
		}
	})
	nc.SetReconnectHandler(func(*nats.Conn) { note("connected to NATS again") })
	note("watching; end with Ctrl-C")
	return reader.Follow(cmd.Context(), from, show)
}

// limited ends after so many messages, 0 for never.
func limited(show func(egress.Stored) error, limit uint) func(egress.Stored) error {
	shown := uint(0)
	return func(m egress.Stored) error {
		if err := show(m); err != nil {
			return err
		}
		if shown++; shown == limit {
			return errEnough
		}
		return nil
	}
}

func given(cmd *cobra.Command, flag string) bool {
	yes, _ := cmd.Flags().GetBool(flag)
	return yes
}
