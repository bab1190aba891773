package presence_test

import (
	"encoding/json"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/presence"
)

type event struct {
	Subject string
	presence.Event
}

// next returns the next event that a subscriber sees.
func (w *world) next() event {
	w.t.Helper()
	m, err := w.events.NextMsg(patience)
	if err != nil {
		w.t.Fatalf("no event: %v", err)
	}
	e := event{Subject: m.Subject}
	need(w.t, json.Unmarshal(m.Data, &e.Event))
	return e
}

// nothing makes sure that nothing has been announced since the last event: what
// is published now is the next that is seen.
func (w *world) nothing() {
	w.t.Helper()
	need(w.t, w.conn.Publish("audit.presence.end", nil))
	if m, err := w.events.NextMsg(patience); err != nil || m.Subject != "audit.presence.end" {
		w.t.Fatalf("announced: %s %s (%v)", m.Subject, m.Data, err)
	}
}

func (w *world) forgetAudit() {
	w.t.Helper()
	js, err := jetstream.New(w.conn)
	need(w.t, err)
	audit, err := js.Stream(w.t.Context(), egress.StreamAudit)
	need(w.t, err)
	need(w.t, audit.Purge(w.t.Context()))
}

// all returns the subjects of the events before one.
func (w *world) all(end string) []string {
	w.t.Helper()
	var all []string
	for {
		m, err := w.events.NextMsg(patience)
		need(w.t, err)
		if m.Subject == end {
			return all
		}
		all = append(all, m.Subject)
	}
}
