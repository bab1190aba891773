package siege

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pulsegate/pulsegate/bridge/egress"
)

// spy is a reader on NATS: it sees what other readers see.
type spy struct {
	nc *nats.Conn
	// readings says that it may read those; last is the end of their stream before
	// the attacks.
	readings *egress.Reader
	last     uint64

	mu sync.Mutex
	// seen are the messages on vitals.>, from the beginning.
	seen []*nats.Msg
	// marked says that something injected was in a header or a subject of
	// anything.
	marked   bool
	refusals map[string]bool
	changed  chan struct{}
	// patience bounds each question.
	patience time.Duration
}

// newSpy connects and subscribes to all that a reader may.
func newSpy(ctx context.Context, url string, patience time.Duration) (*spy, error) {
	s := &spy{refusals: make(map[string]bool), changed: make(chan struct{}, 1), patience: patience}
	var err error
	s.nc, err = nats.Connect(url, nats.Name("device-sim attack"), nats.Timeout(patience), nats.MaxReconnects(3), nats.ErrorHandler(s.refused))
	if err != nil {
		return nil, fmt.Errorf("NATS: %w", err) // nats.go's errors hold no credentials
	}
	for _, subject := range []string{"vitals.>", "rejected.>", "audit.>"} {
		if _, err := s.nc.Subscribe(subject, s.see); err != nil {
			return nil, errors.Join(err, s.nc.Drain())
		}
	}
	if s.readings, err = egress.NewReader(s.nc, egress.StreamVitals, "vitals.>"); err != nil {
		return nil, errors.Join(err, s.nc.Drain())
	}
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if s.last, err = s.readings.Last(bounded); err != nil {
		s.readings = nil // the security officer's, for instance
	}
	return s, nil
}

func (s *spy) close() { s.nc.Close() }

func (s *spy) see(m *nats.Msg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.HasPrefix(m.Subject, "vitals.") {
		s.seen = append(s.seen, m)
	}
	s.marked = s.marked || carriesMark(m.Subject, m.Header)
}

func carriesMark(subject string, header nats.Header) bool {
	found := strings.Contains(subject, mark)
	for name, values := range header {
		found = found || strings.Contains(strings.ToLower(name+strings.Join(values, "")), strings.ToLower(mark))
	}
	return found
}

// refused notes what the server does not permit: its text quotes the subject.
func (s *spy) refused(_ *nats.Conn, _ *nats.Subscription, err error) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusals[strings.ToLower(err.Error())] = true
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// What the server refuses.
const (
	publish      = "publish"
	subscription = "subscription"
)

// toldWithin bounds how long the client takes to hand on a refusal that it has.
const toldWithin = time.Second

// denied waits until the server has refused to do this with a subject. A subject
// that is mapped is refused under the name that it is mapped to.
func (s *spy) denied(ctx context.Context, what, subject string) bool {
	// A refusal comes before the answer to the PING of a flush.
	if s.nc.FlushTimeout(s.patience) != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, toldWithin)
	defer cancel()
	subject = strings.ToLower(subject)
	for {
		if s.hasRefused(what+` to "`+subject+`"`) || s.hasRefused(what+` to "refused.`+subject+`"`) {
			return true
		}
		select {
		case <-s.changed:
		case <-ctx.Done():
			return false
		}
	}
}

func (s *spy) hasRefused(what string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for text := range s.refusals {
		if strings.Contains(text, what) {
			return true
		}
	}
	return false
}

// forget lets refusals of an earlier round not count.
func (s *spy) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.refusals)
}

// forbidden are what no reader may publish on. The words in capitals are the
// victim's.
var forbidden = []string{
	"vitals.live.PATIENT.DEVICE", "vitals.late.PATIENT.DEVICE.1", "gate.in.vitals.live.PATIENT.DEVICE", "gate.in.vitals.late.PATIENT.DEVICE.1",
	"rejected.bad_signature.DEVICE", "audit.registry.add", "gate.registry.add", "gate.registry.revoke", "$KV.devices.DEVICE",
	"$JS.API.STREAM.PURGE.VITALS", "$JS.API.STREAM.DELETE.VITALS", "$JS.API.STREAM.UPDATE.VITALS", "$JS.API.STREAM.CREATE.THEFT",
	"$JS.API.STREAM.MSG.DELETE.VITALS", "$JS.API.STREAM.MSG.GET.VITALS", "$JS.API.STREAM.PURGE.AUDIT", "$JS.API.STREAM.PURGE.KV_devices",
	"$JS.API.CONSUMER.CREATE.VITALS.thief", "$JS.API.CONSUMER.DURABLE.CREATE.VITALS.thief", "$JS.API.CONSUMER.DELETE.VITALS.triage",
	"$JS.API.STREAM.SNAPSHOT.VITALS", "$JS.API.STREAM.RESTORE.VITALS", "$JS.API.STREAM.LIST", "$SYS.REQ.SERVER.PING",
}

