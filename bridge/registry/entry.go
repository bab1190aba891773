package registry

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/pulsegate/pulsegate/bridge/reading"
	"github.com/pulsegate/pulsegate/bridge/verify"
)

// Kind is what an identity is.
type Kind string

// The kinds of identities. They share one space of ids, since each is an MQTT
// client identifier.
const (
	KindDevice  Kind = "device"
	KindGateway Kind = "gateway"
)

// State says whether an identity is served.
type State string

// The states of an identity.
const (
	Active  State = "active"
	Revoked State = "revoked"
	// Damaged is the state, in lists alone, of an entry that cannot be used.
	Damaged State = "damaged"
)

// Entry is what the bucket holds of an identity, under its id. It holds no
// secret in the clear.
type Entry struct {
	Kind  Kind   `json:"kind"`
	ID    string `json:"id"`
	State State  `json:"state"`
	// Ward and Labels are for people.
	Ward   string            `json:"ward,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
	// Enrolment is random and new at every add, as 32 hexadecimal digits, so
	// that adding a removed id again revives none of its secrets.
	Enrolment string `json:"enrolment"`
	// Master names the master secret that the MQTT password is derived from. While
	// a device's older key is in force, so is the password from that key's master.
	Master string `json:"master"`
	// Keys are a device's signing keys, the newest first; those that have ended
	// are kept for as long as late readings are.
	Keys []KeyEntry `json:"keys,omitempty"`
	// Assignments are a device's patients, the latest first, kept likewise.
	Assignments []Assignment `json:"assignments,omitempty"`
	// Carries and Prefixes say for which devices a gateway may bring readings.
	Carries  []string `json:"carries,omitempty"`
	Prefixes []string `json:"prefixes,omitempty"`

	Added     time.Time `json:"added"`
	Changed   time.Time `json:"changed"`
	ChangedBy string    `json:"changed_by,omitempty"`
}

// KeyEntry is one generation of a device's signing key.
type KeyEntry struct {
	// Generation counts a device's keys from 1.
	Generation uint32 `json:"generation"`
	// Master names the master secret that the key is derived from or sealed
	// under.
	Master string `json:"master"`
	// From and Until are the times between which the key is in force; a zero
	// Until is no end.
	From  time.Time `json:"from"`
	Until time.Time `json:"until,omitzero"`
	// Sealed is an imported key, encrypted; without it the key is derived.
	Sealed []byte `json:"sealed,omitempty"`
	// Used is when the key first signed a reading that was accepted, noted only
	// after a rotation; zero is not yet, or not noted.
	Used time.Time `json:"used,omitzero"`
}

// Assignment is a patient and the times between which he wore the device; a
// zero Until is no end.
type Assignment struct {
	PatientID string    `json:"patient_id"`
	From      time.Time `json:"from"`
	Until     time.Time `json:"until,omitzero"`
}

// Patient is the one that a device is assigned to now.
func (e *Entry) Patient() string {
	if len(e.Assignments) == 0 {
		return ""
	}
	return e.Assignments[0].PatientID
}

// History returns when a device's present assignment began, and those before
// it, the latest first. The oldest that is known goes as far back as anybody
// asks: its beginning is the zero time.
func (e *Entry) History() (since time.Time, former []verify.Assignment) {
	if len(e.Assignments) < 2 {
		return time.Time{}, nil
	}
	for _, a := range e.Assignments[1:] {
		former = append(former, verify.Assignment{Patient: a.PatientID, From: a.From, Until: a.Until})
	}
	former[len(former)-1].From = time.Time{}
	return e.Assignments[0].From, former
}

// Generation is that of a device's newest key.
func (e *Entry) Generation() uint32 {
	if len(e.Keys) == 0 {
		return 0
	}
	return e.Keys[0].Generation
}

// Pending says whether a device has been rotated but has not been heard with
// its new key, and the old one is still in force.
func (e *Entry) Pending(now time.Time) bool {
	return len(e.Keys) > 1 && e.Keys[0].Used.IsZero() && now.Before(e.Keys[1].Until)
}

// clone shares no list with its original.
func (e *Entry) clone() Entry {
	c := *e
	c.Keys, c.Assignments = slices.Clone(e.Keys), slices.Clone(e.Assignments)
	return c
}

// sameButUsed says whether two versions differ at most in what Signed notes.
func (e *Entry) sameButUsed(other Entry) bool {
	a, b := e.clone(), other.clone()
	for _, keys := range [][]KeyEntry{a.Keys, b.Keys} {
		for i := range keys {
			keys[i].Used = time.Time{}
		}
	}
	first, err := json.Marshal(a)
	second, err2 := json.Marshal(b)
	return errors.Join(err, err2) == nil && bytes.Equal(first, second)
}

// trim forgets keys and assignments that ended before a time.
func (e *Entry) trim(before time.Time) {
	ended := func(until time.Time) bool { return !until.IsZero() && until.Before(before) }
	for len(e.Keys) > 1 && ended(e.Keys[len(e.Keys)-1].Until) {
		e.Keys = e.Keys[:len(e.Keys)-1]
	}
	for len(e.Assignments) > 1 && ended(e.Assignments[len(e.Assignments)-1].Until) {
		e.Assignments = e.Assignments[:len(e.Assignments)-1]
	}
}

// parseEntry reads an entry of the bucket. Its errors quote nothing of it.
func parseEntry(key string, value []byte) (Entry, error) {
	var e Entry
	if json.Unmarshal(value, &e) != nil {
		return e, errors.New("not JSON of an entry's form")
	}
	return e, e.check(key)
}

func (e *Entry) check(key string) error {
	if enrolment, err := hex.DecodeString(e.Enrolment); err != nil || len(enrolment) != enrolmentSize {
		return errors.New("enrolment is not 32 hexadecimal digits")
	}
	switch {
	case e.ID != key || !reading.ValidID(key):
		return errors.New("id is not the entry's key")
	case e.State != Active && e.State != Revoked:
		return errors.New("state is neither active nor revoked")
	case !reading.ValidID(e.Master):
		return errors.New("master is not an id")
	}
	switch e.Kind {
	case KindDevice:
		return e.checkDevice()
	case KindGateway:
		return nil
	default:
		return errors.New("kind is neither device nor gateway")
	}
}

func (e *Entry) checkDevice() error {
	if len(e.Keys) == 0 || len(e.Assignments) == 0 {
		return errors.New("a device without a key or a patient")
	}
	for i, k := range e.Keys {
		if k.Generation == 0 || !reading.ValidID(k.Master) || i > 0 && (k.Generation >= e.Keys[i-1].Generation || k.Until.IsZero()) {
			return errors.New("the keys are not in order, or not whole")
		}
	}
	for _, a := range e.Assignments {
		if !reading.ValidID(a.PatientID) {
			return errors.New("patient_id is not an id")
		}
	}
	return nil
}
