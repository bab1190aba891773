package reading_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/bridge/reading"
)

const exampleText = `{"device_id":"w-0001","patient_id":"p-0001","timestamp":1763766000.123,"seq":42,"spo2":97,"heart_rate":72}`

func TestSignIsTakenBack(t *testing.T) {
	key := unhex(t, clientKey)
	for _, text := range []string{exampleText, "{ \"a\" : 1 \n}", `{"é":"\u0000","x":null,"y":1e999}`} {
		payload, err := reading.Sign(key, []byte(text))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		e, err := reading.Split(payload)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		mac := reading.NewMAC(key)
		if string(e.SignedText()) != text || !mac.Verify(e) || mac.Sum(e) != e.Signature {
			t.Errorf("%s: came back as %s", text, e.SignedText())
		}
		if reading.NewMAC(unhex(t, strings.Repeat("00", 32))).Verify(e) {
			t.Errorf("%s: another key verifies too", text)
		}
		if !strings.HasSuffix(string(payload), `,"signature":"`+e.Signature.String()+`"}`) {
			t.Errorf("%s: the identity is not spelled as it was sent: %s", text, payload)
		}
	}
}

func TestSignRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":           "",
		"one brace":         "}",
		"array":             `[1]`,
		"string":            `"x"`,
		"empty object":      `{}`,
		"white space":       `{ }`,
		"space before":      ` {"a":1}`,
		"newline after":     "{\"a\":1}\n",
		"two objects":       `{"a":1}{"a":1}`,
		"not JSON":          `{"a":}`,
		"trailing comma":    `{"a":1,}`,
		"cut off":           `{"a":"}`,
		"duplicate":         `{"a":1,"\u0061":1}`,
		"nested":            `{"a":{}}`,
		"array inside":      `{"a":[]}`,
		"signature":         `{"a":1,"signature":"x"}`,
		"Signature":         `{"Signature":"x"}`,
		"signature escaped": `{"\u0073ignature":"x"}`,
		"signature long s":  `{"ſignature":"x"}`,
		"not UTF-8":         "{\"a\":\"\xff\"}",
	} {
		if payload, err := reading.Sign([]byte("key"), []byte(text)); !errors.Is(err, reading.ErrText) {
			t.Errorf("%s: %v, %s", name, err, payload)
		}
	}
}

func TestSignKnowsTheLimit(t *testing.T) {
	text := func(n int) []byte { return []byte(`{"a":"` + strings.Repeat("x", n) + `"}`) }
	payload, err := reading.Sign([]byte("key"), text(0))
	if err != nil {
		t.Fatal(err)
	}
	room := reading.MaxPayload - len(payload)
	if payload, err = reading.Sign([]byte("key"), text(room)); err != nil || len(payload) != reading.MaxPayload {
		t.Errorf("%d bytes: %v", len(payload), err)
	}
	if _, err := reading.Sign([]byte("key"), text(room+1)); !errors.Is(err, reading.ErrMalformed) {
		t.Errorf("one byte too large: %v", err)
	}
}

func TestSignedTextIsACopy(t *testing.T) {
	payload, err := reading.Sign([]byte("key"), []byte(exampleText))
	if err != nil {
		t.Fatal(err)
	}
	e, err := reading.Split(payload)
	if err != nil {
		t.Fatal(err)
	}
	clear(e.SignedText())
	if _, err := reading.Parse(payload); err != nil {
		t.Errorf("writing into the signed text changed the payload: %v", err)
	}
}

// TestParserForgets gives one parser readings of which the second lacks what
// the first had.
func TestParserForgets(t *testing.T) {
	var p reading.Parser
	tail := `,"signature":"x"}`
	first, err := p.Parse([]byte(strings.TrimSuffix(exampleText, "}") + tail))
	if err != nil {
		t.Fatal(err)
	}
	want := reading.Reading{
		DeviceID: "w-0001", PatientID: "p-0001", Timestamp: time.UnixMilli(1763766000123).UTC(),
		Seq: 42, HasSeq: true, SpO2: 97, HeartRate: 72,
	}
	if first != want {
		t.Errorf("%+v, want %+v", first, want)
	}
	second, err := p.Parse([]byte(strings.Replace(strings.TrimSuffix(exampleText, "}"), `"seq":42,`, "", 1) + tail))
	want.Seq, want.HasSeq = 0, false
	if err != nil || second != want {
		t.Errorf("%v, %+v, want %+v", err, second, want)
	}
	if r, err := p.Parse([]byte(`{"device_id":`)); err == nil || r != (reading.Reading{}) {
		t.Errorf("%v, %+v", err, r)
	}
	for _, payload := range []string{`{"signature":"x"}`, `{"device_id":"w-0001","signature":"x"}`, `{}`, ``} {
		if r, err := p.Parse([]byte(payload)); err == nil {
			t.Errorf("%s: read as %+v", payload, r)
		}
	}
}

