package ledger

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"
	"unique"

	"github.com/pulsegate/pulsegate/bridge/reading"
)

// SettleOptions say what to leave out of a settlement. The zero value leaves
// out nothing.
type SettleOptions struct {
	// IgnoreBefore leaves out what was stored before this moment and is not in
	// the ledger: readings of other senders. The ledger's own count whenever
	// they were stored. Zero leaves out nothing.
	IgnoreBefore time.Time
}

// Settlement is a settling under way: first enter all entries, then store all
// readings in the order of the stream. It keeps hashes instead of payloads,
// some 200 bytes a reading. It is not safe for concurrent use.
type Settlement struct {
	options SettleOptions
	account Account
	honest  []sent
	// index is the place of a payload's hash in honest.
	index   map[digest]int
	attacks map[digest]string
	latest  map[track]position
	// inverted are devices that have an inversion.
	inverted map[string]bool
	parser   reading.Parser
}

type digest [sha256.Size]byte

// The kinds of subjects: vitals.<kind>.<patient>.<device>, of the late kind with
// the minute after that.
const (
	kindLive = "live"
	kindLate = "late"
)

// sent is an honest payload and what is known of it.
type sent struct {
	sum          digest
	identity     reading.Identity // zero where the payload has none
	origin       unique.Handle[origin]
	acknowledged time.Time
	copies       int
	first        uint64 // the sequence of the first copy
}

// origin is where an honest reading belongs. Few serve many readings.
type origin struct{ patient, device string }

// track is a sequence of readings that has an order: a device's live ones, or
// its late ones.
type track struct{ kind, device string }

// position is a reading's place in its device's own order.
type position struct {
	timestamp time.Time
	seq       uint64
	hasSeq    bool
}

func (p position) before(q position) bool {
	if !p.timestamp.Equal(q.timestamp) {
		return p.timestamp.Before(q.timestamp)
	}
	return p.hasSeq && q.hasSeq && p.seq < q.seq
}

// NewSettlement returns a settlement of nothing so far.
func NewSettlement(o SettleOptions) *Settlement {
	return &Settlement{
		options:  o,
		account:  Account{Attacks: make(map[string]*Attack), Undeclared: make(map[string]int)},
		index:    make(map[digest]int),
		attacks:  make(map[digest]string),
		latest:   make(map[track]position),
		inverted: make(map[string]bool),
	}
}

// Enter adds an entry of the ledger.
func (s *Settlement) Enter(e Entry) {
	sum := digest(sha256.Sum256(e.Payload))
	if !e.Honest() {
		if s.account.Attacks[e.Attack] == nil {
			s.account.Attacks[e.Attack] = &Attack{Rejected: make(map[string]int)}
		}
		s.account.Attacks[e.Attack].Sent += e.Attempts
		s.attacks[sum] = e.Attack
		return
	}
	at, known := s.index[sum]
	if !known {
		at = len(s.honest)
		s.index[sum] = at
		s.honest = append(s.honest, sent{
			sum: sum, identity: identityOf(e.Payload), origin: unique.Make(origin{e.Patient, e.Device}),
		})
	}
	if h := &s.honest[at]; h.acknowledged.IsZero() {
		h.acknowledged = e.Acknowledged
	}
}

// Store adds a message of the stream. It does not keep the payload.
func (s *Settlement) Store(r StoredReading) {
	sum := digest(sha256.Sum256(r.Payload))
	name, attacked := s.attacks[sum]
	at, known := s.index[sum]
	if !known && !attacked && r.Stored.Before(s.options.IgnoreBefore) {
		s.account.LeftOut++
		return
	}
	found := Finding{
		Identity: identityText(identityOf(r.Payload)), SHA256: hex.EncodeToString(sum[:]),
		Device: deviceOf(r.Subject), Sequence: r.Sequence, Subject: r.Subject, Attack: name,
	}
	if !known {
		s.account.Forged++
		note(&s.account.Findings.Forged, found)
	} else if s.deliver(r, &s.honest[at], found) {
		return
	}
	if attacked {
		s.account.Attacks[name].Delivered++
	}
}

// deliver counts a stored message with an honest payload and reports whether
// it is the one that should be there.
func (s *Settlement) deliver(r StoredReading, h *sent, found Finding) bool {
	found.Device = h.origin.Value().device
	kind, filed := filedUnder(r.Subject, h.origin.Value())
	switch {
	case !filed:
		s.account.Misfiled++
		note(&s.account.Findings.Misfiled, found)
		return false
	case h.copies > 0:
		h.copies++
		found.FirstSequence = h.first
		note(&s.account.Findings.Duplicated, found)
		return false
	}
	h.copies, h.first = 1, r.Sequence
	if kind == kindLate {
		s.account.Authentic.Late++
	} else {
		s.account.Authentic.Live++
	}
	s.follow(track{kind, found.Device}, r.Payload)
	return true
}

// follow compares a reading with the latest of its track. What has no
// timestamp, as when the gate did not verify it, has no order either.
func (s *Settlement) follow(t track, payload []byte) {
	r, err := s.parser.Parse(payload)
	if err != nil {
		return
	}
	p := position{r.Timestamp, r.Seq, r.HasSeq}
	latest, seen := s.latest[t]
	if seen && p.before(latest) {
		s.account.Inversions.Total++
		s.inverted[t.device] = true
		return
	}
	s.latest[t] = p
}

// Account returns what has come out so far.
func (s *Settlement) Account() Account {
	account := s.account
	account.Inversions.Devices = len(s.inverted)
	a := &account.Authentic
	a.Sent = len(s.honest)
	for _, h := range s.honest {
		acknowledged := !h.acknowledged.IsZero()
		if acknowledged {
			a.Acknowledged++
		}
		switch {
		case h.copies > 0:
			a.Delivered++
			a.Duplicated += h.copies - 1
		case acknowledged:
			a.Lost++
			note(&account.Findings.Lost, Finding{
				Identity: identityText(h.identity), SHA256: hex.EncodeToString(h.sum[:]),
				Device: h.origin.Value().device, Acknowledged: h.acknowledged,
			})
		}
	}
	return account
}

// filedUnder reports whether a subject is one where a reading of this origin
// belongs, and its kind.
func filedUnder(subject string, o origin) (kind string, filed bool) {
	tokens := strings.Split(subject, ".")
	if len(tokens) < 4 {
		return "", false
	}
	kind = tokens[1]
	known := kind == kindLive && len(tokens) == 4 || kind == kindLate && len(tokens) == 5
	return kind, known && tokens[2] == o.patient && tokens[3] == o.device
}

func deviceOf(subject string) string {
	if tokens := strings.Split(subject, "."); len(tokens) >= 4 {
		return tokens[3]
	}
	return ""
}

func identityOf(payload []byte) reading.Identity {
	envelope, err := reading.Split(payload)
	if err != nil {
		return reading.Identity{}
	}
	return envelope.Signature
}

func identityText(i reading.Identity) string {
	if i == (reading.Identity{}) {
		return ""
	}
	return i.String()
}
