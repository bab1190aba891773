package egress

import (
	"context"
	"time"

	"golang.org/x/time/rate"
)

// LookUp asks the stream for what it holds of a device's minute, and says how
// many readings that are.
func (s *Store) LookUp(ctx context.Context, patient, device string, minute time.Time) (int, error) {
	held, err := s.lookUp(ctx, groupKey{patient, device, minute.UTC().Truncate(time.Minute)})
	return len(held), err
}

// KeepAtMost bounds the identities that are kept of all look-ups together.
func (s *Store) KeepAtMost(identities int) { s.groups.most = identities }

// ReadAtMost bounds the identities that one look-up reads.
func (s *Store) ReadAtMost(identities int) { s.groups.mostOfOne = identities }

// SpendAtMost bounds the time of look-ups, in microseconds a second.
func (s *Store) SpendAtMost(limit rate.Limit, burst int) {
	s.groups.spent = rate.NewLimiter(limit, burst)
}

// Kept is how many look-ups are kept, how many wait or are under way, and how
// many identities are kept.
func (s *Store) Kept() (kept, waiting, identities int) {
	s.groups.mu.Lock()
	defer s.groups.mu.Unlock()
	return len(s.groups.kept), len(s.groups.byKey) - len(s.groups.kept), s.groups.identities
}

// LineLength is how many groups of one device may wait for their look-up.
const LineLength = lineLength

// FillOf is what a stream's information says of how full it is.
var FillOf = fillOf

// EventsWaiting and AuditsWaiting are how many events may wait.
const (
	EventsWaiting = eventsWaiting
	AuditsWaiting = auditsWaiting
)

// ReadFirst reads the answer to what was stored for the first time.
var ReadFirst = readFirst
