package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pulsegate/pulsegate/device-sim/ledger"
)

// report is a settled account, in the form of --json. Sent to StoredTwice count
// readings of honest devices.
type report struct {
	Sent         int `json:"sent"`
	Acknowledged int `json:"acknowledged"`
	Delivered    int `json:"delivered"`
	// StoredLive and StoredLate are what Delivered is made of.
	StoredLive int `json:"stored_live"`
	StoredLate int `json:"stored_late"`
	Lost       int `json:"lost"`
	// StoredTwice counts the copies beyond each reading's first.
	StoredTwice int             `json:"stored_twice"`
	Forged      int             `json:"forged"`
	Misfiled    int             `json:"misfiled"`
	LeftOut     int             `json:"left_out"`
	Inversions  inversions      `json:"inversions"`
	Stream      extent          `json:"stream"`
	Findings    ledger.Findings `json:"findings"`
	// Failures say what the exit status is not 0 for.
	Failures []string `json:"failures"`
}

type inversions struct {
	Total   int `json:"total"`
	Devices int `json:"devices"`
}

// extent is what the stream held when it began to be read.
type extent struct {
	Messages      uint64 `json:"messages"`
	FirstSequence uint64 `json:"first_sequence"`
	LastSequence  uint64 `json:"last_sequence"`
}

func newReport(a ledger.Account, state jetstream.StreamState) report {
	r := report{
		Sent: a.Authentic.Sent, Acknowledged: a.Authentic.Acknowledged, Delivered: a.Authentic.Delivered,
		StoredLive: a.Authentic.Live, StoredLate: a.Authentic.Late,
		Lost: a.Authentic.Lost, StoredTwice: a.Authentic.Duplicated, Forged: a.Forged, Misfiled: a.Misfiled,
		LeftOut: a.LeftOut, Inversions: inversions(a.Inversions),
		Stream:   extent{state.Msgs, state.FirstSeq, state.LastSeq},
		Findings: a.Findings, Failures: []string{},
	}
	if r.Acknowledged == 0 {
		r.Failures = append(r.Failures, "nothing was acknowledged")
	}
	for _, k := range r.kinds() {
		if k.count > 0 {
			r.Failures = append(r.Failures, fmt.Sprintf("%d %s", k.count, k.name))
		}
	}
	return r
}

// kind is one kind of finding.
type kind struct {
	name, meaning string
	count         int
	first         []ledger.Finding
}

func (r report) kinds() []kind {
	return []kind{
		{"lost", "acknowledged, but not stored", r.Lost, r.Findings.Lost},
		{"stored twice", "copies beyond the first", r.StoredTwice, r.Findings.Duplicated},
		{"forged", "stored, but sent by no honest device of the ledgers", r.Forged, r.Findings.Forged},
		{"misfiled", "not under their patient and device", r.Misfiled, r.Findings.Misfiled},
	}
}

func (r report) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "ledgers: sent %d, acknowledged %d\n", r.Sent, r.Acknowledged)
	fmt.Fprintf(&b, "stream:  %d messages, sequences %d to %d; delivered %d (live %d, late %d)",
		r.Stream.Messages, r.Stream.FirstSequence, r.Stream.LastSequence, r.Delivered, r.StoredLive, r.StoredLate)
	if r.LeftOut > 0 {
		fmt.Fprintf(&b, ", left out %d", r.LeftOut)
	}
	fmt.Fprintf(&b, "\norder:   %d stored after one signed later, of %d devices\n", r.Inversions.Total, r.Inversions.Devices)
	fmt.Fprintf(&b, "lost %d, stored twice %d, forged %d, misfiled %d\n", r.Lost, r.StoredTwice, r.Forged, r.Misfiled)
	for _, k := range r.kinds() {
		k.print(&b)
	}
	if r.Lost > 0 && r.Stream.FirstSequence > 1 {
		fmt.Fprintf(&b, "\nThe stream begins at sequence %d: what was stored before is gone from it, and counts as lost.\n", r.Stream.FirstSequence)
	}
	return b.String()
}

func (k kind) print(b *strings.Builder) {
	if k.count == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s (%s): %d\n", k.name, k.meaning, k.count)
	for _, f := range k.first {
		fmt.Fprintf(b, "  %s\n", line(f))
	}
	if more := k.count - len(k.first); more > 0 {
		fmt.Fprintf(b, "  and %d more\n", more)
	}
}

// line is a finding on one line. A subject may be what an attacker chose, so it
// is quoted.
func line(f ledger.Finding) string {
	name := "identity " + f.Identity
	if f.Identity == "" {
		name = "sha256 " + f.SHA256
	}
	parts := []string{fmt.Sprintf("device %q", f.Device), name}
	if f.Sequence > 0 {
		parts = append(parts, fmt.Sprintf("sequence %d", f.Sequence))
	}
	if f.FirstSequence > 0 {
		parts = append(parts, fmt.Sprintf("first at %d", f.FirstSequence))
	}
	if f.Subject != "" {
		parts = append(parts, fmt.Sprintf("subject %q", f.Subject))
	}
	if f.Attack != "" {
		parts = append(parts, "attack "+f.Attack)
	}
	if !f.Acknowledged.IsZero() {
		parts = append(parts, "acknowledged "+f.Acknowledged.Format(time.RFC3339Nano))
	}
	return strings.Join(parts, "  ")
}
