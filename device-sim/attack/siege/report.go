package siege

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// mostFindings bounds what a row says about different things that went otherwise.
const mostFindings = 8

// Row is what came of one attack.
type Row struct {
	Attack string `json:"attack"`
	// Tried is AsExpected and Otherwise together.
	Tried      int `json:"tried"`
	AsExpected int `json:"as_expected"`
	Otherwise  int `json:"otherwise"`
	// Untried counts what needed a stolen device when the gate let none of them
	// in any more.
	Untried int `json:"untried"`
	// Findings say what happened otherwise, each once, the first few.
	Findings []string `json:"findings,omitempty"`
}

// Latencies are those of the honest device's readings, from the sending that was
// due to the acknowledgement.
type Latencies struct {
	// QuietP99 is that of the phase before the attacks, AttackedP99 during them.
	QuietP99    time.Duration `json:"quiet_p99_ns"`
	AttackedP99 time.Duration `json:"attacked_p99_ns"`
	// Quiet and Attacked are how many readings they are of.
	Quiet    int `json:"quiet"`
	Attacked int `json:"attacked"`
}

// Report is what came of a siege.
type Report struct {
	Rows   []Row     `json:"attacks"`
	Honest Latencies `json:"honest"`
}

func (r *Report) add(row Row) {
	i := slices.IndexFunc(r.Rows, func(old Row) bool { return old.Attack == row.Attack })
	if i < 0 {
		r.Rows = append(r.Rows, row)
		return
	}
	old := &r.Rows[i]
	old.Tried += row.Tried
	old.AsExpected += row.AsExpected
	old.Otherwise += row.Otherwise
	old.Untried += row.Untried
	for _, f := range row.Findings {
		old.find(f)
	}
}

// met counts what went as expected.
func (r *Row) met() { r.Tried++; r.AsExpected++ }

// otherwise counts what did not, and says so.
func (r *Row) otherwise(finding string) {
	r.Tried++
	r.Otherwise++
	r.find(finding)
}

func (r *Row) find(finding string) {
	if len(r.Findings) < mostFindings && !slices.Contains(r.Findings, finding) {
		r.Findings = append(r.Findings, finding)
	}
}

// Err is nil where everything was tried and went as expected.
func (r Report) Err() error {
	var otherwise, untried []string
	for _, row := range r.Rows {
		if row.Otherwise > 0 {
			otherwise = append(otherwise, row.Attack)
		}
		if row.Tried == 0 || row.Untried > 0 {
			untried = append(untried, row.Attack)
		}
	}
	switch {
	case len(otherwise) > 0:
		return fmt.Errorf("not as expected: %s", strings.Join(otherwise, ", "))
	case len(untried) > 0:
		return fmt.Errorf("could not be tried in full: %s", strings.Join(untried, ", "))
	}
	return nil
}

// Text is the report as a table.
func (r Report) Text() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ATTACK\tTRIED\tAS EXPECTED\tOTHERWISE\tWHAT HAPPENED OTHERWISE")
	for _, row := range r.Rows {
		findings := row.Findings
		if row.Untried > 0 {
			findings = append(findings, fmt.Sprintf("not tried, since no stolen device was let in: %d", row.Untried))
		}
		findings = append([]string{""}, findings...)[min(1, len(findings)):]
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%s\n", row.Attack, row.Tried, row.AsExpected, row.Otherwise, findings[0])
		for _, f := range findings[1:] {
			fmt.Fprintf(w, "\t\t\t\t%s\n", f)
		}
	}
	_ = w.Flush() // writing to memory does not fail
	fmt.Fprintf(&b, "\nhonest device, p99 until acknowledged: %s in quiet (%d readings), %s under attack (%d)\n",
		milliseconds(r.Honest.QuietP99), r.Honest.Quiet, milliseconds(r.Honest.AttackedP99), r.Honest.Attacked)
	return b.String()
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%.1f ms", d.Seconds()*1000) }

// p99 is the 99th percentile by nearest rank; 0 of none.
func p99(of []time.Duration) time.Duration {
	if len(of) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(of))
	return sorted[(len(sorted)*99+99)/100-1]
}
