package registry

import (
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"

	"github.com/pulsegate/pulsegate/bridge/reading"
)

// ErrInvalid says that what was asked for cannot be.
var ErrInvalid = errors.New("not possible")

// What people write is bounded, so that a page of entries fits a message.
const (
	// maxText is the longest ward or label in bytes.
	maxText = 128
	// maxLabels is how many labels an entry may have.
	maxLabels = 32
	// maxCarried is how many devices and prefixes a gateway may name.
	maxCarried = 10_000
)

// New is what enrolling needs.
type New struct {
	Kind    Kind
	ID      string
	Patient string
	Ward    string
	Labels  map[string]string
	// Key is an imported signing key; nil derives one.
	Key               []byte
	Carries, Prefixes []string
	// State is Active where it is empty; a fleet that is restored has revoked
	// devices too.
	State State
	// By is who asks, for the record.
	By string
}

// check says why something cannot be enrolled. Nothing secret is quoted.
func (n *New) check() error {
	if n.Kind != KindDevice && n.Kind != KindGateway {
		return fmt.Errorf("%w: kind must be %s or %s", ErrInvalid, KindDevice, KindGateway)
	}
	if n.State != "" && n.State != Active && n.State != Revoked {
		return fmt.Errorf("%w: state must be %s or %s", ErrInvalid, Active, Revoked)
	}
	if !reading.ValidID(n.ID) {
		return fmt.Errorf("%s id %q: %w", n.Kind, n.ID, ErrBadID)
	}
	if n.Kind == KindDevice {
		if !reading.ValidID(n.Patient) {
			return fmt.Errorf("patient id %q: %w", n.Patient, ErrBadID)
		}
		if err := checkKey(n.Key); n.Key != nil && err != nil {
			return err
		}
	}
	return n.checkTexts()
}

func (n *New) checkTexts() error {
	if !isText(n.Ward) {
		return fmt.Errorf("%w: the ward must be printable and at most %d bytes", ErrInvalid, maxText)
	}
	if len(n.Labels) > maxLabels {
		return fmt.Errorf("%w: %d labels, at most %d are allowed", ErrInvalid, len(n.Labels), maxLabels)
	}
	for name, value := range n.Labels {
		if name == "" || !isText(name) || !isText(value) {
			return fmt.Errorf("%w: labels must be printable and at most %d bytes, their names not empty", ErrInvalid, maxText)
		}
	}
	return nil
}

// isText keeps control characters from the terminals of those who list.
func isText(s string) bool {
	if len(s) > maxText || !utf8.ValidString(s) {
		return false
	}
	for _, c := range s {
		if !unicode.IsPrint(c) {
			return false
		}
	}
	return true
}

func carry(e *Entry, devices, prefixes []string) error {
	if n := len(devices) + len(prefixes); n > maxCarried {
		return fmt.Errorf("%w: %d devices and prefixes, at most %d are allowed", ErrInvalid, n, maxCarried)
	}
	for _, id := range append(append([]string(nil), devices...), prefixes...) {
		if !reading.ValidID(id) {
			return fmt.Errorf("device or prefix %q: %w", id, ErrBadID)
		}
	}
	e.Carries, e.Prefixes = devices, prefixes
	return nil
}
