package engine_test

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

func TestConsumerReceivesWhatIsStored(t *testing.T) {
	p := newPlant(t)
	live := subscribe(t, p.login(t, "consumer").Conn, "vitals.live.>")
	p.store(t, "gate.in.vitals.live.p-1.w-1", "second")
	if m := next(t, live); m.Subject != "vitals.live.p-1.w-1" || string(m.Data) != "second" {
		t.Errorf("got %s %q", m.Subject, m.Data)
	}
}

func TestConsumerPullsAndAcknowledges(t *testing.T) {
	p := newPlant(t)
	p.store(t, "gate.in.vitals.live.p-2.w-2", "second")
	js, err := jetstream.New(p.login(t, "consumer").Conn)
	must(t, err)
	triage, err := js.Consumer(within(t), "VITALS", "triage")
	must(t, err)
	batch, err := triage.Fetch(2)
	must(t, err)
	var got []string
	for m := range batch.Messages() {
		got = append(got, m.Subject()+" "+string(m.Data()))
		must(t, m.DoubleAck(within(t)))
	}
	must(t, batch.Error())
	if want := []string{"vitals.live.p-1.w-1 first", "vitals.live.p-2.w-2 second"}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("pulled %q, want %q", got, want)
	}
	info, err := triage.Info(within(t))
	must(t, err)
	if info.AckFloor.Stream != 2 || info.NumAckPending != 0 {
		t.Errorf("acknowledged up to %d with %d pending, want 2 and 0", info.AckFloor.Stream, info.NumAckPending)
	}
}

func TestHistoryByDirectGet(t *testing.T) {
	p := newPlant(t)
	for i := range 5 {
		p.store(t, "gate.in.vitals.live.p-1.w-1", fmt.Sprint(i))
	}
	js, err := jetstream.New(p.login(t, "consumer").Conn)
	must(t, err)

	messages, err := jetstreamext.GetBatch(within(t), js, "VITALS", 4, jetstreamext.GetBatchSeq(2))
	must(t, err)
	var got []string
	for m, err := range messages {
		must(t, err)
		got = append(got, fmt.Sprintf("%d %s %s", m.Sequence, m.Subject, m.Data))
	}
	want := []string{"2 vitals.live.p-1.w-1 0", "3 vitals.live.p-1.w-1 1", "4 vitals.live.p-1.w-1 2", "5 vitals.live.p-1.w-1 3"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}

	last, err := jetstreamext.GetLastMsgsFor(within(t), js, "VITALS", []string{"vitals.live.>"})
	must(t, err)
	for m, err := range last {
		must(t, err)
		if string(m.Data) != "4" {
			t.Errorf("last reading %q, want 4", m.Data)
		}
	}

	stream, err := js.Stream(within(t), "VITALS")
	must(t, err)
	m, err := stream.GetLastMsgForSubject(within(t), "vitals.live.p-1.w-1")
	must(t, err)
	if string(m.Data) != "4" {
		t.Errorf("last of the subject %q, want 4", m.Data)
	}
}

func TestSecurityReadsRefusalsOnly(t *testing.T) {
	p := newPlant(t)
	security := p.login(t, "security")
	live, audit := subscribe(t, security.Conn, "rejected.>"), subscribe(t, security.Conn, "audit.>")
	p.store(t, "rejected.stale.w-1", "{}")
	p.store(t, "audit.login", "{}")
	if m := next(t, live); m.Subject != "rejected.stale.w-1" {
		t.Errorf("got %s", m.Subject)
	}
	if m := next(t, audit); m.Subject != "audit.login" {
		t.Errorf("got %s", m.Subject)
	}
	js, err := jetstream.New(security.Conn)
	must(t, err)
	for _, stream := range []string{"REJECTIONS", "AUDIT"} {
		messages, err := jetstreamext.GetBatch(within(t), js, stream, 10)
		must(t, err)
		count := 0
		for _, err := range messages {
			must(t, err)
			count++
		}
		if count != 2 {
			t.Errorf("%s: %d messages, want 2", stream, count)
		}
		_, err = js.Stream(within(t), stream)
		must(t, err)
	}
	for _, subject := range []string{"$JS.API.DIRECT.GET.VITALS", "$JS.API.STREAM.INFO.VITALS", "$JS.API.CONSUMER.MSG.NEXT.VITALS.triage"} {
		security.refuses(t, subject, `{"seq":1}`)
	}
	refusesSubscription(t, security, "vitals.>")
}

func TestNobodySubscribesBeyondItsPart(t *testing.T) {
	p := newPlant(t)
	for user, subjects := range map[string][]string{
		"operator": {"vitals.>", "rejected.>", "audit.>", "gate.>", ">", "$KV.>"},
		"consumer": {"rejected.>", "audit.>", "gate.>", ">", "$KV.>", "refused.>"},
		"security": {"vitals.>", "gate.>", ">", "$KV.>", "refused.>"},
	} {
		c := p.login(t, user)
		for _, subject := range subjects {
			refusesSubscription(t, c, subject)
		}
	}
}

func TestOperatorReachesTheRegistry(t *testing.T) {
	p := newPlant(t)
	m, err := p.login(t, "operator").RequestWithContext(within(t), "gate.registry.list", nil)
	must(t, err)
	if string(m.Data) != "done" {
		t.Errorf("answer %q", m.Data)
	}
}

func refusesSubscription(t *testing.T, c *client, subject string) {
	t.Helper()
	_, err := c.SubscribeSync(subject)
	must(t, err)
	c.awaitRefusal(t, subject)
}
