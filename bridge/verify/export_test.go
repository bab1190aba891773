package verify

// MaxDevices is for how many devices a session keeps keyed MAC states, beside
// the one that it is at.
const MaxDevices = maxDevices

// Kept is for how many devices the session keeps them.
func (s *Session) Kept() int {
	kept := len(s.others)
	if _, twice := s.others[s.device]; s.device != nil && !twice {
		kept++
	}
	return kept
}
