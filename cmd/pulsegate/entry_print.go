package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/pulsegate/pulsegate/bridge/registry"
)

func printTable(w io.Writer, kind registry.Kind, entries []registry.Entry, now time.Time) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if kind == registry.KindGateway {
		fmt.Fprintln(table, "GATEWAY\tCARRIES\tWARD\tSTATE\tADDED")
	} else {
		fmt.Fprintln(table, "DEVICE\tPATIENT\tWARD\tSTATE\tGENERATION\tADDED")
	}
	for _, e := range entries {
		place := fmt.Sprintf("%s\t%s", orDash(e.Ward), e.State)
		if kind == registry.KindGateway {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", e.ID, carriage(e), place, e.Added.Format(time.RFC3339))
			continue
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", e.ID, e.Patient(), place, generationCell(e, now), e.Added.Format(time.RFC3339))
	}
	return table.Flush()
}

func generationCell(e registry.Entry, now time.Time) string {
	if e.Pending(now) {
		return fmt.Sprintf("%d (pending)", e.Generation())
	}
	return fmt.Sprint(e.Generation())
}

// orDash makes an empty cell visible, and what others wrote harmless.
func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return shown(text)
}

// shown writes text from outside so that it drives no terminal.
func shown(text string) string {
	if checkText("", text) != nil {
		return word(text)
	}
	return text
}

// carriage says what a gateway may bring: ids, and prefixes with a star.
func carriage(e registry.Entry) string {
	all := notNil(e.Carries)
	for _, prefix := range e.Prefixes {
		all = append(all, prefix+"*")
	}
	return orDash(strings.Join(all, ","))
}

func printEntry(w io.Writer, e registry.Entry, now time.Time) error {
	p := &printer{w: w}
	p.line("%-11s %s", e.Kind, e.ID)
	if e.Kind == registry.KindDevice {
		p.line("patient     %s", e.Patient())
	} else {
		p.line("carries     %s", carriage(e))
	}
	p.line("ward        %s", orDash(e.Ward))
	p.line("labels      %s", orDash(joinLabels(e.Labels, ", ")))
	p.line("state       %s", e.State)
	for _, k := range e.Keys {
		p.line("generation  %s", generationLine(k, now))
	}
	p.line("added       %s", e.Added.Format(time.RFC3339))
	p.line("changed     %s by %s", e.Changed.Format(time.RFC3339), orDash(e.ChangedBy))
	for _, a := range e.Assignments {
		p.line("worn by     %s from %s%s", a.PatientID, a.From.Format(time.RFC3339), ending(a.Until))
	}
	return p.err
}

func generationLine(k registry.KeyEntry, now time.Time) string {
	text := fmt.Sprintf("%d from %s%s", k.Generation, k.From.Format(time.RFC3339), ending(k.Until))
	switch {
	case !k.Until.IsZero() && !now.Before(k.Until):
		text += ", ended"
	case !k.Used.IsZero():
		text += ", used since " + k.Used.Format(time.RFC3339)
	}
	if k.Sealed != nil {
		text += ", imported"
	}
	return text + ", master " + k.Master
}

func ending(until time.Time) string {
	if until.IsZero() {
		return ""
	}
	return " until " + until.Format(time.RFC3339)
}
