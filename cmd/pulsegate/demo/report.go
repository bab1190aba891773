package demo

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/pulsegate/pulsegate/device-sim/attack"
	"github.com/pulsegate/pulsegate/device-sim/ledger"
)

// Report is the settled account, in the form of --report.
type Report struct {
	Authentic ledger.Authentic          `json:"authentic"`
	Attacks   map[string]*ledger.Attack `json:"attacks"`
	Latency   Latency                   `json:"latency_ms"`

	failures []string
}

// Latency is from a wearable's first attempt to the consumer's receipt, in
// milliseconds.
type Latency struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

// Failures says, a line each, which promise the run did not keep.
func (r Report) Failures() []string { return r.failures }

func settle(entries []ledger.Entry, stored []delivery, rejections []ledger.Rejection, attacks []attack.Attack) Report {
	readings := make([]ledger.StoredReading, len(stored))
	for i, d := range stored {
		readings[i] = d.StoredReading
	}
	account := ledger.Settle(entries, readings)
	account.Attribute(entries, rejections)
	for _, a := range attacks {
		if account.Attacks[a.Name] == nil {
			account.Attacks[a.Name] = &ledger.Attack{Rejected: map[string]int{}}
		}
	}
	return Report{
		Authentic: account.Authentic, Attacks: account.Attacks,
		Latency: latency(entries, stored), failures: failures(account),
	}
}

func failures(a ledger.Account) []string {
	var all []string
	fail := func(n int, format string) {
		if n > 0 {
			all = append(all, fmt.Sprintf(format, n))
		}
	}
	if a.Authentic.Sent == 0 {
		all = append(all, "nothing authentic was sent")
	}
	fail(a.Authentic.Sent-a.Authentic.Acknowledged, "%d authentic readings were not acknowledged")
	fail(a.Authentic.Lost, "%d authentic readings were acknowledged and lost")
	fail(a.Authentic.Duplicated, "%d authentic readings were delivered twice")
	fail(a.Forged, "%d forged readings were delivered")
	fail(a.Misfiled, "%d readings were delivered under another patient or device")
	fail(a.Unattributed, "%d refusals were only counted, so that it is not known which attack met them")
	for _, name := range names(a.Attacks) {
		one := a.Attacks[name]
		met := one.Delivered
		for _, n := range one.Rejected {
			met += n
		}
		switch {
		case one.Sent == 0:
			all = append(all, "attack "+name+" sent nothing")
		case met < one.Sent:
			all = append(all, fmt.Sprintf("attack %s met no outcome %d times of %d", name, one.Sent-met, one.Sent))
		}
	}
	for met, n := range a.Undeclared {
		all = append(all, fmt.Sprintf("attack %s, which it did not declare, %d times", met, n))
	}
	slices.Sort(all)
	return all
}

func latency(entries []ledger.Entry, stored []delivery) Latency {
	sent := make(map[string]ledger.Entry, len(entries))
	for _, e := range entries {
		if e.Honest() {
			sent[string(e.Payload)] = e
		}
	}
	var all []float64
	for _, d := range stored {
		if e, ok := sent[string(d.Payload)]; ok {
			all = append(all, float64(d.at.Sub(e.Sent).Microseconds())/1000)
		}
	}
	slices.Sort(all)
	return Latency{P50: quantile(all, 0.50), P99: quantile(all, 0.99)}
}

// quantile is the nearest-rank one of sorted values, 0 of none.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func names(attacks map[string]*ledger.Attack) []string {
	all := make([]string, 0, len(attacks))
	for name := range attacks {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// Print writes the account for people.
func (r Report) Print(w io.Writer) error {
	a := r.Authentic
	var b strings.Builder
	fmt.Fprintf(&b, "\nThe account\n\nauthentic   sent %d   acknowledged %d   delivered %d   lost %d   delivered twice %d\n",
		a.Sent, a.Acknowledged, a.Delivered, a.Lost, a.Duplicated)
	fmt.Fprintf(&b, "latency     p50 %.1f ms   p99 %.1f ms, from the wearable to the consumer\n", r.Latency.P50, r.Latency.P99)
	if len(r.Attacks) > 0 {
		b.WriteString("\n")
		table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "ATTACK\tSENT\tREFUSED AS\tDELIVERED")
		for _, name := range names(r.Attacks) {
			one := r.Attacks[name]
			fmt.Fprintf(table, "%s\t%d\t%s\t%d\n", name, one.Sent, outcomes(one.Rejected), one.Delivered)
		}
		_ = table.Flush()
	}
	if len(r.failures) == 0 {
		b.WriteString("\nNothing forged passed, nothing acknowledged was lost.")
	}
	b.WriteString("\n")
	for _, f := range r.failures {
		fmt.Fprintf(&b, "FAILED: %s\n", f)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func outcomes(counts map[string]int) string {
	var parts []string
	for outcome, n := range counts {
		parts = append(parts, fmt.Sprintf("%s %d", outcome, n))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}
