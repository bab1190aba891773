// Package source is the second form of ingress: it takes messages from another
// MQTT broker, in a persistent session at QoS 1, and acknowledges each to that
// broker once it is settled, in the order in which they came. What is not
// acknowledged the broker delivers again, on the connection after this one.
package source

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/limits"
)

// Source is a subscription to another broker. It connects, and connects again,
// by itself until it is closed. It is safe for concurrent use.
type Source struct {
	options Options
	brokers []broker
	room    *room
	// sampled is for what an outage would log for every message.
	sampled *limits.Log

	// stopping is done when nothing more is to be taken, running when nothing
	// more is to be waited for.
	stopping, running context.Context
	stop              context.CancelFunc
	cut               context.CancelCauseFunc
	// ended is closed when the last connection is.
	ended chan struct{}

	received, connections, lost atomic.Uint64

	mu sync.Mutex
	// err is why no messages come, and since from when on.
	err   error
	since time.Time
}

// Open checks the options and starts to connect. A broker that is away is no
// error: Err tells of it.
func Open(o Options) (*Source, error) {
	brokers, err := o.parse()
	if err != nil {
		return nil, err
	}
	s := &Source{
		options: o, brokers: brokers, room: newRoom(o.InFlight, o.InFlightBytes), ended: make(chan struct{}),
		sampled: limits.NewLog(o.Log),
		err:     errors.New("not connected yet"), since: o.Now(),
	}
	s.stopping, s.stop = context.WithCancel(context.Background())
	s.running, s.cut = context.WithCancelCause(context.Background())
	go s.run()
	return s, nil
}

// Err says why no messages come from the broker, and since when, or nil.
func (s *Source) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		return nil
	}
	return fmt.Errorf("no readings from the MQTT source since %s: %w", s.since.UTC().Format(time.RFC3339), s.err)
}

// String is the brokers' URLs, separated by commas, without what may be secret.
func (s *Source) String() string {
	var all []string
	for _, b := range s.brokers {
		all = append(all, b.String())
	}
	return strings.Join(all, ",")
}

// Received is how many messages have been taken, those that came again
// included.
func (s *Source) Received() uint64 { return s.received.Load() }

// Lost is how many messages came at QoS 0 and could not be stored or taken.
func (s *Source) Lost() uint64 { return s.lost.Load() }

// Reconnects is how many connections were made after the first.
func (s *Source) Reconnects() uint64 { return max(s.connections.Load(), 1) - 1 }

// Close takes no more messages, acknowledges what has been taken once it is
// settled, and disconnects. The session and its subscriptions stay with the
// broker, which keeps what comes meanwhile. When ctx is done before, what is left
// is not acknowledged. Close may be called again.
func (s *Source) Close(ctx context.Context) {
	defer s.sampled.Tell()
	s.stop()
	select {
	case <-s.ended:
	case <-ctx.Done():
		s.cut(errStopped)
		<-s.ended
	}
}

func (s *Source) run() {
	defer close(s.ended)
	var p pause
	for s.stopping.Err() == nil {
		s.wait(s.attend(&p))
	}
}

func (s *Source) wait(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.stopping.Done():
	}
}

// attend makes a connection, serves it to its end, and returns how long to wait
// before the next.
func (s *Source) attend(p *pause) time.Duration {
	l, present, err := s.connect()
	if err != nil {
		return s.down(p, err, time.Time{})
	}
	defer s.leave(l)
	go func() { l.cancel(l.queue.acknowledge(l.ctx)) }()
	if s.connections.Add(1) > 1 && !present {
		s.log(l).Warn().Msg("the broker has forgotten the session: what was waiting in it is lost; let the broker keep sessions")
	}
	if err := l.subscribe(); err != nil {
		return s.down(p, fmt.Errorf("%s: %w", l.broker, err), time.Time{})
	}
	s.up(l, present)
	subscribed := s.options.Now()
	select {
	case <-l.ctx.Done():
	case <-s.stopping.Done():
		return 0
	}
	return s.down(p, fmt.Errorf("%s: %w", l.broker, l.reason()), subscribed)
}

// connect tries the brokers in their order.
func (s *Source) connect() (l *link, present bool, err error) {
	var all []string
	for _, b := range s.brokers {
		l = s.newLink(b)
		if present, err = l.connect(); err == nil {
			return l, present, nil
		}
		l.end()
		all = append(all, fmt.Sprintf("%s: %v", b, err))
	}
	return nil, false, errors.New(strings.Join(all, "; "))
}

// leave ends a connection. Where the gate is stopping, what has been taken is
// waited for.
func (s *Source) leave(l *link) {
	if s.stopping.Err() != nil {
		l.drain()
	}
	if n := l.end(); n > 0 && s.stopping.Err() != nil {
		s.log(l).Warn().Int("undecided", n).Msg("the time to finish is over; what is undecided is not acknowledged, so that the broker sends it again")
	}
}

// up notes that messages come.
func (s *Source) up(l *link, present bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = nil
	s.log(l).Info().Strs("filters", s.options.filters()).Bool("session_present", present).Msg("the MQTT source is connected and subscribed")
}

// down notes why no messages come, and returns how long to wait. subscribed is
// when they began to; zero is never.
func (s *Source) down(p *pause, err error, subscribed time.Time) time.Duration {
	if s.stopping.Err() != nil {
		return 0
	}
	now := s.options.Now()
	s.mu.Lock()
	if s.err == nil {
		s.since = now
	}
	s.err = err
	s.mu.Unlock()
	var d time.Duration
	switch {
	case errors.Is(err, errNotStored):
		d = jittered(storePause)
	case subscribed.IsZero():
		d = p.failed()
	default:
		d = p.lost(now.Sub(subscribed))
	}
	level := zerolog.WarnLevel
	if errors.As(err, new(*refusal)) {
		level = zerolog.ErrorLevel
	}
	event := s.options.Log.WithLevel(level).Err(err).Stringer("retry_in", d.Round(time.Millisecond)).Str("client_id", s.options.ClientID)
	if p.takenOver() {
		event.Str("hint", "if another client uses this client id, each ends the other's connection: give every replica its own")
	}
	event.Msg("no readings come from the MQTT source")
	return d
}

func (s *Source) log(l *link) *zerolog.Logger {
	log := s.options.Log.With().Stringer("broker", l.broker).Str("client_id", s.options.ClientID).Logger()
	return &log
}

// lostOne counts a message that will not come again.
func (s *Source) lostOne() {
	s.lost.Add(1)
	s.sampled.Warn("a message that came at QoS 0 could not be stored and is lost: let devices publish at QoS 1", func(*zerolog.Event) {})
}
