package diagnose_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/cmd/pulsegate/diagnose"
)

const (
	text   = `{"device_id":"w-1","patient_id":"p-1","timestamp":1763766000.123,"seq":42,"spo2":97,"heart_rate":72}`
	spaced = `{"device_id": "w-1", "patient_id": "p-1", "timestamp": 1763766000.123, "seq": 42, "spo2": 97, "heart_rate": 72}`
	sorted = `{"device_id":"w-1","heart_rate":72,"patient_id":"p-1","seq":42,"spo2":97,"timestamp":1763766000.123}`
	pretty = "{\n  \"device_id\": \"w-1\",\n  \"patient_id\": \"p-1\",\n  \"timestamp\": 1763766000.123,\n  \"spo2\": 97,\n  \"heart_rate\": 72\n}"
)

var judged = time.Unix(1763766000, 0)

func key(b byte) []byte { return []byte(strings.Repeat(string(rune(b)), 32)) }

func sum(h func() hash.Hash, key []byte, text string) []byte {
	m := hmac.New(h, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

func mac(text string) string { return hex.EncodeToString(sum(sha256.New, key(1), text)) }

// with appends a signature member to a text.
func with(text, signature string) string {
	return strings.TrimSuffix(text, "}") + `,"signature":"` + signature + `"}`
}

// between puts a signature member where a library that sorts names puts it.
func between(text, signature string) string {
	return strings.Replace(text, `,"spo2"`, `,"signature":"`+signature+`","spo2"`, 1)
}

func keys() []diagnose.Key {
	return []diagnose.Key{
		{Name: "generation 2", InForce: true, Secret: key(1), Password: hex.EncodeToString(key(9))},
		{Name: "generation 1", Secret: key(2)},
	}
}

func TestSlips(t *testing.T) {
	hexKey := hex.EncodeToString(key(1))
	for name, c := range map[string]struct {
		payload string
		slips   []string
		// signed is what was really signed, where the slip is in that.
		signed string
	}{
		"none":                   {payload: with(text, mac(text))},
		"upper-case signature":   {payload: with(text, strings.ToUpper(mac(text)))},
		"no signature":           {payload: text, slips: []string{diagnose.NoSignature}},
		"cut off":                {payload: text[:40], slips: []string{diagnose.NoObject}},
		"newline sent":           {payload: with(text, mac(text)) + "\n", slips: []string{diagnose.TrailingNewline}},
		"zero byte sent":         {payload: with(text, mac(text)) + "\x00", slips: []string{diagnose.TrailingZero}},
		"line end, zero sent":    {payload: with(text, mac(text)) + "\r\n\x00", slips: []string{diagnose.TrailingZero, diagnose.TrailingNewline}},
		"empty object":           {payload: "{}\n", slips: []string{diagnose.TrailingNewline, diagnose.NoSignature}},
		"byte order mark":        {payload: "\ufeff" + with(text, mac(text)), slips: []string{diagnose.ByteOrderMark}},
		"newline signed":         {payload: with(text, mac(text+"\n")), slips: []string{diagnose.EndSigned}, signed: text + "\n"},
		"CR LF signed":           {payload: with(text, mac(text+"\r\n")), slips: []string{diagnose.EndSigned}, signed: text + "\r\n"},
		"zero byte signed":       {payload: with(text, mac(text+"\x00")), slips: []string{diagnose.EndSigned}, signed: text + "\x00"},
		"newline sent, signed":   {payload: with(text, mac(text+"\n")) + "\n", slips: []string{diagnose.TrailingNewline, diagnose.EndSigned}, signed: text + "\n"},
		"brace not signed":       {payload: with(text, mac(text[:len(text)-1])), slips: []string{diagnose.BraceNotSigned}, signed: text[:len(text)-1]},
		"base64":                 {payload: with(text, base64.StdEncoding.EncodeToString(sum(sha256.New, key(1), text))), slips: []string{diagnose.Encoding}},
		"base64url, no padding":  {payload: with(text, base64.RawURLEncoding.EncodeToString(sum(sha256.New, key(1), text))), slips: []string{diagnose.Encoding}},
		"base64 of hexadecimal":  {payload: with(text, base64.StdEncoding.EncodeToString([]byte(mac(text)))), slips: []string{diagnose.Encoding}},
		"openssl's whole answer": {payload: with(text, "HMAC-SHA2-256(stdin)= "+mac(text)), slips: []string{diagnose.Encoding}},
		"neither hex nor base64": {payload: with(text, "!!"), slips: []string{diagnose.Encoding}},
		"empty":                  {payload: with(text, ""), slips: []string{diagnose.Encoding}},
		"SHA-1":                  {payload: with(text, hex.EncodeToString(sum(sha1.New, key(1), text))), slips: []string{diagnose.Algorithm}},
		"SHA-512":                {payload: with(text, hex.EncodeToString(sum(sha512.New, key(1), text))), slips: []string{diagnose.Algorithm}},
		"SHA-1 of another key":   {payload: with(text, hex.EncodeToString(sum(sha1.New, key(8), text))), slips: []string{diagnose.Algorithm}},
		"no HMAC": {payload: with(text, func() string {
			s := sha256.Sum256(append(key(1), text...))
			return hex.EncodeToString(s[:])
		}()), slips: []string{diagnose.Algorithm}},
		"hexadecimal as key":       {payload: with(text, hex.EncodeToString(sum(sha256.New, []byte(hexKey), text))), slips: []string{diagnose.KeyAsText}},
		"hexadecimal, line end":    {payload: with(text, hex.EncodeToString(sum(sha256.New, []byte(hexKey+"\n"), text))), slips: []string{diagnose.KeyAsText}},
		"key in base64":            {payload: with(text, hex.EncodeToString(sum(sha256.New, []byte(base64.StdEncoding.EncodeToString(key(1))), text))), slips: []string{diagnose.KeyAsText}},
		"other generation":         {payload: with(text, hex.EncodeToString(sum(sha256.New, key(2), text))), slips: []string{diagnose.OtherKey}},
		"other generation as text": {payload: with(text, hex.EncodeToString(sum(sha256.New, []byte(hex.EncodeToString(key(2))), text))), slips: []string{diagnose.OtherKey, diagnose.KeyAsText}},
		"password":                 {payload: with(text, hex.EncodeToString(sum(sha256.New, []byte(hex.EncodeToString(key(9))), text))), slips: []string{diagnose.WrongSecret}},
		"empty key":                {payload: with(text, hex.EncodeToString(sum(sha256.New, nil, text))), slips: []string{diagnose.WrongSecret}},
		"sorted, else right":       {payload: between(sorted, mac(sorted)), slips: []string{diagnose.SignatureNotLast}},
		"sorted after signing":     {payload: between(sorted, mac(text)), slips: []string{diagnose.SignatureNotLast, diagnose.MemberOrder}, signed: text},
		"sorted for signing":       {payload: with(text, mac(sorted)), slips: []string{diagnose.MemberOrder}, signed: sorted},
		"another order, spaced":    {payload: with(sorted, mac(spaced)), slips: []string{diagnose.MemberOrder}, signed: spaced},
		"signature first":          {payload: `{"signature":"` + mac(text) + `",` + text[1:], slips: []string{diagnose.SignatureNotLast}},
		"signed compact":           {payload: with(spaced, mac(text)), slips: []string{diagnose.WhiteSpace}, signed: text},
		"signed spaced":            {payload: with(text, mac(spaced)), slips: []string{diagnose.WhiteSpace}, signed: spaced},
		"pretty-printed": {payload: strings.TrimSuffix(pretty, "\n}") + ",\n  \"signature\": \"" + mac(pretty) + "\"\n}",
			slips: []string{diagnose.WhiteSpace}, signed: pretty},
		"indented far": {payload: strings.TrimSuffix(text, "}") + ",\n        \"signature\": \"" + mac(text) + "\"\n}", slips: []string{diagnose.WhiteSpace}},
		"line ends changed": {payload: with(strings.ReplaceAll(pretty, "\n", "\r\n"), mac(strings.TrimSuffix(pretty, "}")+"}")),
			slips: []string{diagnose.WhiteSpace}, signed: pretty},
		"signature emptied": {payload: with(text, mac(with(text, ""))), slips: []string{diagnose.SignatureSigned}, signed: with(text, "")},
		"signature null":    {payload: with(text, mac(text[:len(text)-1]+`,"signature":null}`)), slips: []string{diagnose.SignatureSigned}, signed: text[:len(text)-1] + `,"signature":null}`},
		"comma signed":      {payload: with(text, mac(text[:len(text)-1]+",")), slips: []string{diagnose.SignatureSigned}, signed: text[:len(text)-1] + ","},
		"milliseconds":      {payload: with(`{"timestamp":1763766000123}`, mac(`{"timestamp":1763766000123}`)), slips: []string{diagnose.TimeUnit}},
		"nanoseconds":       {payload: with(`{"timestamp":1763766000123000000}`, mac(`{"timestamp":1763766000123000000}`)), slips: []string{diagnose.TimeUnit}},
		"no JSON, right":    {payload: with(`{"a":00}`, mac(`{"a":00}`))},
		"no JSON, key":      {payload: with(`{"a":00}`, hex.EncodeToString(sum(sha256.New, []byte(hexKey), `{"a":00}`))), slips: []string{diagnose.KeyAsText}},
		"four slips": {payload: with(spaced, base64.StdEncoding.EncodeToString(sum(sha256.New, []byte(hexKey), text+"\n"))) + "\n",
			slips: []string{diagnose.TrailingNewline, diagnose.Encoding, diagnose.KeyAsText, diagnose.WhiteSpace, diagnose.EndSigned}, signed: text + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			r := diagnose.Payload([]byte(c.payload), keys(), judged)
			if got := names(r.Slips); !slices.Equal(got, c.slips) {
				t.Errorf("slips %q, want %q", got, c.slips)
			}
			if string(r.Signed) != c.signed {
				t.Errorf("signed %q, want %q", r.Signed, c.signed)
			}
			for _, s := range r.Slips {
				if s.Found == "" || s.Remedy == "" {
					t.Errorf("%s says too little: %+v", s.Name, s)
				}
			}
		})
	}
}

// What recomputation does not prove is not claimed.
func TestNothingIsClaimedOfATamperedReading(t *testing.T) {
	r := diagnose.Payload([]byte(strings.Replace(with(text, mac(text)), "97", "98", 1)), keys(), judged)
	if r.Explained || len(r.Slips) > 0 || r.Signed != nil {
		t.Errorf("got %+v", r)
	}
}

func TestOnlyALikelySlipIsNotProven(t *testing.T) {
	r := diagnose.Payload([]byte(with(text, hex.EncodeToString(sum(sha1.New, key(8), text)))), keys(), judged)
	if r.Explained || len(r.Slips) != 1 || r.Slips[0].Proven {
		t.Errorf("got %+v", r)
	}
}

func FuzzPayload(f *testing.F) {
	for _, s := range []string{with(text, mac(text)), text, pretty, between(sorted, mac(text)), `{"signature":""}`, `{"signature":1,"signature":[{}]}`, "{", ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		before := slices.Clone(payload)
		diagnose.Payload(payload, keys()[:1], judged)
		if !slices.Equal(before, payload) {
			t.Error("the payload was changed")
		}
	})
}

func names(all []diagnose.Slip) []string {
	var names []string
	for _, s := range all {
		names = append(names, s.Name)
	}
	return names
}
