package egress_test

import (
	"bytes"
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/egress"
)

// findings is the header's value as an RFC 9651 dictionary of two Integers
// (section 3.3.1), a Decimal (3.3.2) and a String (3.3.3).
var findings = regexp.MustCompile(`^generation=(\d{1,15}), age_ms=(-?\d{1,15}), received=(\d{1,12}\.\d{1,3}), replica="([ !#-\[\]-~]*)"$`)

func TestStoredExactlyAsSigned(t *testing.T) {
	d := openDepot(t)
	d.ensure(t, depotLayout())
	seen, err := d.nc.SubscribeSync("vitals.>")
	need(t, err)
	r := record(1)
	a := publish(t, d.store(t, 10*time.Second), r)
	if a.err != nil || a.Duplicate || a.Sequence != 1 || a.Took <= 0 {
		t.Fatalf("answer %+v", a)
	}
	stored := d.first(t, "VITALS", 1)[0]
	if stored.Subject() != "vitals.live.p-1.w-1" || !bytes.Equal(stored.Data(), r.Payload) {
		t.Errorf("stored is %q on %s, want %q", stored.Data(), stored.Subject(), r.Payload)
	}
	checkHeaders(t, stored.Headers(), r)
	shown, err := seen.NextMsgWithContext(soon(t))
	need(t, err)
	if shown.Subject != "vitals.live.p-1.w-1" || !bytes.Equal(shown.Data, r.Payload) {
		t.Errorf("shown is %q on %s, want %q", shown.Data, shown.Subject, r.Payload)
	}
}

func checkHeaders(t *testing.T, h nats.Header, r egress.Record) {
	t.Helper()
	var names []string
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{"Nats-Msg-Id", "Pulsegate-Findings"}) {
		t.Errorf("headers are %q, want Nats-Msg-Id and Pulsegate-Findings", names)
	}
	if ids := h["Nats-Msg-Id"]; len(ids) != 1 || ids[0] != r.Identity.String() {
		t.Errorf("Nats-Msg-Id is %q, want %q", ids, r.Identity)
	}
	found := findings.FindStringSubmatch(h.Get("Pulsegate-Findings"))
	if want := []string{"3", "-1", "1763766000.246", "gate-1"}; found == nil || !slices.Equal(found[1:], want) {
		t.Errorf("findings are %q, read as %q, want %q", h["Pulsegate-Findings"], found, want)
	}
}

// TestACopyIsConfirmedAndShownOnce stores one reading three times.
func TestACopyIsConfirmedAndShownOnce(t *testing.T) {
	d := openDepot(t)
	d.ensure(t, depotLayout())
	seen, err := d.nc.SubscribeSync("vitals.live.>")
	need(t, err)
	s := d.store(t, 10*time.Second)
	for n, want := range []bool{false, true, true} {
		if a := publish(t, s, record(1)); a.err != nil || a.Duplicate != want || a.Sequence != 1 {
			t.Errorf("publish %d: %+v, want duplicate %v of 1", n, a, want)
		}
	}
	if a := publish(t, s, record(2)); a.err != nil || a.Duplicate || a.Sequence != 2 {
		t.Errorf("the next reading: %+v", a)
	}
	for n := 1; n <= 2; n++ {
		m, err := seen.NextMsgWithContext(soon(t))
		need(t, err)
		if want := record(n).Payload; !bytes.Equal(m.Data, want) {
			t.Errorf("shown is %q, want %q", m.Data, want)
		}
	}
}

func TestReplicaNamesThatWouldBreakAHeader(t *testing.T) {
	d := openDepot(t)
	for _, name := range []string{"", `a"b`, "a\r\nNats-Rollup: all", "a b"} {
		if _, err := egress.NewStore(d.nc, egress.Options{Deadline: time.Second, Replica: name, Now: time.Now, Log: zerolog.Nop()}); err == nil {
			t.Errorf("%q is taken as a replica's name", name)
		}
	}
}

func TestNoStreamTakesIt(t *testing.T) {
	d := openDepot(t)
	d.ensure(t, depotLayout())
	need(t, d.js.DeleteStream(soon(t), "VITALS"))
	a := publish(t, d.store(t, 300*time.Millisecond), record(1))
	if !errors.Is(a.err, egress.ErrNotStored) || !strings.Contains(a.err.Error(), "no stream takes the reading") {
		t.Errorf("the error is %v", a.err)
	}
}

