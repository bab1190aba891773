package main

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/pulsegate/pulsegate/bridge/reading"
	"github.com/pulsegate/pulsegate/bridge/verify"
	"github.com/pulsegate/pulsegate/cmd/pulsegate/diagnose"
)

// judgement is what verify says. Bytes are base64 in JSON.
type judgement struct {
	Outcome    string     `json:"outcome"`
	Reason     string     `json:"reason,omitempty"`
	Topic      string     `json:"topic"`
	DeviceID   string     `json:"device_id,omitempty"`
	PatientID  string     `json:"patient_id,omitempty"`
	Generation uint32     `json:"generation,omitempty"`
	JudgedAt   time.Time  `json:"judged_at"`
	Timestamp  *time.Time `json:"timestamp,omitempty"`
	AgeMS      *int64     `json:"age_ms,omitempty"`
	Unchecked  string     `json:"unchecked,omitempty"`
	// SignedText is what the signature must cover, Expected the MAC of it.
	SignedText []byte `json:"signed_text,omitempty"`
	Signature  string `json:"signature,omitempty"`
	Expected   string `json:"expected,omitempty"`
	// ReallySigned is what was signed instead, where that was found.
	ReallySigned []byte          `json:"really_signed,omitempty"`
	Slips        []diagnose.Slip `json:"slips,omitempty"`
}

func newJudgement(v verify.Verdict, known *devices, payload []byte) judgement {
	j := judgement{Outcome: v.Outcome.String(), Reason: v.Reason, Topic: known.topic, JudgedAt: v.Now.UTC()}
	if v.Device != nil {
		j.DeviceID, j.PatientID, j.Unchecked = v.Device.ID, v.Device.Patient, known.unchecked
	}
	if v.Authentic {
		j.Generation, j.Signature = v.Generation, v.Identity.String()
	}
	if !v.Reading.Timestamp.IsZero() {
		age := v.Age().Milliseconds()
		j.Timestamp, j.AgeMS = &v.Reading.Timestamp, &age
	}
	if envelope, err := reading.Split(payload); err == nil && v.Outcome == verify.BadSignature {
		j.SignedText, j.Signature = envelope.SignedText(), envelope.Signature.String()
		j.Expected = reading.NewMAC(v.Device.Keys[0].Secret).Sum(envelope).String()
	}
	report := slips(v, known, payload)
	j.Slips, j.ReallySigned = report.Slips, report.Signed
	return j
}

// printer writes lines and keeps the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

func printJudgement(w io.Writer, j judgement) error {
	p := &printer{w: w}
	if j.Reason == "" {
		p.line("%s", j.Outcome)
	} else {
		p.line("%s: %s", j.Outcome, j.Reason)
	}
	p.line("  topic          %s", quoted(j.Topic))
	if j.DeviceID != "" {
		p.line("  device         %s%s%s", j.DeviceID, prefixed(", patient ", j.PatientID), generation(j.Generation))
	}
	if j.Timestamp != nil {
		p.line("  measured       %s, %s", j.Timestamp.Format(time.RFC3339Nano), distance(time.Duration(*j.AgeMS)*time.Millisecond))
	}
	p.signature(j)
	if j.Unchecked != "" {
		p.line("  not checked    %s", j.Unchecked)
	}
	for _, s := range j.Slips {
		p.line("slip %s, %s: %s", s.Name, certainty(s.Proven), s.Found)
		p.line("  what to do     %s", s.Remedy)
	}
	if j.Expected != "" && len(j.Slips) == 0 {
		p.line("no slip that is known explains the signature: it was made with another key, or a byte was changed after signing")
		p.line("  what to do     compare the signed text with what the device signs, byte for byte, and the device's key with `pulsegate device add`'s")
	}
	return p.err
}

func (p *printer) signature(j judgement) {
	if j.Signature != "" {
		p.line("  signature      %s", j.Signature)
	}
	if j.Expected != "" {
		p.line("  expected       %s, the HMAC-SHA256 of the signed text under the device's key", j.Expected)
		p.line("  signed text    %d bytes: %s", len(j.SignedText), quoted(string(j.SignedText)))
	}
	if j.ReallySigned != nil {
		p.line("  really signed  %d bytes: %s", len(j.ReallySigned), quoted(string(j.ReallySigned)))
	}
	if j.ReallySigned != nil && j.SignedText != nil {
		p.line("  first differs  at byte %d, counted from 0", differs(j.SignedText, j.ReallySigned))
	}
}

// differs is the place of the first byte that two texts do not share.
func differs(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

func prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}

func generation(n uint32) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", key generation %d", n)
}

func distance(age time.Duration) string {
	if age < 0 {
		return (-age).String() + " after the time of judging"
	}
	return age.String() + " before the time of judging"
}

func certainty(proven bool) string {
	if proven {
		return "proven"
	}
	return "likely"
}

// quoted writes text from outside so that it drives no terminal and every byte
// can be told: between backquotes as it is, or as a Go string where some of it
// cannot be shown.
func quoted(text string) string {
	printable := func(r rune) bool { return ' ' <= r && r <= '~' && r != '`' }
	if bytes.IndexFunc([]byte(text), func(r rune) bool { return !printable(r) }) < 0 {
		return "`" + text + "`"
	}
	return strconv.QuoteToASCII(text)
}

// word writes text from outside like quoted, but bare where that is clear.
func word(text string) string {
	if text != "" && !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '`' }) {
		return text
	}
	return strconv.QuoteToASCII(text)
}
