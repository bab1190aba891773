package diagnose

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/pulsegate/pulsegate/bridge/reading"
)

// member is one member of an object, as it is written.
type member struct {
	name, value []byte
	// start is where the name begins, end where the value has ended.
	start, end int
}

func unquoted(raw []byte) string {
	if b, err := jsontext.AppendUnquote(nil, raw); err == nil {
		return string(b)
	}
	return string(raw)
}

// document is a payload taken apart more leniently than the gate does it.
type document struct {
	payload []byte
	members []member
	// signature is the index of the signature member, -1 if there is none.
	signature int
	// texts are what may have been signed, the right one first; orders the same
	// members in every other order.
	texts, orders []text
}

// dissect takes a payload apart as far as it goes. Where it is no JSON it looks
// only for the trailing signature.
func dissect(payload []byte) document {
	d := document{payload: payload, members: members(payload), signature: -1}
	for i, m := range d.members {
		if m.label() == "signature" {
			d.signature = i
		}
	}
	if d.signature >= 0 {
		d.texts, d.orders = d.variants(), d.reordered()
		return d
	}
	e, err := reading.Split(payload)
	if err != nil {
		return d
	}
	d.members, d.signature = []member{{name: []byte(`"signature"`), value: []byte(`"` + e.Signature.String() + `"`)}}, 0
	d.texts = ends(nil, text{bytes: e.SignedText()})
	return d
}

// members returns the members of an object, or nil where it is none.
func members(payload []byte) []member {
	d := jsontext.NewDecoder(bytes.NewBuffer(payload), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if open, err := d.ReadToken(); err != nil || open.Kind() != '{' {
		return nil
	}
	all := []member{} // of {} too it is not nil
	for d.PeekKind() == '"' {
		var m member
		name, err := d.ReadValue()
		if err != nil {
			return nil
		}
		m.name = bytes.Clone(name)
		m.start = int(d.InputOffset()) - len(name)
		value, err := d.ReadValue()
		if err != nil {
			return nil
		}
		m.value, m.end = bytes.Clone(value), int(d.InputOffset())
		all = append(all, m)
	}
	if _, err := d.ReadToken(); err != nil {
		return nil
	}
	return all
}

// label is the member's name, content its value if that is a string.
func (m member) label() string   { return unquoted(m.name) }
func (m member) content() string { return unquoted(m.value) }

// others are the members but for the signature.
func (d document) others() []member {
	all := append([]member(nil), d.members[:d.signature]...)
	return append(all, d.members[d.signature+1:]...)
}

// wideTail reports whether more white space stands somewhere around the
// signature than the form allows.
func (d document) wideTail() bool {
	s := d.members[d.signature]
	before := bytes.TrimRight(d.payload[:s.start], white)
	after := bytes.TrimLeft(d.payload[s.end:], white)
	inside := s.end - s.start - len(s.name) - len(s.value)
	return s.start-len(before) > 4 || len(d.payload)-s.end-len(after) > 4 || inside > 1+8 || spread(d.payload, before) > 4
}

// spread is how much white space stands before the comma that ends before.
func spread(payload, before []byte) int {
	at := len(before) - 1
	if at < 0 || payload[at] != ',' {
		return 0
	}
	return at - len(bytes.TrimRight(payload[:at], white))
}

const white = " \t\r\n"

// cut is the payload without its signature member, all else as it is.
func (d document) cut() []byte {
	s := d.members[d.signature]
	if d.signature == 0 {
		rest := bytes.TrimLeft(d.payload[s.end:], white)
		rest = bytes.TrimLeft(bytes.TrimPrefix(rest, []byte{','}), white)
		return join(d.payload[:s.start], rest)
	}
	return join(d.payload[:d.comma()], d.payload[s.end:])
}

// comma is where the comma before the signature stands; the signature is not
// the first member.
func (d document) comma() int {
	before := bytes.TrimRight(d.payload[:d.members[d.signature].start], white)
	return len(before) - 1
}

// right is the text that the gate takes for signed, or would if the signature
// were at its place.
func (d document) right() []byte {
	if d.signature == len(d.members)-1 && d.signature > 0 {
		return join(d.payload[:d.comma()], []byte{'}'})
	}
	return d.cut()
}

// filled is the payload with something else for the signature's value.
func (d document) filled(value string) []byte {
	s := d.members[d.signature]
	return join(d.payload[:s.end-len(s.value)], []byte(value), d.payload[s.end:])
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
