package verify

import (
	"bytes"
	"slices"
	"time"
)

// Key is one signing key of a device.
type Key struct {
	// Generation counts a device's keys from 1.
	Generation uint32
	// Secret is the HMAC-SHA256 key.
	Secret []byte
	// Until is when the key ceases to be good; the zero time is never.
	Until time.Time
}

// inForce says whether a key was good at a time.
func (k Key) inForce(at time.Time) bool { return k.Until.IsZero() || at.Before(k.Until) }

// Assignment is a patient whom a device was assigned to before.
type Assignment struct {
	Patient string
	// From and Until are when it began and ended; a zero From is as far back as
	// is known.
	From, Until time.Time
}

// Device is what the checks need to know of an enrolled device. A Device is
// never changed once a Directory has given it out; a change is a new Device.
type Device struct {
	// ID and Patient match [A-Za-z0-9_-]{1,64} but for the single "_".
	ID      string
	Patient string
	// Revoked devices are refused before their keys are looked at.
	Revoked bool
	// Since is when the device was assigned to Patient; zero is as far back as is
	// known.
	Since time.Time
	// Former are the assignments before that one. Late readings are of them.
	Former []Assignment
	// Keys are the device's, the newest first, those included that have ended but
	// may have signed what comes late.
	Keys []Key
}

// wornBy says whether a device was assigned to a patient at a time.
func (d *Device) wornBy(patient string, at time.Time) bool {
	if !at.Before(d.Since) {
		return patient == d.Patient
	}
	return slices.ContainsFunc(d.Former, func(a Assignment) bool {
		return a.Patient == patient && !at.Before(a.From) && at.Before(a.Until)
	})
}

// Directory knows the enrolled devices.
type Directory interface {
	// Device returns the device of that id, and whether there is one. It is
	// called for every message, from many goroutines.
	Device(id string) (*Device, bool)
}

func (d *Device) key(generation uint32) Key {
	for _, k := range d.Keys {
		if k.Generation == generation {
			return k
		}
	}
	return Key{}
}

// same returns a device's key if it still is what it was. Generations alone do
// not tell: a device that was removed and added again counts from 1 anew.
func (d *Device) same(key Key) (Key, bool) {
	own := d.key(key.Generation)
	return own, len(own.Secret) > 0 && bytes.Equal(own.Secret, key.Secret)
}
