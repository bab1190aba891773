package registry

import (
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pulsegate/pulsegate/bridge/verify"
)

// member is what a replica keeps of an entry: little, since there may be a
// hundred thousand of them. All else is read from the bucket when somebody asks.
type member struct {
	id       string
	patient  string
	verified atomic.Pointer[verify.Device]
	rest     *rest

	enrolment [enrolmentSize]byte
	// generation is that of the only key, if it is derived from master and has
	// no end, and the device had no other patient. Other keys, former patients and
	// what gateways carry are in rest.
	generation uint32
	// master is the one that the password is derived from.
	master  uint16
	revoked bool
	gateway bool
}

// rest is what not all members have.
type rest struct {
	keys []held
	// history is nil if the device had no other patient.
	history *history
	carried *carried
	// noting is true while, and after, the newest key's first use is noted.
	noting atomic.Bool
}

// history is when the device was assigned to its patient, and whom it was
// assigned to before.
type history struct {
	since  time.Time
	former []verify.Assignment
}

// held is a signing key as it is kept: not derived, and not opened.
type held struct {
	sealed string
	// until is in microseconds since 1970; 0 is no end.
	until      int64
	generation uint32
	// master is its place among the masters.
	master uint16
	used   bool
}

// carried are the devices whose readings a gateway brings.
type carried struct {
	devices  map[string]struct{}
	prefixes []string
}

func (c *carried) has(device string) bool {
	if _, ok := c.devices[device]; ok {
		return true
	}
	return slices.ContainsFunc(c.prefixes, func(p string) bool { return strings.HasPrefix(device, p) })
}

// memberOf returns what is kept of an entry that parseEntry has checked.
func (r *Registry) memberOf(e *Entry) (*member, error) {
	now := r.options.Now()
	e.trim(now.Add(-r.options.KeepHistory))
	m := &member{id: e.ID, patient: e.Patient(), revoked: e.State == Revoked, gateway: e.Kind == KindGateway}
	_, _ = hex.Decode(m.enrolment[:], []byte(e.Enrolment)) // checked by parseEntry
	var ok bool
	if m.master, ok = r.masters.place(e.Master); !ok {
		return nil, fmt.Errorf("its password needs the master key %q, which this replica does not have", e.Master)
	}
	if m.gateway {
		m.rest = &rest{carried: carriedBy(e)}
		return m, nil
	}
	keys, err := r.held(e.Keys, now)
	if err != nil {
		return nil, err
	}
	only := keys[0]
	if len(keys) == 1 && only.sealed == "" && only.until == 0 && only.master == m.master && len(e.Assignments) == 1 {
		m.generation = only.generation
		return m, nil
	}
	m.rest = &rest{keys: keys}
	if since, former := e.History(); former != nil {
		m.rest.history = &history{since, former}
	}
	return m, nil
}

func carriedBy(e *Entry) *carried {
	c := &carried{devices: make(map[string]struct{}, len(e.Carries)), prefixes: e.Prefixes}
	for _, id := range e.Carries {
		c.devices[id] = struct{}{}
	}
	return c
}

// held needs the masters of the keys that are in force. That of one which has
// ended may be gone: otherwise a master could not be given up before its last
// key is forgotten.
func (r *Registry) held(keys []KeyEntry, now time.Time) ([]held, error) {
	all := make([]held, 0, len(keys))
	for i, k := range keys {
		master, ok := r.masters.place(k.Master)
		switch {
		case ok:
			all = append(all, held{string(k.Sealed), microseconds(k.Until), k.Generation, master, !k.Used.IsZero()})
		case i == 0 || now.Before(k.Until):
			return nil, fmt.Errorf("its key of generation %d needs the master key %q, which this replica does not have", k.Generation, k.Master)
		}
	}
	return all, nil
}

func microseconds(until time.Time) int64 {
	if until.IsZero() {
		return 0
	}
	if t := until.UnixMicro(); t != 0 {
		return t
	}
	return 1
}

func (k *held) end() time.Time {
	if k.until == 0 {
		return time.Time{}
	}
	return time.UnixMicro(k.until).UTC()
}

// place is where a master stands: it takes less room than its id or a pointer.
func (m Masters) place(id string) (uint16, bool) {
	i := slices.IndexFunc(m.all, func(one Master) bool { return one.ID == id })
	return uint16(i), i >= 0 && i <= math.MaxUint16
}

func (m *member) kind() Kind {
	if m.gateway {
		return KindGateway
	}
	return KindDevice
}

// keys are a device's, the newest first; a gateway has none.
func (m *member) keys() []held {
	switch {
	case m.rest != nil:
		return m.rest.keys
	default:
		return []held{{master: m.master, generation: m.generation}}
	}
}

func (m *member) binding(generation uint32, master string) binding {
	return binding{kind: m.kind(), id: m.id, enrolment: m.enrolment[:], generation: generation, master: master}
}

func (r *Registry) secret(m *member, k held) ([]byte, error) {
	master := r.masters.all[k.master]
	b := m.binding(k.generation, master.ID)
	if k.sealed == "" {
		return master.derive(forSigning, b), nil
	}
	return master.open([]byte(k.sealed), b)
}

// signing derives or opens a device's keys. One that cannot be opened is left
// out, loudly.
func (r *Registry) signing(m *member) []verify.Key {
	var keys []verify.Key
	for _, k := range m.keys() {
		secret, err := r.secret(m, k)
		if err != nil {
			r.options.Log.Error().Err(err).Str("device", m.id).Uint32("generation", k.generation).Msg("a device's key cannot be used")
			continue
		}
		keys = append(keys, verify.Key{Generation: k.generation, Secret: secret, Until: k.end()})
	}
	return keys
}

// passwordMasters are those whose password is good at a time: a device that is
// rotated to another master keeps its password for as long as its key.
func (m *member) passwordMasters(now time.Time) []uint16 {
	masters := []uint16{m.master}
	for _, k := range m.keys() {
		if (k.until == 0 || now.Before(k.end())) && !slices.Contains(masters, k.master) {
			masters = append(masters, k.master)
		}
	}
	return masters
}

func (r *Registry) password(m *member, master uint16) string {
	by := r.masters.all[master]
	return hex.EncodeToString(by.derive(forPassword, m.binding(0, by.ID)))
}

// cached bounds how many devices have their keys derived at once.
const cached = 16_384

// cache lets the devices whose keys were derived longest ago go.
type cache struct {
	mu   sync.Mutex
	ring []*member
	next int
}

func (c *cache) add(m *member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.ring) < cached {
		c.ring = append(c.ring, m)
		return
	}
	c.ring[c.next].verified.Store(nil)
	c.ring[c.next] = m
	c.next = (c.next + 1) % cached
}
