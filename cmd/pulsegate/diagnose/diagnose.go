// Package diagnose finds out why a payload's signature is not what the gate
// expects, among the slips that a firmware's author usually makes. It tries each
// of them: what it calls proven made the very MAC that the payload carries.
package diagnose

import (
	"bytes"
	"fmt"
	"sort"
	"strconv"
	"time"

	"github.com/pulsegate/pulsegate/bridge/reading"
)

// Names of the slips, a closed set.
const (
	NoObject         = "no_object"
	NoSignature      = "no_signature"
	SignatureNotLast = "signature_not_last"
	TrailingNewline  = "trailing_newline"
	TrailingZero     = "trailing_zero_byte"
	ByteOrderMark    = "byte_order_mark"
	WhiteSpace       = "white_space"
	MemberOrder      = "member_order"
	BraceNotSigned   = "brace_not_signed"
	SignatureSigned  = "signature_signed"
	EndSigned        = "line_end_signed"
	Encoding         = "signature_encoding"
	Algorithm        = "algorithm"
	KeyAsText        = "key_as_text"
	OtherKey         = "other_key"
	WrongSecret      = "wrong_secret"
	TimeUnit         = "time_unit"
)

// Key is a key that a payload may have been signed with.
type Key struct {
	// Name says whose it is, as in "the key of w-0001, generation 2".
	Name string
	// InForce is true for what the gate would verify with.
	InForce bool
	Secret  []byte
	// Password is the same device's MQTT password, empty where it is not known.
	Password string
}

// Slip is one thing that went wrong.
type Slip struct {
	Name string `json:"slip"`
	// Proven is true where the slip was seen in the payload, or makes the very
	// MAC that the payload carries; else it is only likely.
	Proven bool `json:"proven"`
	// Found says what was found, Remedy what to do about it.
	Found  string `json:"found"`
	Remedy string `json:"remedy"`
}

// Report is what Payload found out.
type Report struct {
	Slips []Slip
	// Explained is true if the payload's signature was reproduced, with or
	// without a slip.
	Explained bool
	// Signed are the bytes that were really signed, where those are known and
	// are not the text that the gate takes for signed; else nil.
	Signed []byte
}

// Payload looks for slips in a payload. now is when it is judged. It may take
// some 100 ms.
func Payload(payload []byte, keys []Key, now time.Time) Report {
	var r Report
	trimmed := r.surroundings(payload)
	d := dissect(trimmed)
	r.unit(d, now)
	if d.signature < 0 && d.members == nil {
		r.add(NoObject, true, "the payload is not one whole JSON object", "look for a buffer that is too small, or something around the object")
		return r
	}
	if d.signature < 0 {
		r.add(NoSignature, true, "the payload has no member named signature", "append ,\"signature\":\"<64 hex digits>\" before the closing brace, after signing")
		return r
	}
	r.place(d, trimmed)
	claims := decode(d.members[d.signature].content())
	found, ok := search(d, claims, keys)
	if !ok {
		r.likely(claims)
		return r
	}
	r.Explained = true
	r.Slips = append(r.Slips, found.slips()...)
	if right := d.texts[0].bytes; !bytes.Equal(found.text.bytes, right) {
		r.Signed = found.text.bytes
	}
	return r
}

func (r *Report) add(name string, proven bool, found, remedy string) {
	r.Slips = append(r.Slips, Slip{name, proven, found, remedy})
}

// surroundings takes off what must not be around the object.
func (r *Report) surroundings(payload []byte) []byte {
	inner, marked := bytes.CutPrefix(payload, []byte("\ufeff"))
	if marked {
		r.add(ByteOrderMark, true, "the payload begins with a byte order mark", "write UTF-8 without one")
	}
	trimmed := bytes.TrimRight(inner, white+"\x00")
	rest := inner[len(trimmed):]
	found := strconv.Quote(string(rest)) + " follows the closing brace"
	if bytes.IndexByte(rest, 0) >= 0 {
		r.add(TrailingZero, true, found, "publish the payload without the zero byte that ends a C string: its length is strlen, not sizeof")
	}
	if bytes.ContainsAny(rest, white) {
		r.add(TrailingNewline, true, found,
			"publish the payload without a line end: printf '%s' instead of echo, mosquitto_pub -m \"$payload\" instead of a pipe or a file")
	}
	return trimmed
}

// place looks at where the signature stands.
func (r *Report) place(d document, trimmed []byte) {
	if d.signature == len(d.members)-1 {
		if _, err := reading.Split(trimmed); err != nil && len(d.members[d.signature].content()) == 64 && d.wideTail() {
			r.add(WhiteSpace, true, "more than four white-space bytes stand together around the signature",
				"append the signature member as text, ,\"signature\":\"…\"}, without indenting it")
		}
		return
	}
	how := "the signature is not the last member"
	if sort.SliceIsSorted(d.members, func(i, j int) bool { return d.members[i].label() < d.members[j].label() }) {
		how += ": a library sorted the names"
	}
	r.add(SignatureNotLast, true, how, "append the signature as text: replace the final } of the signed text by ,\"signature\":\"…\"}")
}

// likely says what the form of an unexplained signature suggests.
func (r *Report) likely(claims []claim) {
	switch {
	case len(claims) == 0:
		r.add(Encoding, true, "the signature is neither hexadecimal nor base64", "write the 32 bytes of the MAC as 64 hexadecimal digits")
	case claims[0].slip != nil:
		s := *claims[0].slip
		r.Slips = append(r.Slips, s)
	case len(claims[0].mac) != 32:
		r.add(Algorithm, false, fmt.Sprintf("the signature is %d bytes%s", len(claims[0].mac), hashOf(len(claims[0].mac))), "sign with HMAC-SHA256, which gives 32 bytes, 64 hexadecimal digits")
	}
}

func hashOf(size int) string {
	for _, a := range algorithms() {
		if a.size == size {
			return ", as " + a.name + " gives"
		}
	}
	return ""
}

// unit recognises a timestamp in another unit than seconds.
func (r *Report) unit(d document, now time.Time) {
	for _, m := range d.members {
		if m.label() != "timestamp" {
			continue
		}
		f, err := strconv.ParseFloat(string(m.value), 64)
		if err != nil || f <= reading.MaxTimestamp {
			return
		}
		for _, u := range []struct {
			name string
			per  float64
		}{{"milliseconds", 1e3}, {"microseconds", 1e6}, {"nanoseconds", 1e9}} {
			at := f / u.per
			if at > reading.MaxTimestamp {
				continue
			}
			t := time.UnixMicro(int64(at * 1e6)).UTC()
			off := now.Sub(t).Abs()
			r.add(TimeUnit, off < 24*time.Hour, fmt.Sprintf("the timestamp is in %s: divided by %.0f it is %s", u.name, u.per, t.Format(time.RFC3339Nano)),
				fmt.Sprintf("divide by %.0f and keep the fraction: timestamp is seconds since 1970", u.per))
			return
		}
	}
}
