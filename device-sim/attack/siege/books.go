package siege

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"sync"
	"time"

	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/device-sim/fleet"
)

// books say what the devices of a siege have signed: nothing else may come out of
// the gate in their names, and each of it once.
type books struct {
	clock func() time.Time
	keys  map[string][]byte

	mu     sync.Mutex
	seq    uint64
	signed map[string]bool // by payload: whether it was acknowledged with success
}

func newBooks(clock func() time.Time) *books {
	return &books{clock: clock, keys: make(map[string][]byte), signed: make(map[string]bool)}
}

// enter takes in a device, before anything is signed.
func (b *books) enter(c registry.Credentials) error {
	key, err := fleet.Key(c)
	b.keys[c.DeviceID] = key
	return err
}

// knows says whether the device is one of the siege's.
func (b *books) knows(device string) bool { return b.keys[device] != nil }

// sign returns an authentic reading that is new. The note is a JSON string with
// its quotes, or empty.
func (b *books) sign(c registry.Credentials, note string) []byte {
	text := b.text(c)
	if note != "" {
		text = fmt.Appendf(text[:len(text)-1], `,"note":%s}`, note)
	}
	payload := seal(b.keys[c.DeviceID], text)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.signed[string(payload)] = false
	return payload
}

// text is a right and present reading.
func (b *books) text(c registry.Credentials) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seq++
	return fleet.Sample{
		Device: c.DeviceID, Patient: c.PatientID, Timestamp: b.clock(), Seq: b.seq, SpO2: 97, HeartRate: 72,
	}.Text()
}

// wrong returns a reading of a true signature that is not to pass: the value, as
// JSON has it between quotes, is added to a member of its text.
func (b *books) wrong(c registry.Credentials, member, value string) []byte {
	before := fmt.Appendf(nil, `"%s":"`, member)
	text := bytes.Replace(b.text(c), before, append(before, value...), 1)
	return seal(b.keys[c.DeviceID], text)
}

// seal signs any text, also one that reading.Sign would refuse.
func seal(key, text []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(text)
	return fmt.Appendf(nil, `%s,"signature":"%x"}`, text[:len(text)-1], mac.Sum(nil))
}

func (b *books) acknowledged(payload []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.signed[string(payload)] = true
}

// authentic says whether the payload is one that was signed here.
func (b *books) authentic(payload []byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.signed[string(payload)]
	return ok
}

// owed returns the payloads that were acknowledged with success.
func (b *books) owed() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []string
	for payload, acknowledged := range b.signed {
		if acknowledged {
			all = append(all, payload)
		}
	}
	return all
}
