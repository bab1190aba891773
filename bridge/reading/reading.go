// Package reading is the signed reading, version 1: how a wearable signs what
// it measured, and how exactly those bytes are verified and parsed. The
// specification that other implementations follow is docs/signed-reading.md.
//
// The package knows no transport and no clock.
package reading

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"
)

const (
	// MaxPayload is the largest payload that is a reading, in bytes.
	MaxPayload = 4096
	// MaxID is the longest device or patient id, in bytes.
	MaxID = 64
	// MaxSeq is the largest sequence number: the largest integer that every
	// JSON implementation keeps exactly (RFC 8259 section 6).
	MaxSeq = 1<<53 - 1
	// MaxSpO2 is the largest oxygen saturation, in percent.
	MaxSpO2 = 100
	// MaxHeartRate is the largest heart rate, in beats per minute.
	MaxHeartRate = 350
	// MaxTimestamp is the last second of the year 9999 as an RFC 7519
	// NumericDate, the end of what RFC 3339 can write.
	MaxTimestamp = 253402300799
)

var (
	// ErrMalformed says that a payload does not end in a signature member of
	// the exact form that the specification gives, or is larger than
	// MaxPayload. Nothing is known about who sent it.
	ErrMalformed = errors.New("malformed")
	// ErrInvalid says that a payload is no reading: not strict JSON, a member
	// missing, or a value out of its range.
	ErrInvalid = errors.New("invalid reading")
	// ErrText says that a text cannot be signed as it stands.
	ErrText = errors.New("cannot sign")
)

// Identity is the MAC of a reading, 32 bytes. Equal identities are the same
// reading; it is the message id under which JetStream stores it.
type Identity [sha256.Size]byte

// String returns the identity as 64 lower-case hexadecimal digits.
func (i Identity) String() string { return hex.EncodeToString(i[:]) }

// Reading is what a payload says, once it has been parsed.
type Reading struct {
	// DeviceID and PatientID match [A-Za-z0-9_-]{1,64} but for the single "_".
	DeviceID  string
	PatientID string
	// Timestamp is when the wearable measured, in UTC, to the microsecond.
	Timestamp time.Time
	// Seq counts a device's readings, 0 to MaxSeq; it means something only
	// where HasSeq is true.
	Seq    uint64
	HasSeq bool
	// SpO2 is the oxygen saturation in percent (LOINC 59408-5), 0 to MaxSpO2.
	SpO2 float64
	// HeartRate is in beats per minute (LOINC 8867-4), 0 to MaxHeartRate.
	HeartRate float64
}

// ValidID reports whether an id of a device or patient is one: it must also be
// a NATS subject token and an MQTT topic level, and "_" stands for "none".
func ValidID(id string) bool {
	if len(id) == 0 || len(id) > MaxID || id == "_" {
		return false
	}
	for i := range len(id) {
		c := id[i]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		digit := '0' <= c && c <= '9'
		if !letter && !digit && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