// unheard are what no reader may subscribe to.
var unheard = []string{">", "*.>", "gate.>", "gate.in.>", "$KV.>", "$JS.API.>", "$SYS.>", "refused.>"}

// requests are what a reader may ask; the answer must not become a reading.
var requests = []string{"$JS.API.STREAM.INFO.VITALS", "$JS.API.DIRECT.GET.VITALS", "$JS.API.CONSUMER.MSG.NEXT.VITALS.triage"}

func natsInjection(ctx context.Context, t *trial) {
	victim := t.Credentials[1]
	named := strings.NewReplacer("PATIENT", victim.PatientID, "DEVICE", victim.DeviceID)
	for _, one := range t.spies {
		one.forget()
		for _, pattern := range forbidden {
			if ctx.Err() != nil {
				return
			}
			subject := named.Replace(pattern)
			if err := one.nc.PublishRequest(subject, nats.NewInbox(), t.forged(victim)); err != nil {
				t.otherwise("publishing on %s: %s", pattern, err)
				continue
			}
			t.check(one.denied(ctx, publish, subject), "publishing on %s is not refused", pattern)
		}
		for _, subject := range unheard {
			if ctx.Err() != nil {
				return
			}
			if _, err := one.nc.Subscribe(subject, func(*nats.Msg) {}); err != nil {
				t.otherwise("subscribing to %s: %s", subject, err)
				continue
			}
			t.check(one.denied(ctx, subscription, subject), "subscribing to %s is not refused", subject)
		}
		t.replyTricks(ctx, one, named)
	}
}

// replyTricks ask what may be asked, and name as the place for the answer where
// readings are. What came of it is seen when everything is settled.
func (t *trial) replyTricks(ctx context.Context, one *spy, named *strings.Replacer) {
	for _, to := range []string{"vitals.live.PATIENT.DEVICE", "gate.in.vitals.live.PATIENT.DEVICE", "gate.registry.revoke", "$JS.API.STREAM.PURGE.VITALS"} {
		for _, request := range requests {
			// Some requests are not permitted to some readers; both is well.
			if err := one.nc.PublishRequest(request, named.Replace(to), []byte(`{"seq":1}`)); err != nil {
				t.otherwise("asking %s: %s", request, err)
			}
		}
	}
	if err := one.nc.FlushTimeout(one.patience); err != nil {
		t.otherwise("NATS does not answer: %s", err)
	}
	// What the answers did comes before the honest device's next reading.
	t.honest.await(ctx)
	t.check(one.fakes(t.books) == 0, "an answer was delivered as a reading")
}

// fakes is how many messages that were seen as readings of the siege's devices
// nobody signed.
func (s *spy) fakes(b *books) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, m := range s.seen {
		if b.knows(deviceOf(m.Subject)) && !b.authentic(m.Data) {
			n++
		}
	}
	return n
}

// deviceOf is the fourth token of vitals.live.<patient>.<device>.
func deviceOf(subject string) string {
	tokens := strings.Split(subject, ".")
	if len(tokens) < 4 {
		return ""
	}
	return tokens[3]
}

// settle compares what came out of the gate with what was signed and what was
// acknowledged.
func (s *siege) settle(ctx context.Context) Row {
	row := Row{Attack: "what came out"}
	for _, one := range s.spies {
		if one.readings == nil {
			continue
		}
		if err := s.settleStream(ctx, one, &row); err != nil {
			row.otherwise("the stream cannot be read: " + err.Error())
		}
		if n := one.fakes(s.books); n > 0 {
			row.otherwise(fmt.Sprintf("a reader saw readings that nobody signed: %d", n))
		}
	}
	for _, one := range s.spies {
		one.mu.Lock()
		if one.marked {
			row.otherwise("a reader saw something injected in a header or a subject")
		}
		one.mu.Unlock()
	}
	return row
}

func (s *siege) settleStream(ctx context.Context, one *spy, row *Row) error {
	stored := make(map[string]int)
	_, err := one.readings.Read(ctx, one.last+1, func(m egress.Stored) error {
		if carriesMark(m.Subject, m.Header) {
			row.otherwise("something injected is stored in a header or a subject")
		}
		if s.books.knows(deviceOf(m.Subject)) {
			stored[string(m.Data)]++
		}
		return nil
	})
	for payload, n := range stored {
		switch {
		case !s.books.authentic([]byte(payload)):
			row.otherwise("a reading is stored that nobody signed")
		case n > 1:
			row.otherwise("a reading is stored more than once")
		default:
			row.met()
		}
	}
	for _, payload := range s.books.owed() {
		if stored[payload] == 0 {
			row.otherwise("a reading was acknowledged and is not stored")
		}
	}
	return err
}