// TestAnotherStreamIsNoConfirmation lets somebody take the subject over.
func TestAnotherStreamIsNoConfirmation(t *testing.T) {
	d := openDepot(t)
	d.ensure(t, depotLayout())
	need(t, d.js.DeleteStream(soon(t), "VITALS"))
	_, err := d.js.CreateStream(soon(t), jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"gate.in.vitals.>"}})
	need(t, err)
	a := publish(t, d.store(t, 300*time.Millisecond), record(1))
	if !errors.Is(a.err, egress.ErrNotStored) || !strings.Contains(a.err.Error(), `stream "OTHER" answered in place of VITALS`) {
		t.Errorf("the error is %v", a.err)
	}
}

// TestAFullStoreRefuses fills VITALS: what is confirmed is kept, and what finds
// no room is not confirmed.
func TestAFullStoreRefuses(t *testing.T) {
	d := openDepot(t)
	l := depotLayout()
	l.Vitals.MaxBytes = 16 << 10
	d.ensure(t, l)
	s := d.store(t, 300*time.Millisecond)
	confirmed := uint64(0)
	var err error
	for n := 0; err == nil && n < 1000; n++ {
		r := record(n)
		r.Payload = append(r.Payload, bytes.Repeat([]byte(" "), 1000)...)
		if a := publish(t, s, r); a.err != nil {
			err = a.err
		} else if confirmed++; a.Sequence != confirmed {
			t.Fatalf("sequence %d, want %d: something was forgotten", a.Sequence, confirmed)
		}
	}
	if !errors.Is(err, egress.ErrNotStored) || !strings.Contains(err.Error(), "maximum bytes exceeded") {
		t.Errorf("the error is %v, want one that wraps the store's", err)
	}
	stream, streamErr := d.js.Stream(soon(t), "VITALS")
	need(t, streamErr)
	if state := stream.CachedInfo().State; state.Msgs != confirmed || state.FirstSeq != 1 {
		t.Errorf("the stream has %d readings from %d on, confirmed were %d", state.Msgs, state.FirstSeq, confirmed)
	}
	var apiErr *jetstream.APIError
	if !errors.As(err, &apiErr) || apiErr.ErrorCode != 10077 {
		t.Errorf("the store's own error cannot be had from %v", err)
	}
}

// TestAStoreThatHasRoomAgain retries within the deadline.
func TestAStoreThatHasRoomAgain(t *testing.T) {
	d := openDepot(t)
	d.ensure(t, depotLayout())
	vitals := d.config(t, "VITALS")
	need(t, d.js.DeleteStream(soon(t), "VITALS"))
	s := d.store(t, 20*time.Second)
	refused, err := d.nc.SubscribeSync("gate.in.vitals.>")
	need(t, err)
	answers := make(chan answer, 2)
	s.Publish(record(1), func(c egress.Confirmation, err error) { answers <- answer{c, err} })
	if _, err := refused.NextMsgWithContext(soon(t)); err != nil {
		t.Fatal(err)
	}
	_, err = d.js.CreateStream(soon(t), vitals)
	need(t, err)
	if a := receive(t, answers); a.err != nil || a.Sequence != 1 {
		t.Errorf("answer %+v", a)
	}
}

func TestCloseFailsWhatIsUnanswered(t *testing.T) {
	d := openDepot(t)
	d.ensure(t, depotLayout())
	need(t, d.js.DeleteStream(soon(t), "VITALS"))
	s := d.store(t, time.Hour)
	answers := make(chan answer, 3)
	done := func(c egress.Confirmation, err error) { answers <- answer{c, err} }
	s.Publish(record(1), done)
	if s.Pending() != 1 {
		t.Errorf("%d are pending, want 1", s.Pending())
	}
	need(t, s.Close(context.Background()))
	s.Publish(record(2), done)
	for range 2 {
		if a := receive(t, answers); !errors.Is(a.err, egress.ErrNotStored) {
			t.Errorf("the error is %v, want ErrNotStored", a.err)
		}
	}
	need(t, s.Close(context.Background()))
	if s.Pending() != 0 || len(answers) != 0 {
		t.Errorf("%d are pending and %d answered again", s.Pending(), len(answers))
	}
}
