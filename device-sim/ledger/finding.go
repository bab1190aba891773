package ledger

import "time"

// MaxFindings is how many findings of a kind an account names.
const MaxFindings = 10

// Finding is one reading that is not as it should be. It holds no payload.
type Finding struct {
	// Identity is the payload's signature, 64 lower-case hex digits, or empty
	// where the payload ends in none.
	Identity string `json:"identity,omitempty"`
	// SHA256 is the payload's hash, 64 lower-case hex digits.
	SHA256 string `json:"sha256"`
	// Device is the device that the ledger names, or the subject of a reading
	// that the ledger does not know.
	Device string `json:"device"`
	// Sequence is the message's place in the stream, Subject where it is
	// stored; a lost reading has neither.
	Sequence uint64 `json:"sequence,omitempty"`
	Subject  string `json:"subject,omitempty"`
	// FirstSequence is, of a reading stored twice, the place of its first copy.
	FirstSequence uint64 `json:"first_sequence,omitempty"`
	// Attack is the attack that sent the payload, if one did.
	Attack string `json:"attack,omitempty"`
	// Acknowledged is when the PUBACK of a lost reading came.
	Acknowledged time.Time `json:"acknowledged,omitzero"`
}

// Findings are the first MaxFindings of each kind: lost ones in the order in
// which they were entered, the others in the order of the stream.
type Findings struct {
	Lost       []Finding `json:"lost,omitempty"`
	Duplicated []Finding `json:"stored_twice,omitempty"`
	Forged     []Finding `json:"forged,omitempty"`
	Misfiled   []Finding `json:"misfiled,omitempty"`
}

func note(kind *[]Finding, f Finding) {
	if len(*kind) < MaxFindings {
		*kind = append(*kind, f)
	}
}
