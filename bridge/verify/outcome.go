package verify

import "fmt"

// Outcome is what became of a message. The set is closed, and spelled the same
// in metrics, logs, subjects, test vectors and the command line.
type Outcome uint8

const (
	// Accepted is the outcome of a reading that passed every check.
	Accepted Outcome = iota
	// Malformed fails check 1: size, topic shape, the trailing signature.
	Malformed
	// UnknownDevice fails check 2: nobody enrolled the topic's device.
	UnknownDevice
	// RevokedDevice fails check 2: the device was cut off.
	RevokedDevice
	// BadSignature fails check 3: no key in force made this MAC.
	BadSignature
	// InvalidReading fails check 4: not strict JSON, or a member missing or out
	// of range, though signed with a true key.
	InvalidReading
	// WrongDevice fails check 5: payload, topic and connection differ.
	WrongDevice
	// WrongPatient fails check 6: the registry assigns the device to another.
	WrongPatient
	// Late passes all but check 7: authentic, too old for triage, kept.
	Late
	// Stale fails check 7: too old to be taken.
	Stale
	// Future fails check 7: measured later than now.
	Future
	// Duplicate fails check 8: stored before. It is acknowledged.
	Duplicate
	// Will is a connection that wanted to leave a will, which bypasses checks.
	Will
	// Retained is a publish to be retained, which would reach later subscribers.
	Retained
	// RateLimited is what came faster than its sender may send.
	RateLimited

	outcomeCount
)

var outcomeNames = [outcomeCount]string{
	"accepted", "malformed", "unknown_device", "revoked_device", "bad_signature", "invalid_reading",
	"wrong_device", "wrong_patient", "late", "stale", "future", "duplicate", "will", "retained", "rate_limited",
}

// String returns the outcome's one spelling.
func (o Outcome) String() string {
	if o < outcomeCount {
		return outcomeNames[o]
	}
	return fmt.Sprintf("outcome(%d)", uint8(o))
}

// Outcomes lists the closed set in the order of the checks.
func Outcomes() []Outcome {
	all := make([]Outcome, outcomeCount)
	for i := range all {
		all[i] = Outcome(i)
	}
	return all
}
