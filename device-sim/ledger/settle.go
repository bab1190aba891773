package ledger

import (
	"slices"
	"time"
)

// StoredReading is one message of the stream of verified readings.
type StoredReading struct {
	// Subject is vitals.live.<patient>.<device>, or the late form of it.
	Subject string
	Payload []byte
	// Sequence is the message's place in the stream, from 1; 0 where it does
	// not matter. It is only reported.
	Sequence uint64
	// Stored is when it was stored, by the stream's clock; only
	// SettleOptions.IgnoreBefore looks at it.
	Stored time.Time
}

// Rejection is one message of the stream of rejections, as far as settling
// needs it.
type Rejection struct {
	Outcome string `json:"outcome"`
	SHA256  string `json:"payload_sha256"`
	// LeftOut is more than 0 in a summary: it stands for as many messages, whose
	// hashes nobody knows.
	LeftOut int `json:"left_out"`
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
	// Unattributed counts rejections that only a summary tells of, and so of
	// no attack in particular.
	Unattributed int `json:"-"`
	// LeftOut counts stored messages that SettleOptions.IgnoreBefore left out.
	LeftOut int `json:"-"`
	// Inversions are no failure: consumers order by timestamp and seq.
	Inversions Inversions `json:"-"`
	// Findings name the first of what is counted above.
	Findings Findings `json:"-"`
}

// Inversions count stored readings that are signed earlier (timestamp, then
// seq) than one of the same device that was stored before. A reading that was
// sent again may be one. Live and late readings are compared each among
// themselves; of copies only the first counts.
type Inversions struct {
	Total int
	// Devices is how many devices have any.
	Devices int
}

// Authentic counts honest readings; each is counted by its bytes, however often
// it was sent.
type Authentic struct {
	Sent         int `json:"sent"`
	Acknowledged int `json:"acknowledged"`
	// Delivered counts readings that are stored at least once. Each is one of
	// Live and Late, by its first copy's subject.
	Delivered int `json:"delivered"`
	Live      int `json:"-"`
	Late      int `json:"-"`
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

// Settle compares a ledger with everything that is stored. stored is in the
// order of the stream. Payloads are compared by SHA-256.
func Settle(entries []Entry, stored []StoredReading) Account {
	s := NewSettlement(SettleOptions{})
	for _, e := range entries {
		s.Enter(e)
	}
	for _, r := range stored {
		s.Store(r)
	}
	return s.Account()
}

// Attribute adds to an account the rejections that the attacks met, by the hash
// of the payload. entries must be those that the account was settled from. It
// leaves out rejections of payloads that no attack sent, and counts as
// Unattributed those that have no hash.
func (a *Account) Attribute(entries []Entry, rejections []Rejection) {
	byHash := make(map[string]Entry)
	for _, e := range entries {
		if !e.Honest() {
			byHash[e.SHA256] = e
		}
	}
	for _, r := range rejections {
		a.Unattributed += r.LeftOut
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
