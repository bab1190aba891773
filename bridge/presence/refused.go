package presence

import (
	"time"

	"github.com/pulsegate/pulsegate/bridge/verify"
)

// fewest is how many must have been refused.
const fewest = 5

// tally is of what has been refused since something was accepted.
type tally struct {
	// since is when the first was refused, in microseconds since 1970.
	since int64
	// by is how many for what; the last counts all outcomes beyond it.
	by [16]uint32
}

// add counts one more, and says whether it is enough.
func (t *tally) add(o verify.Outcome, received time.Time, after time.Duration) bool {
	if t.since == 0 {
		t.since = received.UnixMicro()
	}
	t.by[min(int(o), len(t.by)-1)]++
	_, _, all := t.prevailing()
	return all >= fewest && received.UnixMicro()-t.since >= after.Microseconds()
}

// prevailing is the outcome that most were refused for, how many, and of how
// many.
func (t *tally) prevailing() (o verify.Outcome, of, all uint32) {
	for i, n := range t.by {
		all += n
		if n > of {
			o, of = verify.Outcome(i), n
		}
	}
	return o, of, all
}

// advice is what to do about a device whose messages are refused.
func advice(o verify.Outcome) string {
	switch o {
	case verify.BadSignature:
		return "its key is not the one of the registry: pair it again, or look who has its password"
	case verify.WrongPatient:
		return "it is assigned to another patient than it says: assign it, or set it up anew"
	case verify.WrongDevice:
		return "it sends as another device: give it its own id, or let a gateway carry the others"
	case verify.Future, verify.Stale:
		return "its clock is off: set it"
	case verify.RateLimited:
		return "it sends faster than limits.device_rate allows"
	case verify.Retained, verify.Will:
		return "its client asks for what is not accepted: send without retain, and leave no will"
	case verify.Malformed, verify.InvalidReading:
		return "what it sends is no signed reading: look at its firmware"
	}
	return "look at the stream REJECTIONS"
}
