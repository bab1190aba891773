package ingress_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/pulsegate/pulsegate/bridge/ingress"
	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
)

// rule is a clause of the standard, packets that concern it and the answers.
//
// Packets are written in hexadecimal, separated by ';': the first byte, '|', and
// what follows the length, which is added; without '|' just the bytes. 'text' is
// a string with its length before it, V the version, P the length of no
// properties, which is there in MQTT 5 alone.
//
// Answers are separated by ';' too: bytes in hexadecimal; "welcome" for a CONNACK
// that lets in; "connack 82", "refused 82" or "bye 82" for CONNACK, CONNACK or
// DISCONNECT with that code and then the end; "end" for the end without a word,
// which "refused" and "bye" are too in MQTT 3.1.1. If nothing ends the connection,
// it is to answer a ping.
type rule struct{ clause, versions, sends, answers string }

func wire(t testing.TB, text string, version byte) []byte {
	t.Helper()
	var out []byte
	for one := range strings.SplitSeq(text, ";") {
		first, body, headed := strings.Cut(one, "|")
		if !headed {
			out = append(out, octets(t, one, version)...)
			continue
		}
		rest := octets(t, body, version)
		out = append(out, octets(t, first, version)...)
		for n := len(rest); ; {
			low := byte(n & 0x7F)
			if n >>= 7; n == 0 {
				out = append(out, low)
				break
			}
			out = append(out, low|0x80)
		}
		out = append(out, rest...)
	}
	return out
}

func octets(t testing.TB, text string, version byte) (out []byte) {
	t.Helper()
	for word := range strings.FieldsSeq(text) {
		switch {
		case word == "V":
			out = append(out, version)
		case word == "P" && version == 5:
			out = append(out, 0)
		case word == "P":
		case word[0] == '\'':
			word = strings.Trim(word, "'")
			out = append(append(out, byte(len(word)>>8), byte(len(word))), word...)
		default:
			b, err := hex.DecodeString(word)
			if err != nil {
				t.Fatalf("%s: %v", word, err)
			}
			out = append(out, b...)
		}
	}
	return out
}

// keep runs a rule, on a connection that is let in already where connected.
func (r rule) keep(t *testing.T, version byte, dial func(*testing.T, *broker) *mqttest.Client) {
	b := open(t, func(o *ingress.Options) { o.ReceiveMaximum = 4 })
	b.settle = func(c call) { c.done(accepted) }
	c := dial(t, b)
	_ = c.TryRaw(wire(t, r.sends, version))
	for answer := range strings.SplitSeq(r.answers, ";") {
		if r.ends(t, c, strings.Fields(answer), version) {
			c.ExpectEnd()
			return
		}
	}
	c.Ping()
}

// ends expects one answer, and says whether it is the last.
func (r rule) ends(t *testing.T, c *mqttest.Client, answer []string, version byte) bool {
	t.Helper()
	if len(answer) == 0 {
		return false
	}
	kind, code := answer[0], byte(0)
	switch {
	case kind == "end", version < 5 && (kind == "bye" || kind == "refused"):
		return true
	case kind == "welcome", kind == "connack", kind == "refused", kind == "bye":
	default:
		c.ExpectBytes(octets(t, strings.Join(answer, " "), version)...)
		return false
	}
	if len(answer) > 1 {
		code = octets(t, answer[1], version)[0]
	}
	of := byte(packets.Connack)
	if kind == "bye" {
		of = packets.Disconnect
	}
	if got := c.Expect(of); got.ReasonCode != code {
		t.Errorf("%x: the code is %#x, want %#x", got.Raw, got.ReasonCode, code)
	}
	return kind != "welcome"
}

func keepAll(t *testing.T, rules []rule, dial func(version byte) func(*testing.T, *broker) *mqttest.Client) {
	t.Parallel()
	for _, r := range rules {
		for _, version := range []byte(r.versions) {
			t.Run(r.clause+" in "+map[byte]string{'4': "3.1.1", '5': "5"}[version], func(t *testing.T) {
				t.Parallel()
				r.keep(t, version-'0', dial(version-'0'))
			})
		}
	}
}

func TestClausesOfConnect(t *testing.T) {
	keepAll(t, connectRules, func(version byte) func(*testing.T, *broker) *mqttest.Client {
		return func(t *testing.T, b *broker) *mqttest.Client { return b.dial(t, version) }
	})
}

func TestClausesOfClients(t *testing.T) {
	keepAll(t, clientRules, func(version byte) func(*testing.T, *broker) *mqttest.Client {
		return func(t *testing.T, b *broker) *mqttest.Client { return b.connect(t, version, "w-1") }
	})
}
