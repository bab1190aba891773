package ledger

import (
	"slices"
	"strings"
)

// StoredReading is one message of the stream of verified readings.
type StoredReading struct {
	// Subject is vitals.live.<patient>.<device>, or the late form of it.
	Subject string
	Payload []byte
}

// Rejection is one message of the stream of rejections, as far as settling
// needs it.
type Rejection struct {
	Outcome string `json:"outcome"`
	SHA256  string `json:"payload_sha256"`
}

// Account is a settled ledger: what was sent against what was stored.
type Account struct {
	Authentic Authentic `json:"authentic"`
	// Attacks is by name.
	Attacks map[string]*Attack `json:"attacks"`
	// Forged counts stored messages that no honest sender sent.
	Forged int `json:"-"`
	// Misfiled counts stored messages with an honest payload under a subject
	// that does not name its patient and device. They are not delivered.
	Misfiled int `json:"-"`
	// Undeclared counts, by "attack: outcome", outcomes that an attack met
	// without having declared them.
	Undeclared map[string]int `json:"-"`
}

// Authentic counts honest readings; each is counted by its bytes, however often
// it was sent.
type Authentic struct {
	Sent         int `json:"sent"`
	Acknowledged int `json:"acknowledged"`
	// Delivered counts readings that are stored at least once.
	Delivered int `json:"delivered"`
	// Lost counts readings that were acknowledged but are not stored.
	Lost int `json:"lost"`
	// Duplicated counts stored copies beyond each reading's first.
	Duplicated int `json:"duplicated"`
}

// Attack counts what one attack sent and how far it came.
type Attack struct {
	Sent int `json:"sent"`
	// Rejected counts rejections by outcome.
	Rejected map[string]int `json:"rejected"`
	// Delivered counts stored messages that the attack brought about: forged
	// ones, or copies beyond the first of an honest one that it replayed.
	Delivered int `json:"delivered"`
}

// Settle compares a ledger with everything that is stored. Payloads are
// compared byte for byte.
func Settle(entries []Entry, stored []StoredReading) Account {
	s := settlement{
		account: Account{Attacks: make(map[string]*Attack), Undeclared: make(map[string]int)},
		honest:  make(map[string]*sent),
		attacks: make(map[string]string),
	}
	for _, e := range entries {
		s.enter(e)
	}
	for _, r := range stored {
		s.store(r)
	}
	s.close()
	return s.account
}

// Attribute adds to an account the rejections that the attacks met, by the hash
// of the payload. entries must be those that the account was settled from. It
// leaves out rejections of payloads that no attack sent.
func (a *Account) Attribute(entries []Entry, rejections []Rejection) {
	byHash := make(map[string]Entry)
	for _, e := range entries {
		if !e.Honest() {
			byHash[e.SHA256] = e
		}
	}
	for _, r := range rejections {
		e, ok := byHash[r.SHA256]
		if !ok {
			continue
		}
		if attack := a.Attacks[e.Attack]; attack != nil {
			attack.Rejected[r.Outcome]++
		}
		if !slices.Contains(e.Expected, r.Outcome) {
			a.Undeclared[e.Attack+": "+r.Outcome]++
		}
	}
}

// sent is an honest payload and what is known of it.
type sent struct {
	entry        Entry
	acknowledged bool
	copies       int
}

// settlement is a settling under way. Its maps are by payload.
type settlement struct {
	account Account
	honest  map[string]*sent
	attacks map[string]string
}

func (s *settlement) enter(e Entry) {
	if !e.Honest() {
		if s.account.Attacks[e.Attack] == nil {
			s.account.Attacks[e.Attack] = &Attack{Rejected: make(map[string]int)}
		}
		s.account.Attacks[e.Attack].Sent += e.Attempts
		s.attacks[string(e.Payload)] = e.Attack
		return
	}
	h := s.honest[string(e.Payload)]
	if h == nil {
		h = &sent{entry: e}
		s.honest[string(e.Payload)] = h
	}
	h.acknowledged = h.acknowledged || !e.Acknowledged.IsZero()
}

func (s *settlement) store(r StoredReading) {
	attack := s.account.Attacks[s.attacks[string(r.Payload)]]
	h := s.honest[string(r.Payload)]
	switch {
	case h == nil:
		s.account.Forged++
	case !filedUnder(r.Subject, h.entry):
		s.account.Misfiled++
	default:
		h.copies++
		if h.copies == 1 {
			return
		}
	}
	if attack != nil {
		attack.Delivered++
	}
}

func (s *settlement) close() {
	a := &s.account.Authentic
	a.Sent = len(s.honest)
	for _, h := range s.honest {
		if h.acknowledged {
			a.Acknowledged++
		}
		switch {
		case h.copies > 0:
			a.Delivered++
			a.Duplicated += h.copies - 1
		case h.acknowledged:
			a.Lost++
		}
	}
}

// filedUnder reports whether a subject is one where the entry's reading belongs:
// its third and fourth tokens are patient and device.
func filedUnder(subject string, e Entry) bool {
	tokens := strings.Split(subject, ".")
	return len(tokens) >= 4 && tokens[2] == e.Patient && tokens[3] == e.Device
}
