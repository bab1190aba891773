package reading

import (
	"strings"
	"testing"
)

// FuzzPlain holds the quick way of parsing against the full one: what it takes,
// the full one takes with the same result.
func FuzzPlain(f *testing.F) {
	vectors, err := Vectors()
	if err != nil || len(vectors) == 0 {
		f.Fatalf("%d vectors as seeds: %v", len(vectors), err)
	}
	for _, v := range vectors {
		f.Add([]byte(v.Payload))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		comparePlain(t, payload)
		compareSigned(t, payload)
	})
}

func comparePlain(t *testing.T, payload []byte) bool {
	t.Helper()
	var p Parser
	var quick Reading
	s := plain{rest: payload}
	if !s.object(&p, &quick) {
		return false
	}
	full, err := new(Parser).full(payload)
	if err != nil || quick != full {
		t.Errorf("%q: the quick way takes it as %+v, the full one says %+v, %v", payload, quick, full, err)
	}
	return true
}

// compareSigned holds the parser that skips the end against the one that does
// not.
func compareSigned(t *testing.T, payload []byte) {
	t.Helper()
	e, err := Split(payload)
	if err != nil {
		return
	}
	signed, err := new(Parser).ParseSigned(payload, e)
	full, fullErr := new(Parser).full(payload)
	if signed != full || (err == nil) != (fullErr == nil) {
		t.Errorf("%q: without its end it is %+v, %v, and with it %+v, %v", payload, signed, err, full, fullErr)
	}
}

// TestTheEndIsNotReadTwice tries what may stand before the signature.
func TestTheEndIsNotReadTwice(t *testing.T) {
	digits := strings.Repeat("0a", 32)
	for _, before := range []string{
		`{"device_id":"w-1","patient_id":"p-1","timestamp":1763766000,"spo2":97,"heart_rate":72`,
		`{"device_id":"w-1","patient_id":"p-1","timestamp":1763766000,"spo2":97,"heart_rate":72 `,
		`{"device_id":"w-1","patient_id":"p-1","timestamp":1763766000,"spo2":97,"heart_rate":72,"signature":"x"`,
		`{"device_id":"w-1","patient_id":"p-1","timestamp":1763766000,"spo2":97`,
		`{"device_id":"w-1","patient_id":"p-1","timestamp":1763766000,"spo2":97,"heart_rate":`,
		`{"device_id":"w-1","patient_id":"p-1","timestamp":1763766000,"spo2":97,"heart_rate":72,`,
		`{"device_id":"w-1","patient_id":"p-1","timestamp":1763766000,"spo2":97,"heart_rate":72,"a":{`,
		`{"device_id":"w-1","patient_id":"p-1","timestamp":1763766000,"spo2":97,"heart_rate":72}`,
		`{"device_id":"w-1","patient_id":"p-1","timestamp":1763766000,"spo2":97,"heart_rate":72,"note":"`,
		`{`, ``, `[1`, `{"signature":"x"`,
	} {
		for _, tail := range []string{`,"signature":"` + digits + `"}`, `, "signature" : "` + digits + `" }`} {
			compareSigned(t, []byte(before+tail))
		}
	}
}

// TestPlainTakesWhatWearablesSend makes sure that the quick way is taken at all.
func TestPlainTakesWhatWearablesSend(t *testing.T) {
	const tail = `"spo2":97,"heart_rate":72,"signature":"00"}`
	for payload, want := range map[string]bool{
		`{"device_id":"w-1","patient_id":"p-1","timestamp":1763766000.123,"seq":42,` + tail:                                          true,
		`{"device_id": "w-1", "patient_id": "p-1", "timestamp": 1763766000, "battery": 87, "fw": "2.4.1", ` + tail:                   true,
		`{"device_id":"w-1","patient_id":"p-1","timestamp":"2025-11-21T23:00:00.123Z",` + tail:                                       true,
		`{"device_id":"w-1","patient_id":"p-1","timestamp":1763766000,"fw":1,"fw":2,` + tail:                                         false,
		`{"device_id":"w-1","patient_id":"p-1","timestamp":1763766000,"SPO2":1,` + tail:                                              false,
		`{"device_id":"w-1","device_id":"w-1","patient_id":"p-1","timestamp":1763766000,` + tail:                                     false,
		`{"device_id":"w-1","patient_id":"p-1","timestamp":1.763766e9,` + tail:                                                       false,
		`{"device_id":"w-1","patient_id":"p-1","timestamp":1763766000,"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,` + tail: false,
		`{"device_id":"w-1","patient_id":"p-1",` + tail:                                                                              false,
		`{"device_id":"w-1","patient_id":"p-1","timestamp":1763766000,"a":01,` + tail:                                                false,
	} {
		if got := comparePlain(t, []byte(payload)); got != want {
			t.Errorf("%s: taken: %v, want %v", payload, got, want)
		}
	}
}