// TestErrorsQuoteNothing puts one marker everywhere a sender can put something.
func TestErrorsQuoteNothing(t *testing.T) {
	const marker = "8675309"
	base := strings.TrimSuffix(exampleText, "}")
	for _, payload := range []string{
		base + `,"` + marker + `":1,"` + marker + `":2,"signature":"x"}`,
		base + `,"x":` + marker + `x,"signature":"x"}`,
		base + `,"x":{"` + marker + `":1},"signature":"x"}`,
		base + `,"` + marker + "\xff" + `":1,"signature":"x"}`,
		base + `,"signature":"x"}` + marker,
		base + `,"signature":` + marker + `}`,
		strings.Replace(base, "97", marker, 1) + `,"signature":"x"}`,
		strings.Replace(base, "42", marker+".5", 1) + `,"signature":"x"}`,
		strings.Replace(base, "1763766000.123", `"`+marker+`"`, 1) + `,"signature":"x"}`,
		strings.Replace(base, "1763766000.123", marker+"000000", 1) + `,"signature":"x"}`,
		strings.Replace(base, "w-0001", marker+".", 1) + `,"signature":"x"}`,
		strings.Replace(base, "p-0001", marker+".", 1) + `,"signature":"x"}`,
		strings.Replace(base, `"spo2"`, `"SpO2":`+marker+`,"spo2"`, 1) + `,"signature":"x"}`,
	} {
		_, err := reading.Parse([]byte(payload))
		if !errors.Is(err, reading.ErrInvalid) {
			t.Errorf("%s: %v", payload, err)
			continue
		}
		if strings.Contains(err.Error(), marker) {
			t.Errorf("the error quotes the payload: %v", err)
		}
	}
	for _, payload := range []string{marker, base + `,"signature":"` + strings.Repeat(marker+"x", 8) + `"}`} {
		_, err := reading.Split([]byte(payload))
		if !errors.Is(err, reading.ErrMalformed) || strings.Contains(err.Error(), marker) {
			t.Errorf("%s: %v", payload, err)
		}
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	base := strings.TrimSuffix(exampleText, "}") + `,"signature":"x"}`
	for said, payload := range map[string]string{
		"looks like milliseconds": strings.Replace(base, "1763766000.123", "1763766000123", 1),
		"spo2 is missing":         strings.Replace(base, `"spo2":97,`, "", 1),
		"from 0 to 350":           strings.Replace(base, "72", "351", 1),
		"occurs twice":            strings.Replace(base, "97", `97,"spo2":96`, 1),
		"only in case":            strings.Replace(base, `"spo2"`, `"SPO2"`, 1),
		"a reading is flat":       strings.Replace(base, "97", "[97]", 1),
		"with a zone":             strings.Replace(base, "1763766000.123", `"2025-11-21T23:00:00"`, 1),
		"A-Za-z0-9_-":             strings.Replace(base, "w-0001", "w 0001", 1),
	} {
		if _, err := reading.Parse([]byte(payload)); err == nil || !strings.Contains(err.Error(), said) {
			t.Errorf("%v, want it to say %q", err, said)
		}
	}
}

func TestValidID(t *testing.T) {
	for c := range 256 {
		id := "a" + string([]byte{byte(c)})
		want := strings.IndexByte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", byte(c)) >= 0
		if reading.ValidID(id) != want {
			t.Errorf("%q: %v", id, !want)
		}
	}
	for id, want := range map[string]bool{
		"": false, "_": false, "-": true, "__": true, "0": true,
		strings.Repeat("a", reading.MaxID): true, strings.Repeat("a", reading.MaxID+1): false,
	} {
		if reading.ValidID(id) != want {
			t.Errorf("%q: %v", id, !want)
		}
	}
}

// TestNothingIsAllocated keeps refusing a forgery, the one thing that an
// attacker can make the gate do at will, free of garbage.
func TestNothingIsAllocated(t *testing.T) {
	payload, err := reading.Sign([]byte("key"), []byte(exampleText))
	if err != nil {
		t.Fatal(err)
	}
	mac, other := reading.NewMAC([]byte("key")), reading.NewMAC([]byte("other"))
	if n := testing.AllocsPerRun(100, func() {
		e, err := reading.Split(payload)
		if err != nil || !mac.Verify(e) || other.Verify(e) {
			t.Error("wrong")
		}
	}); n != 0 {
		t.Errorf("splitting and verifying allocates %v times", n)
	}
	var p reading.Parser
	if n := testing.AllocsPerRun(100, func() {
		if _, err := p.Parse(payload); err != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("parsing a device's next reading allocates %v times", n)
	}
}
