package reading_test

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/bridge/reading"
)

// FuzzPayload shows that no payload makes Split or Parse panic, that their
// errors are the two that callers tell apart, and that what both accept means
// the same to encoding/json, which matches names without case.
func FuzzPayload(f *testing.F) {
	seeds := vectors(f)
	if len(seeds) == 0 {
		f.Fatal("no seeds")
	}
	for _, v := range seeds {
		f.Add(v.Payload)
	}
	mac := reading.NewMAC([]byte("key"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		r, parseErr := reading.Parse(payload)
		if parseErr != nil && !errors.Is(parseErr, reading.ErrInvalid) {
			t.Fatalf("Parse: %v", parseErr)
		}
		e, err := reading.Split(payload)
		if err != nil {
			if !errors.Is(err, reading.ErrMalformed) {
				t.Fatalf("Split: %v", err)
			}
			return
		}
		signedAgain(t, mac, e)
		if parseErr != nil {
			return
		}
		agrees(t, payload, r)
		agrees(t, e.SignedText(), r)
	})
}

// signedAgain replaces the signature by a right one, which must then verify,
// and must not any more with one bit changed.
func signedAgain(t *testing.T, mac *reading.MAC, e reading.Envelope) {
	t.Helper()
	text := e.SignedText()
	payload := string(text[:len(text)-1]) + `,"signature":"` + strings.ToUpper(mac.Sum(e).String()) + `"}`
	if len(payload) > reading.MaxPayload {
		return
	}
	again, err := reading.Split([]byte(payload))
	if err != nil || string(again.SignedText()) != string(text) || !mac.Verify(again) {
		t.Fatalf("signed again: %v", err)
	}
	again.Signature[7] ^= 1
	if mac.Verify(again) {
		t.Fatal("verifies with one bit changed")
	}
}

func agrees(t *testing.T, object []byte, r reading.Reading) {
	t.Helper()
	var loose struct {
		DeviceID  string  `json:"device_id"`
		PatientID string  `json:"patient_id"`
		Timestamp any     `json:"timestamp"`
		Seq       *uint64 `json:"seq"`
		SpO2      float64 `json:"spo2"`
		HeartRate float64 `json:"heart_rate"`
	}
	if err := json.Unmarshal(object, &loose); err != nil {
		t.Fatalf("encoding/json: %v: %q", err, object)
	}
	same := loose.DeviceID == r.DeviceID && loose.PatientID == r.PatientID && loose.SpO2 == r.SpO2 && loose.HeartRate == r.HeartRate
	if !same || (loose.Seq != nil) != r.HasSeq || loose.Seq != nil && *loose.Seq != r.Seq {
		t.Fatalf("encoding/json reads %+v, want %+v", loose, r)
	}
	// Near the year 9999 a binary64 of microseconds is up to 32 of them off.
	if d := microseconds(t, loose.Timestamp) - float64(r.Timestamp.UnixMicro()); math.Abs(d) > 64 {
		t.Fatalf("timestamp %v is %v µs off", loose.Timestamp, d)
	}
	var exact map[string]any
	if err := json.Unmarshal(object, &exact); err != nil {
		t.Fatalf("encoding/json into a map: %v", err)
	}
	if !reading.ValidID(r.DeviceID) || exact["device_id"] != r.DeviceID || exact["spo2"] != r.SpO2 {
		t.Fatalf("%+v, want %+v", exact, r)
	}
}

func microseconds(t *testing.T, timestamp any) float64 {
	t.Helper()
	switch at := timestamp.(type) {
	case float64:
		return at * 1e6
	case string:
		parsed, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		return float64(parsed.UnixMicro())
	}
	t.Fatalf("timestamp is a %T", timestamp)
	return 0
}
