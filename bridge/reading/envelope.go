package reading

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
)

// maxWhite is how many white-space bytes may stand at each place of the tail.
// A bound keeps one signed text from having endless spellings.
const maxWhite = 4

// Envelope is a payload taken apart at its trailing signature. It shares the
// payload's memory.
type Envelope struct {
	// body is all before the comma that introduces the signature member; the
	// signed text is body followed by "}".
	body []byte
	// Signature is what the sender claims the MAC to be.
	Signature Identity
}

// SignedText returns a copy of the exact bytes that the signature covers.
func (e Envelope) SignedText() []byte {
	text := make([]byte, 0, len(e.body)+1)
	return append(append(text, e.body...), '}')
}

// Split finds the trailing signature member of a payload. It looks at bytes
// only and parses no JSON. Its error wraps ErrMalformed.
func Split(payload []byte) (Envelope, error) {
	if len(payload) > MaxPayload {
		return Envelope{}, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrMalformed, len(payload), MaxPayload)
	}
	var e Envelope
	t := tail{rest: payload}
	t.byte('}')
	t.white()
	t.byte('"')
	digits := t.take(2 * sha256.Size)
	t.byte('"')
	t.white()
	t.byte(':')
	t.white()
	t.text(`"signature"`)
	t.white()
	t.byte(',')
	if t.failed {
		return Envelope{}, fmt.Errorf("%w: the payload must end in ,\"signature\":\"<64 hex digits>\"}", ErrMalformed)
	}
	if _, err := hex.Decode(e.Signature[:], digits); err != nil {
		return Envelope{}, fmt.Errorf("%w: the signature is not 64 hex digits", ErrMalformed)
	}
	e.body = t.rest
	return e, nil
}

// tail reads a payload from its end towards its beginning.
type tail struct {
	rest   []byte
	failed bool
}

func (t *tail) take(n int) []byte {
	if t.failed || len(t.rest) < n {
		t.failed = true
		return nil
	}
	at := len(t.rest) - n
	taken := t.rest[at:]
	t.rest = t.rest[:at]
	return taken
}

func (t *tail) byte(want byte) {
	if b := t.take(1); !t.failed && b[0] != want {
		t.failed = true
	}
}

func (t *tail) text(want string) {
	if b := t.take(len(want)); !t.failed && string(b) != want {
		t.failed = true
	}
}

func (t *tail) white() {
	for range maxWhite {
		if t.failed || len(t.rest) == 0 {
			return
		}
		switch t.rest[len(t.rest)-1] {
		case ' ', '\t', '\r', '\n':
			t.rest = t.rest[:len(t.rest)-1]
		default:
			return
		}
	}
}

// MAC computes HMAC-SHA256 (RFC 2104) under one key, again and again without
// allocating. It is not safe for concurrent use.
type MAC struct {
	hash hash.Hash
	sum  Identity
}

// closing is the byte that ends every signed text; the payload has a comma in
// its place.
var closing = []byte{'}'}

// NewMAC prepares a key for use.
func NewMAC(key []byte) *MAC { return &MAC{hash: hmac.New(sha256.New, key)} }

// Sum returns the MAC of the envelope's signed text.
func (m *MAC) Sum(e Envelope) Identity {
	m.compute(e)
	return m.sum
}

// Verify reports, in constant time, whether the envelope's signature is the
// MAC of its signed text.
func (m *MAC) Verify(e Envelope) bool {
	m.compute(e)
	return hmac.Equal(m.sum[:], e.Signature[:])
}

func (m *MAC) compute(e Envelope) {
	m.hash.Reset()
	m.hash.Write(e.body)
	m.hash.Write(closing)
	m.hash.Sum(m.sum[:0])
}
