package verify

import (
	"fmt"
	"time"
)

// compare runs check 5 on an authentic, well-formed reading, and goes on.
func (s *Session) compare(v Verdict, key Key) Verdict {
	switch {
	case v.Reading.DeviceID != v.Device.ID:
		return v.refuse(WrongDevice, "device_id is not the device of the topic")
	case !s.brings(v.Device.ID):
		return v.refuse(WrongDevice, "the connection belongs to another device")
	}
	return s.place(v, key, v.Now)
}

// place runs checks 6 and 7 on a reading whose key was good when it was measured,
// and may be in force at a time: it is current if its age, its patient and its
// key all are. What is not may be late; then the patient is the one of its
// timestamp.
func (s *Session) place(v Verdict, key Key, at time.Time) Verdict {
	r, d := &v.Reading, v.Device
	keep := s.config.Late == LateKeep
	old := r.Timestamp.Before(v.Now.Add(-s.config.MaxAge))
	current := r.PatientID == d.Patient && key.inForce(at)
	worn := keep && d.wornBy(r.PatientID, r.Timestamp)
	lost := old && (!keep || r.Timestamp.Before(v.Now.Add(-s.config.MaxLate)))
	switch {
	case r.PatientID != d.Patient && !worn, keep && old && !lost && !worn:
		return v.refuse(WrongPatient, "patient_id is not the patient that the device was assigned to")
	case r.Timestamp.After(v.Now.Add(s.config.MaxFuture)):
		return v.refuse(Future, fmt.Sprintf("measured %v from now, at most %v is allowed", r.Timestamp.Sub(v.Now).Round(time.Millisecond), s.config.MaxFuture))
	case lost:
		return v.refuse(Stale, fmt.Sprintf("measured %v ago, at most %v is allowed", v.Age().Round(time.Millisecond), s.oldest()))
	case old:
		return v.refuse(Late, fmt.Sprintf("measured %v ago: stored, but not as current", v.Age().Round(time.Millisecond)))
	case !current:
		return v.refuse(Late, "of a former assignment or key: stored, but not as current")
	}
	return v
}

// good says whether a key that made a reading's MAC may have: it is in force, or
// was when a reading that may be late was measured.
func (s *Session) good(key Key, at, measured time.Time) bool {
	return key.inForce(at) || s.config.Late == LateKeep && key.inForce(measured)
}

// oldest is the greatest age of what is taken at all.
func (s *Session) oldest() time.Duration {
	if s.config.Late == LateKeep {
		return s.config.MaxLate
	}
	return s.config.MaxAge
}

func (s *Session) brings(device string) bool {
	return s.connection == "" || s.connection == device || s.carries(device)
}

// Recheck says what becomes of a reading that was Accepted or Late by the
// directory as it is now: whoever waits before it publishes must ask again. Its
// age is left alone; it was fresh, or not too late, when it came. What was Late
// stays so. A Doubt is of the time of asking. It is safe for concurrent use.
func (s *Session) Recheck(v Verdict) Verdict {
	then := v.Device
	at, doubt := s.clock()
	v.Doubt = doubt
	now, known := s.directory.Device(then.ID)
	key, has := Key{}, false
	if known {
		key, has = now.same(then.key(v.Generation))
	}
	switch {
	case !known:
		return v.refuse(UnknownDevice, "the device has been removed meanwhile")
	case now.Revoked:
		return v.refuse(RevokedDevice, "the device has been revoked meanwhile")
	case !has, !s.good(key, at, v.Reading.Timestamp):
		return v.refuse(BadSignature, "the key is no longer in force")
	case !s.brings(then.ID):
		return v.refuse(WrongDevice, "the connection no longer carries the device")
	}
	again := v
	again.Device, again.Outcome, again.Reason = now, Accepted, ""
	again = s.place(again, key, at)
	if again.Outcome == Accepted {
		again.Outcome, again.Reason = v.Outcome, v.Reason
	}
	return again
}
