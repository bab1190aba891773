package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/device-sim/ledger"
)

// allVitals are live and late readings.
const allVitals = "vitals.>"

// askPatience bounds the question for the stream's state.
const askPatience = 10 * time.Second

// settling are the flags of settle.
type settling struct {
	ledgers                      []string
	nats, natsFile, ignoreBefore string
	json                         bool
}

func settleCommand() *cobra.Command {
	s := &settling{}
	c := &cobra.Command{
		Use:   "settle --ledger DIR [--ledger DIR...] [--nats-file FILE]",
		Short: "Compare what was sent and acknowledged with what is stored",
		Long: `settle compares ledgers, as device-sim --ledger writes them, with the whole stream
of verified readings, live and late, and says what is

  lost          acknowledged, but not stored
  stored twice  stored more than once
  forged        stored, but sent by no honest device of the ledgers
  misfiled      stored under a subject that does not name its patient and device

and how often a reading was stored after one of the same device that is signed
later: sending again may cause that, and consumers order by timestamp and seq, so
it is only counted. The exit status is 0 only where none of the four was found and
something was acknowledged.

Settle when the senders of the ledgers have ended. Every stored reading that is in
none of the ledgers counts as forged: give all of them, or leave out with
--ignore-before what other senders stored before. A reading that the stream has
let go by its age counts as lost.

NATS is reached as a consumer of readings: by --nats, by --nats-file, or else by
the URL in $` + consumerVariable + `.`,
		Example: `  device-sim settle --ledger sent --nats-file ~/.local/state/pulsegate/consumer.url
  device-sim settle --ledger ward-1 --ledger ward-2 --json | jq .lost`,
		Args:         cobra.NoArgs,
		SilenceUsage: true, SilenceErrors: true,
		RunE: func(c *cobra.Command, _ []string) error { return s.run(c.Context(), c.OutOrStdout()) },
	}
	f := c.Flags()
	f.StringArrayVar(&s.ledgers, "ledger", nil, "a `directory` with the account of what was sent; can be repeated")
	f.StringVar(&s.nats, "nats", "", "NATS `URL` with the consumer's credentials (visible to other users of this machine)")
	f.StringVar(&s.natsFile, "nats-file", "", "a `file` that holds the URL")
	f.StringVar(&s.ignoreBefore, "ignore-before", "", "leave out what other senders stored before this `time`, as in 2026-01-02T15:04:05Z")
	f.BoolVar(&s.json, "json", false, "print the account as JSON")
	if err := c.MarkFlagRequired("ledger"); err != nil {
		panic(err) // the flag is declared above
	}
	c.MarkFlagsMutuallyExclusive("nats", "nats-file")
	return c
}

func (s *settling) run(ctx context.Context, out io.Writer) error {
	options, err := s.options()
	if err != nil {
		return err
	}
	url, err := consumerURL(s.nats, s.natsFile)
	if err != nil {
		return err
	}
	account := ledger.NewSettlement(options)
	for _, dir := range s.ledgers {
		if err := ledger.Walk(dir, account.Enter); err != nil {
			return err
		}
	}
	state, err := readStream(ctx, url, account)
	if err != nil {
		return err
	}
	r := newReport(account.Account(), state)
	if err := s.print(out, r); err != nil {
		return err
	}
	if len(r.Failures) > 0 {
		return fmt.Errorf("settle: %s", strings.Join(r.Failures, "; "))
	}
	return nil
}

func (s *settling) print(out io.Writer, r report) error {
	if s.json {
		return json.NewEncoder(out).Encode(r)
	}
	_, err := io.WriteString(out, r.text())
	return err
}

func (s *settling) options() (ledger.SettleOptions, error) {
	if s.ignoreBefore == "" {
		return ledger.SettleOptions{}, nil
	}
	at, err := time.Parse(time.RFC3339Nano, s.ignoreBefore)
	if err != nil {
		return ledger.SettleOptions{}, fmt.Errorf("--ignore-before: %q is no time with a zone, as in 2026-01-02T15:04:05Z", s.ignoreBefore)
	}
	return ledger.SettleOptions{IgnoreBefore: at}, nil
}

// readStream stores everything of the stream in the settlement and returns the
// stream's state before that.
func readStream(ctx context.Context, url string, account *ledger.Settlement) (jetstream.StreamState, error) {
	ctx, refuse := context.WithCancelCause(ctx)
	defer refuse(nil)
	nc, err := dialConsumer(url, refuse)
	if err != nil {
		return jetstream.StreamState{}, err
	}
	defer nc.Close()
	state, err := readAll(ctx, nc, func(m egress.Stored) error {
		account.Store(ledger.StoredReading{Subject: m.Subject, Payload: m.Data, Sequence: m.Sequence, Stored: m.Time})
		return ctx.Err()
	})
	// A refused request is only told by the connection; the read itself merely
	// gets no answer.
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		err = context.Cause(ctx)
	}
	return state, err
}

func readAll(ctx context.Context, nc *nats.Conn, each func(egress.Stored) error) (jetstream.StreamState, error) {
	reader, err := egress.NewReader(nc, egress.StreamVitals, allVitals)
	if err != nil {
		return jetstream.StreamState{}, err
	}
	state, err := streamState(ctx, nc)
	if err != nil {
		return state, err
	}
	next, err := reader.Read(ctx, 1, each)
	if err != nil {
		return state, err
	}
	// What was not read would count as lost.
	if state.Msgs > 0 && next <= state.LastSeq {
		return state, fmt.Errorf("stream %s has been read only to %d of %d: try again when all replicas have caught up", egress.StreamVitals, next-1, state.LastSeq)
	}
	return state, nil
}

func streamState(ctx context.Context, nc *nats.Conn) (jetstream.StreamState, error) {
	bounded, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	js, err := jetstream.New(nc)
	if err != nil {
		return jetstream.StreamState{}, fmt.Errorf("jetstream: %w", err)
	}
	stream, err := js.Stream(bounded, egress.StreamVitals)
	switch {
	case err == nil:
		return stream.CachedInfo().State, nil
	case errors.Is(err, jetstream.ErrStreamNotFound):
		err = errors.New("there is none: is this the NATS of a gate?")
	case errors.Is(err, context.DeadlineExceeded):
		err = egress.ErrNoAnswer
	}
	return jetstream.StreamState{}, fmt.Errorf("stream %s: %w", egress.StreamVitals, err)
}
