package reading

import (
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// maxCarried is how many unknown members a plain payload may have.
const maxCarried = 8

// plain reads the payloads that wearables really send: an object of simple
// members, names and strings in printable ASCII without escapes. It takes a
// strict subset of what the full parser takes, with the same result, and says
// false to everything else, good or bad, which then goes the full way. It costs
// a third of that.
type plain struct {
	rest []byte
	// tail is the length of the signature member with the comma before it and the
	// brace behind it, where Split has read that already; 0 where it has not.
	tail    int
	carried [maxCarried][]byte
	unknown int
}

// object reads the payload into r, and reports whether it was plain and a
// reading.
func (s *plain) object(p *Parser, r *Reading) bool {
	if !s.skip('{') {
		return false
	}
	for seen := found(0); ; {
		name, ok := s.text()
		if !ok || !s.skip(':') {
			return false
		}
		value, ok := s.value()
		if !ok {
			return false
		}
		bit, ok := s.member(name)
		if !ok || seen&bit != 0 || p.set(r, bit, value) != nil {
			return false
		}
		seen |= bit
		if s.tail > 0 && len(s.rest) == s.tail {
			return seen|foundSeq == foundAll&^foundSignature
		}
		switch {
		case s.skip(','):
		case s.skip('}'):
			return len(s.rest) == 0 && seen|foundSeq == foundAll
		default:
			return false
		}
	}
}

// member finds which known member a name is. Of an unknown one it makes sure
// that it is the first of its name and not a known one but for its case.
func (s *plain) member(quoted jsontext.Value) (found, bool) {
	switch string(quoted) {
	case `"device_id"`:
		return foundDevice, true
	case `"patient_id"`:
		return foundPatient, true
	case `"timestamp"`:
		return foundTimestamp, true
	case `"seq"`:
		return foundSeq, true
	case `"spo2"`:
		return foundSpO2, true
	case `"heart_rate"`:
		return foundHeartRate, true
	case `"signature"`:
		return foundSignature, true
	}
	for _, m := range names {
		// In ASCII, names of different lengths differ in more than case.
		if len(m.name)+2 == len(quoted) && strings.EqualFold(m.name, string(quoted[1:len(quoted)-1])) {
			return 0, false
		}
	}
	for _, other := range s.carried[:s.unknown] {
		if string(other) == string(quoted) {
			return 0, false
		}
	}
	if s.unknown == maxCarried {
		return 0, false
	}
	s.carried[s.unknown] = quoted
	s.unknown++
	return 0, true
}

// skip takes a byte off, and the spaces around it.
func (s *plain) skip(b byte) bool {
	s.spaces()
	if len(s.rest) == 0 || s.rest[0] != b {
		return false
	}
	s.rest = s.rest[1:]
	if b != '}' {
		s.spaces()
	}
	return true
}

func (s *plain) spaces() {
	for len(s.rest) > 0 && s.rest[0] == ' ' {
		s.rest = s.rest[1:]
	}
}

func (s *plain) value() (jsontext.Value, bool) {
	if len(s.rest) > 0 && s.rest[0] == '"' {
		return s.text()
	}
	return s.number()
}

// text takes a string off, with its quotes.
func (s *plain) text() (jsontext.Value, bool) {
	if len(s.rest) == 0 || s.rest[0] != '"' {
		return nil, false
	}
	for i := 1; i < len(s.rest); i++ {
		switch c := s.rest[i]; {
		case c == '"':
			return s.take(i + 1), true
		case c < ' ' || c > '~' || c == '\\':
			return nil, false
		}
	}
	return nil, false
}

// number takes a number without exponent off: -?(0|[1-9][0-9]*)(\.[0-9]+)?
func (s *plain) number() (jsontext.Value, bool) {
	i := 0
	if len(s.rest) > 0 && s.rest[0] == '-' {
		i++
	}
	whole := s.digits(i)
	if whole == 0 || whole > 1 && s.rest[i] == '0' {
		return nil, false
	}
	i += whole
	if i < len(s.rest) && s.rest[i] == '.' {
		fraction := s.digits(i + 1)
		if fraction == 0 {
			return nil, false
		}
		i += 1 + fraction
	}
	// Whatever follows must end the member; an exponent does not.
	if i == len(s.rest) || s.rest[i] != ',' && s.rest[i] != '}' && s.rest[i] != ' ' {
		return nil, false
	}
	return s.take(i), true
}

func (s *plain) digits(from int) int {
	n := 0
	for from+n < len(s.rest) && '0' <= s.rest[from+n] && s.rest[from+n] <= '9' {
		n++
	}
	return n
}

func (s *plain) take(n int) jsontext.Value {
	taken := s.rest[:n]
	s.rest = s.rest[n:]
	return taken
}
