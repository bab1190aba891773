package reading_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os/exec"
	"regexp"
	"testing"

	"github.com/pulsegate/pulsegate/bridge/reading"
)

func vectors(t testing.TB) []reading.Vector {
	t.Helper()
	all, err := reading.Vectors()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 60 {
		t.Fatalf("%d vectors, want at least 60", len(all))
	}
	return all
}

func unhex(t testing.TB, digits string) []byte {
	t.Helper()
	b, err := hex.DecodeString(digits)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestVectorsAreNamed(t *testing.T) {
	form := regexp.MustCompile(`^[a-z0-9_]+$`)
	seen := make(map[string]bool)
	for _, v := range vectors(t) {
		if !form.MatchString(v.Name) || seen[v.Name] {
			t.Errorf("the name %q occurs twice or is not of lower-case letters, digits and underscores", v.Name)
		}
		seen[v.Name] = true
		if v.Description == "" || v.Now.IsZero() || v.MaxAge <= 0 || v.TopicPattern == "" || len(v.Devices) == 0 {
			t.Errorf("%s: not all is stated", v.Name)
		}
		if (v.Outcome == "accepted") != (v.Reading != nil) || (v.Generation != 0) != (v.Reading != nil) {
			t.Errorf("%s: an accepted vector has a reading and a generation, no other has", v.Name)
		}
	}
}

// TestVectorsHere runs the checks that this package makes, 1 and 4, alone; all
// of them together are run where they stand in their order, in verify.
func TestVectorsHere(t *testing.T) {
	var parser reading.Parser
	for _, v := range vectors(t) {
		_, splitErr := reading.Split(v.Payload)
		parsed, parseErr := parser.Parse(v.Payload)
		switch v.Outcome {
		case "accepted":
			if splitErr != nil || parseErr != nil || parsed != *v.Reading {
				t.Errorf("%s: %v, %v, %+v", v.Name, splitErr, parseErr, parsed)
			}
		case "invalid_reading":
			if splitErr != nil || parseErr == nil {
				t.Errorf("%s: %v, parsed as %+v", v.Name, splitErr, parsed)
			}
		}
	}
}

// readAsPython verifies and reads payloads as a consumer in Python does, which
// knows nothing of this package. One line of JSON in, one out.
const readAsPython = `
import datetime, hashlib, hmac, json, sys
for line in sys.stdin:
    vector = json.loads(line)
    payload = bytes.fromhex(vector["payload"])
    body, tail = payload[:payload.rindex(b",")], payload[payload.rindex(b","):]
    signature = json.loads(b"{" + tail[1:])["signature"].lower()
    good = any(hmac.new(bytes.fromhex(k), body + b"}", hashlib.sha256).hexdigest() == signature for k in vector["keys"])
    reading = json.loads(payload)
    at = reading["timestamp"]
    if isinstance(at, str):
        at = datetime.datetime.fromisoformat(at).timestamp()
    print(json.dumps({"good": good, "device": reading["device_id"], "patient": reading["patient_id"], "at": at,
        "seq": reading.get("seq"), "spo2": reading["spo2"], "rate": reading["heart_rate"]}))
`

func TestVectorsInPython(t *testing.T) {
	need(t, python)
	var accepted []reading.Vector
	var stdin bytes.Buffer
	for _, v := range vectors(t) {
		if v.Reading == nil {
			continue
		}
		accepted = append(accepted, v)
		var keys []string
		for _, d := range v.Devices {
			if d.ID == v.Reading.DeviceID {
				for _, k := range d.Keys {
					keys = append(keys, hex.EncodeToString(k.Secret))
				}
			}
		}
		if err := json.NewEncoder(&stdin).Encode(map[string]any{"payload": hex.EncodeToString(v.Payload), "keys": keys}); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(python, "-c", readAsPython)
	cmd.Stdin = &stdin
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("python3: %v", err)
	}
	lines := json.NewDecoder(bytes.NewReader(out))
	for _, v := range accepted {
		var got struct {
			Good            bool
			Device, Patient string
			At, SpO2, Rate  float64
			Seq             *uint64
		}
		if err := lines.Decode(&got); err != nil {
			t.Fatalf("%s: %v", v.Name, err)
		}
		want := v.Reading
		if !got.Good {
			t.Errorf("%s: Python finds the signature wrong", v.Name)
		}
		same := got.Device == want.DeviceID && got.Patient == want.PatientID && got.SpO2 == want.SpO2 && got.Rate == want.HeartRate
		if !same || (got.Seq != nil) != want.HasSeq || got.Seq != nil && *got.Seq != want.Seq {
			t.Errorf("%s: Python reads %+v, want %+v", v.Name, got, want)
		}
		// Python cuts what is finer than a microsecond, where a verifier rounds.
		if d := got.At*1e6 - float64(want.Timestamp.UnixMicro()); d < -1 || d > 1 {
			t.Errorf("%s: Python's timestamp is %v µs off", v.Name, d)
		}
	}
}
