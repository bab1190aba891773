package reading

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "write vectors.json anew from the tables in this package")

// The keys of the default devices. They are easy to type, so that an
// implementer can try one vector by hand.
const (
	keyCurrent  = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	keyPrevious = "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"
	keyRetired  = "404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f"
	keyOther    = "606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f"
	keyRevoked  = "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"
)

// TestVectorsFile keeps vectors.json equal to the tables, in which every
// outcome is stated by hand.
func TestVectorsFile(t *testing.T) {
	var file bytes.Buffer
	e := json.NewEncoder(&file)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(vectorTables()); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("vectors.json", file.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if file.String() != VectorsJSON() {
		t.Fatal("vectors.json differs from the tables; write it with: go test ./bridge/reading -run TestVectorsFile -update")
	}
}

func vectorTables() vectorFile {
	return vectorFile{
		Format:      "pulsegate signed reading vectors",
		Version:     VectorsVersion,
		Description: "Each vector is one message and the outcome that a verifier must come to; see docs/signed-reading.md. What a vector does not state for itself is in defaults.",
		Defaults: circumstances{
			Topic:        new("wearables/w-0001/vitals"),
			Connected:    new("w-0001"),
			Now:          new(time.Date(2025, 11, 21, 23, 0, 0, 500e6, time.UTC)),
			TopicPattern: new("wearables/{device_id}/vitals"),
			MaxAge:       new(60.0),
			MaxFuture:    new(5.0),
			Late:         new("refuse"),
			Devices: new([]vectorDevice{
				{DeviceID: "w-0001", PatientID: "p-0001", Keys: []vectorKey{{2, keyCurrent}, {1, keyPrevious}}},
				{DeviceID: "w-0002", PatientID: "p-0002", Keys: []vectorKey{{1, keyOther}}},
				{DeviceID: "w-0003", PatientID: "p-0003", Revoked: true, Keys: []vectorKey{{1, keyRevoked}}},
			}),
			Stored: new([]string{}),
		},
		Vectors: slices.Concat(
			tailVectors(), spaceVectors(), keyVectors(), topicVectors(), syntaxVectors(), nameVectors(),
			idVectors(), numberVectors(), timestampVectors(), policyVectors(),
		),
	}
}

// option states something about a vector that differs from the defaults.
type option func(*vectorEntry)

// accept states a vector that must be accepted. It reads as the standard
// reading does, signed with the current key, unless an option says otherwise.
func accept(name, description, payload string, options ...option) vectorEntry {
	standard := &vectorReading{
		DeviceID: "w-0001", PatientID: "p-0001", Timestamp: 1763766000123000, Seq: new(uint64(42)), SpO2: 97, HeartRate: 72,
	}
	all := append([]option{func(e *vectorEntry) { e.Reading, e.Generation = standard, 2 }}, options...)
	return refuse("accepted", name, description, payload, all...)
}

// refuse states a vector with another outcome.
func refuse(outcome, name, description, payload string, options ...option) vectorEntry {
	e := vectorEntry{Name: name, Description: description, Outcome: outcome}
	if utf8.ValidString(payload) {
		e.Payload = &payload
	} else {
		e.PayloadBase64 = []byte(payload)
	}
	for _, o := range options {
		o(&e)
	}
	return e
}

func on(topic string) option     { return func(e *vectorEntry) { e.Topic = &topic } }
func connected(id string) option { return func(e *vectorEntry) { e.Connected = &id } }
func reads(change func(*vectorReading)) option {
	return func(e *vectorEntry) { change(e.Reading) }
}
func readAt(microseconds int64) option {
	return reads(func(r *vectorReading) { r.Timestamp = microseconds })
}
func registered(devices ...vectorDevice) option {
	return func(e *vectorEntry) { e.Devices = &devices }
}

// text is the standard reading without a signature, with members changed: pairs
// of a name and its value as JSON. A new name is put at the end; an empty value
// leaves the member out.
func text(changes ...string) string {
	members := [][2]string{
		{"device_id", `"w-0001"`}, {"patient_id", `"p-0001"`}, {"timestamp", "1763766000.123"},
		{"seq", "42"}, {"spo2", "97"}, {"heart_rate", "72"},
	}
	for i := 0; i < len(changes); i += 2 {
		at := slices.IndexFunc(members, func(m [2]string) bool { return m[0] == changes[i] })
		if at < 0 {
			at, members = len(members), append(members, [2]string{changes[i]})
		}
		members[at][1] = changes[i+1]
	}
	var parts []string
	for _, m := range members {
		if m[1] != "" {
			parts = append(parts, `"`+m[0]+`":`+m[1])
		}
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// mac computes with the standard library alone, so that the vectors do not
// follow a mistake in this package.
func mac(key, text string) string {
	secret, err := hex.DecodeString(key)
	if err != nil {
		panic(err)
	}
	return macBytes(secret, text)
}

func macBytes(secret []byte, text string) string {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(text))
	return hex.EncodeToString(h.Sum(nil))
}

// sealed puts a signature onto a text as it stands.
func sealed(text, signature string) string {
	return strings.TrimSuffix(text, "}") + `,"signature":"` + signature + `"}`
}

// signed signs a text with the current key of w-0001.
func signed(text string) string { return sealed(text, mac(keyCurrent, text)) }

// tailed signs the standard text and writes the rest of the payload in a form
// of its own, in which HEX stands for the signature.
func tailed(form string) string {
	return strings.TrimSuffix(text(), "}") + strings.Replace(form, "HEX", mac(keyCurrent, text()), 1)
}
