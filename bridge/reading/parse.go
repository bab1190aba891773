package reading

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Parser parses payloads strictly, keeping its memory from one to the next. It
// is not safe for concurrent use. Its zero value is ready.
type Parser struct {
	buffer  bytes.Buffer
	decoder jsontext.Decoder
	// device and patient are the ids of the last reading: a connection mostly
	// brings the same two again, and comparing costs less than copying.
	device, patient string
}

// Parse parses one payload; see Parser.Parse.
func Parse(payload []byte) (Reading, error) { return new(Parser).Parse(payload) }

// Parse reads a payload as exactly one flat JSON object (RFC 8259, narrowed as in
// RFC 7493: valid UTF-8, no duplicate names, binary64 numbers) with the members that a
// reading must have, each in its range. It does not look at the signature. Its
// error wraps ErrInvalid, names the member at fault, and quotes no value.
func (p *Parser) Parse(payload []byte) (Reading, error) {
	var r Reading
	if quick := (plain{rest: payload}); quick.object(p, &r) {
		return r, nil
	}
	return p.full(payload)
}

// ParseSigned is Parse for a payload that Split has taken apart, which saves
// reading its end again.
func (p *Parser) ParseSigned(payload []byte, e Envelope) (Reading, error) {
	var r Reading
	if quick := (plain{rest: payload, tail: len(payload) - len(e.body)}); quick.object(p, &r) {
		return r, nil
	}
	return p.full(payload)
}

// full parses whatever plain does not take, and finds out what is wrong.
func (p *Parser) full(payload []byte) (Reading, error) {
	p.buffer.Reset()
	p.buffer.Write(payload)
	p.decoder.Reset(&p.buffer, jsontext.AllowDuplicateNames(false), jsontext.AllowInvalidUTF8(false))
	var r Reading
	if err := p.object(&r); err != nil {
		return Reading{}, err
	}
	return r, nil
}

// found is the set of known members that an object had.
type found uint8

const (
	foundDevice found = 1 << iota
	foundPatient
	foundTimestamp
	foundSeq
	foundSpO2
	foundHeartRate
	foundSignature

	foundAll = 1<<iota - 1
)

// names lists the known members in the order of the specification; only seq
// may be left out.
var names = [...]struct {
	bit  found
	name string
}{
	{foundDevice, "device_id"}, {foundPatient, "patient_id"}, {foundTimestamp, "timestamp"}, {foundSeq, "seq"},
	{foundSpO2, "spo2"}, {foundHeartRate, "heart_rate"}, {foundSignature, "signature"},
}

func (p *Parser) object(r *Reading) error {
	open, err := p.decoder.ReadToken()
	if err != nil {
		return syntax(err)
	}
	if open.Kind() != '{' {
		return invalid("the payload is not a JSON object")
	}
	var seen found
	for p.decoder.PeekKind() != '}' {
		name, err := p.decoder.ReadValue()
		if err != nil {
			return syntax(err)
		}
		bit, err := member(name)
		if err != nil {
			return err
		}
		if err := p.value(r, bit); err != nil {
			return err
		}
		seen |= bit
	}
	return p.end(seen)
}

// end reads the closing brace, makes sure that nothing follows it, and that no
// required member was missing.
func (p *Parser) end(seen found) error {
	if _, err := p.decoder.ReadToken(); err != nil {
		return syntax(err)
	}
	if _, err := p.decoder.ReadToken(); !errors.Is(err, io.EOF) {
		return invalid("something follows the JSON object")
	}
	for _, m := range names {
		if (seen|foundSeq)&m.bit == 0 {
			return invalid("the member %s is missing", m.name)
		}
	}
	return nil
}

// member finds which known member a quoted name is, or 0 for one that is
// carried along. A name that is a known one but for its case is refused,
// because consumers that match without case would take it.
func member(quoted jsontext.Value) (found, error) {
	switch string(quoted) {
	case `"device_id"`:
		return foundDevice, nil
	case `"patient_id"`:
		return foundPatient, nil
	case `"timestamp"`:
		return foundTimestamp, nil
	case `"seq"`:
		return foundSeq, nil
	case `"spo2"`:
		return foundSpO2, nil
	case `"heart_rate"`:
		return foundHeartRate, nil
	case `"signature"`:
		return foundSignature, nil
	}
	text, err := unquote(quoted)
	if err != nil {
		return 0, err
	}
	for _, m := range names {
		if text == m.name {
			return m.bit, nil // written with escapes, which mean the same
		}
		if strings.EqualFold(text, m.name) {
			return 0, invalid("a member differs from %s only in case", m.name)
		}
	}
	return 0, nil
}

func (p *Parser) value(r *Reading, of found) error {
	v, err := p.decoder.ReadValue()
	if err != nil {
		return syntax(err)
	}
	if k := v.Kind(); k == '{' || k == '[' {
		return invalid("a member is an object or array; a reading is flat")
	}
	return p.set(r, of, v)
}

// set takes one member's value.
func (p *Parser) set(r *Reading, of found, v jsontext.Value) (err error) {
	switch of {
	case foundDevice:
		r.DeviceID, err = id(&p.device, "device_id", v)
	case foundPatient:
		r.PatientID, err = id(&p.patient, "patient_id", v)
	case foundTimestamp:
		r.Timestamp, err = timestamp(v)
	case foundSeq:
		r.HasSeq = true
		r.Seq, err = sequence(v)
	case foundSpO2:
		r.SpO2, err = number("spo2", MaxSpO2, v)
	case foundHeartRate:
		r.HeartRate, err = number("heart_rate", MaxHeartRate, v)
	case foundSignature:
		if v.Kind() != '"' {
			err = invalid("signature is not a string")
		}
	default:
		err = binary64(v)
	}
	return err
}

func unquote(v jsontext.Value) (string, error) {
	b, err := jsontext.AppendUnquote(nil, v)
	if err != nil {
		return "", syntax(err)
	}
	return string(b), nil
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
}

// syntax reports broken JSON by its place; the library's own message would
// quote the payload.
func syntax(err error) error {
	var at *jsontext.SyntacticError
	if !errors.As(err, &at) {
		return invalid("the JSON ends too early")
	}
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return invalid("a member occurs twice (at byte %d)", at.ByteOffset)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return invalid("the JSON ends too early (at byte %d)", at.ByteOffset)
	}
	return invalid("not JSON in valid UTF-8 (at byte %d)", at.ByteOffset)
}
