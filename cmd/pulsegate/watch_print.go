package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/muesli/termenv"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/reading"
)

// lines prints stored messages, one a line.
type lines struct {
	out    *termenv.Output
	w      io.Writer
	format func(*lines, egress.Stored) ([]byte, error)
}

func newLines(cmd *cobra.Command, stream string) *lines {
	w := cmd.OutOrStdout()
	l := &lines{out: termenv.NewOutput(w), w: w, format: (*lines).reading}
	switch {
	case asJSON(cmd):
		l.format = (*lines).json
	case stream == egress.StreamRejections:
		l.format = (*lines).rejection
	}
	return l
}

func (l *lines) show(m egress.Stored) error {
	line, err := l.format(l, m)
	if err != nil {
		return err
	}
	_, err = l.w.Write(append(line, '\n'))
	return err
}

// jsonLine is a stored message as --json prints it.
type jsonLine struct {
	Subject string          `json:"subject"`
	Headers map[string]any  `json:"headers"`
	Data    json.RawMessage `json:"data,omitempty"`
	Base64  []byte          `json:"data_base64,omitempty"`
}

func (*lines) json(m egress.Stored) ([]byte, error) {
	line := jsonLine{Subject: m.Subject, Headers: map[string]any{
		jetstream.SequenceHeader: strconv.FormatUint(m.Sequence, 10),
		jetstream.TimeStampHeaer: m.Time.UTC().Format(time.RFC3339Nano),
	}}
	for name, values := range m.Header {
		if len(values) == 1 {
			line.Headers[name] = values[0]
		} else {
			line.Headers[name] = values
		}
	}
	if json.Valid(m.Data) {
		line.Data = m.Data
	} else {
		line.Base64 = m.Data
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	// Escaping < and > would only make the text longer.
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(line); err != nil {
		return nil, err
	}
	return escaped(bytes.TrimSuffix(b.Bytes(), []byte{'\n'})), nil
}

// escaped writes as \u what would drive a terminal or reorder its text. In JSON
// such characters can stand only within strings, where the escape means the
// same.
func escaped(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		switch {
		case unicode.IsPrint(r) && r != utf8.RuneError:
			out = append(out, text[:size]...)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		text = text[size:]
	}
	return out
}

func (l *lines) reading(m egress.Stored) ([]byte, error) {
	r, err := reading.Parse(m.Data)
	if err != nil {
		return []byte(l.dim(stamp(m.Time)) + "  " + word(m.Subject) + "  " + quoted(string(m.Data))), nil
	}
	line := fmt.Sprintf("%s  %s  %s  SpO2 %s %%  heart rate %s /min", l.dim(stamp(r.Timestamp)), l.bold(r.DeviceID), l.bold(r.PatientID),
		l.color(number(r.SpO2), termenv.ANSICyan), l.color(number(r.HeartRate), termenv.ANSIGreen))
	if r.HasSeq {
		line += l.dim("  seq " + strconv.FormatUint(r.Seq, 10))
	}
	return []byte(line), nil
}

func (l *lines) rejection(m egress.Stored) ([]byte, error) {
	var summary egress.RejectionSummary
	if err := json.Unmarshal(m.Data, &summary); err == nil && summary.LeftOut > 0 {
		return l.summary(summary), nil
	}
	var r egress.Rejection
	if err := json.Unmarshal(m.Data, &r); err != nil {
		return []byte(l.dim(stamp(m.Time)) + "  " + word(m.Subject) + "  " + quoted(string(m.Data))), nil
	}
	line := l.refused(r.Time, r.Spelled, r.Device)
	if r.Connection != "" {
		line += "  by " + word(r.Connection)
	}
	if r.Remote != "" {
		line += "  from " + word(r.Remote)
	}
	if r.Reason != "" {
		line += "  " + plain(r.Reason)
	}
	return []byte(line), nil
}

// summary shows rejections that were only counted.
func (l *lines) summary(r egress.RejectionSummary) []byte {
	line := l.refused(r.Until, r.Spelled, r.Device)
	if r.Remote != "" {
		line += "  from " + word(r.Remote)
	}
	return fmt.Appendf(nil, "%s  and %d more like it since %s, only counted", line, r.LeftOut, stamp(r.From))
}

// refused begins the line of a rejection.
func (l *lines) refused(at time.Time, outcome, device string) string {
	return fmt.Sprintf("%s  %s  %s", l.dim(stamp(at)), l.color(word(outcome), termenv.ANSIRed), l.bold(word(cmp.Or(device, "_"))))
}

// plain is a sentence of the gate's own, quoted only if it is none.
func plain(text string) string {
	for _, r := range text {
		if !unicode.IsPrint(r) {
			return strconv.QuoteToASCII(text)
		}
	}
	return text
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

func (l *lines) dim(text string) string  { return l.out.String(text).Faint().String() }
func (l *lines) bold(text string) string { return l.out.String(text).Bold().String() }

func (l *lines) color(text string, c termenv.ANSIColor) string {
	return l.out.String(text).Foreground(l.out.Color(strconv.Itoa(int(c)))).String()
}
