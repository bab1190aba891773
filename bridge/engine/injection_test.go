package engine_test

import (
	"testing"

	"github.com/nats-io/nats.go"
)

// services is what each user may ask for, with a request that yields an answer.
func services() map[string]map[string]string {
	return map[string]map[string]string{
		"operator": {"gate.registry.list": ""},
		"consumer": {
			"$JS.API.DIRECT.GET.VITALS":                     `{"seq":1,"batch":5}`,
			"$JS.API.DIRECT.GET.VITALS.vitals.live.p-1.w-1": "",
			"$JS.API.STREAM.INFO.VITALS":                    "",
			"$JS.API.CONSUMER.INFO.VITALS.triage":           "",
			"$JS.API.CONSUMER.MSG.NEXT.VITALS.triage":       `{"batch":1,"no_wait":true}`,
			"$JS.ACK.VITALS.triage.1.1.1.1700000000.0":      `+NXT {"batch":1,"no_wait":true}`,
			"$JS.ACK.VITALS.triage.1.1.1.1700000000.1":      "+WPI",
		},
		"security": {
			"$JS.API.DIRECT.GET.REJECTIONS":                            `{"seq":1,"batch":5}`,
			"$JS.API.DIRECT.GET.REJECTIONS.rejected.bad_signature.w-1": "",
			"$JS.API.DIRECT.GET.AUDIT":                                 `{"seq":1}`,
			"$JS.API.DIRECT.GET.AUDIT.audit.device":                    "",
			"$JS.API.STREAM.INFO.REJECTIONS":                           "",
			"$JS.API.STREAM.INFO.AUDIT":                                "",
		},
	}
}

// captured are subjects that a stream stores, or that a consumer of readings or refusals listens to.
func captured() []string {
	return []string{"gate.in.vitals.live.p.d", "vitals.live.p.d", "rejected.x.y", "audit.x", "$KV.devices.x"}
}

func TestNobodyButTheGatePublishes(t *testing.T) {
	p := newPlant(t)
	for user := range services() {
		c := p.login(t, user)
		for _, subject := range []string{
			"gate.in.vitals.x.y.z", "vitals.live.x.y", "rejected.x", "audit.x", "$KV.devices.x", "refused.vitals.x",
			"_INBOX.x", "$SYS.REQ.SERVER.PING", "$JS.API.ACCOUNT.PURGE.GATE",
		} {
			c.refuses(t, subject, "{}")
		}
	}
	p.unchanged(t, "1 1 1 0")
}

func TestNobodyButTheGateChangesStreams(t *testing.T) {
	p := newPlant(t)
	for user := range services() {
		c := p.login(t, user)
		for subject, request := range map[string]string{
			"$JS.API.STREAM.CREATE.EVIL":                        `{"name":"EVIL","subjects":["evil"]}`,
			"$JS.API.STREAM.UPDATE.VITALS":                      `{"name":"VITALS","subjects":["vitals.>"]}`,
			"$JS.API.STREAM.DELETE.VITALS":                      "",
			"$JS.API.STREAM.PURGE.VITALS":                       "",
			"$JS.API.STREAM.PURGE.REJECTIONS":                   "",
			"$JS.API.STREAM.MSG.DELETE.VITALS":                  `{"seq":1}`,
			"$JS.API.STREAM.MSG.GET.VITALS":                     `{"seq":1}`,
			"$JS.API.STREAM.MSG.GET.KV_devices":                 `{"seq":1}`,
			"$JS.API.DIRECT.GET.KV_devices":                     `{"seq":1}`,
			"$JS.API.STREAM.SNAPSHOT.VITALS":                    `{"deliver_subject":"vitals.live.p.d"}`,
			"$JS.API.CONSUMER.DELETE.VITALS.triage":             "",
			"$JS.API.CONSUMER.PAUSE.VITALS.triage":              `{"pause_until":"2999-01-01T00:00:00Z"}`,
			"$JS.API.CONSUMER.CREATE.VITALS":                    `{"stream_name":"VITALS","config":{"deliver_subject":"gate.in.vitals.live.p.d"}}`,
			"$JS.API.CONSUMER.CREATE.VITALS.evil":               `{"stream_name":"VITALS","config":{"name":"evil","deliver_subject":"vitals.live.p.d"}}`,
			"$JS.API.CONSUMER.CREATE.REJECTIONS.evil":           `{"stream_name":"REJECTIONS","config":{"name":"evil","deliver_subject":"gate.in.vitals.live.p.d"}}`,
			"$JS.API.CONSUMER.DURABLE.CREATE.VITALS.evil":       `{"stream_name":"VITALS","config":{"durable_name":"evil","deliver_subject":"rejected.x.y"}}`,
			"$JS.API.CONSUMER.CREATE.VITALS.evil.vitals.live.>": `{"stream_name":"VITALS","config":{"name":"evil","filter_subject":"vitals.live.>"}}`,
		} {
			c.refuses(t, subject, request)
		}
	}
	p.unchanged(t, "1 1 1 0")
	stream, err := p.js.Stream(within(t), "VITALS")
	must(t, err)
	if n := stream.CachedInfo().State.Consumers; n != 1 {
		t.Errorf("VITALS has %d consumers, want triage only", n)
	}
}

// Within GATE an answer lands wherever its request says. That is what the accounts are for, and this shows that the
// tests below would notice.
func TestReplySubjectInjectsWithinTheGatesAccount(t *testing.T) {
	p := newPlant(t)
	seen := subscribe(t, p.gate, "vitals.>")
	must(t, p.gate.PublishRequest("$JS.API.STREAM.INFO.VITALS", "gate.in.vitals.live.p.d", nil))
	if m := next(t, seen); m.Subject != "vitals.live.p.d" {
		t.Errorf("got %s", m.Subject)
	}
	p.unchanged(t, "2 1 1 0")
}

func TestNobodyInjectsByReplySubject(t *testing.T) {
	p := newPlant(t)
	// What is delivered to a reply subject within the sender's account is seen by subscribers of that account alone.
	watched := map[string]*nats.Subscription{
		"gate, vitals": subscribe(t, p.gate, "vitals.>"), "gate, rejected": subscribe(t, p.gate, "rejected.>"),
		"gate, audit":        subscribe(t, p.gate, "audit.>"),
		"consumer, vitals":   subscribe(t, p.login(t, "consumer").Conn, "vitals.>"),
		"security, rejected": subscribe(t, p.login(t, "security").Conn, "rejected.>"),
		"security, audit":    subscribe(t, p.login(t, "security").Conn, "audit.>"),
	}
	for user, requests := range services() {
		c := p.login(t, user)
		for service, request := range requests {
			for _, reply := range captured() {
				must(t, c.PublishRequest(service, reply, []byte(request)))
				// Nor may a trace of the message's way through the server go where an answer may not.
				must(t, c.PublishMsg(&nats.Msg{Subject: service, Reply: reply, Data: []byte(request),
					Header: nats.Header{"Nats-Trace-Dest": {reply}}}))
			}
			// When this is answered, so are those before it.
			if _, err := c.RequestWithContext(within(t), service, []byte(request)); err != nil {
				t.Fatalf("%s, %s: %v", user, service, err)
			}
		}
	}
	// The first that each subscriber sees is what the gate stores now.
	p.store(t, "gate.in.vitals.live.p-9.w-9", "true")
	p.store(t, "rejected.true.w-9", "true")
	p.store(t, "audit.true", "true")
	for name, sub := range watched {
		if m := next(t, sub); string(m.Data) != "true" {
			t.Errorf("%s: %s was injected: %q", name, m.Subject, m.Data)
		}
	}
	p.unchanged(t, "2 2 2 0")
}

// A reply subject of the acknowledgement's form is not replaced between accounts, so an empty answer sent there would
// acknowledge a reading that triage never had. The server refuses such requests.
func TestNobodyAcknowledgesByReplySubject(t *testing.T) {
	p := newPlant(t)
	triage, err := p.js.Consumer(within(t), "VITALS", "triage")
	must(t, err)
	batch, err := triage.Fetch(1)
	must(t, err)
	m := <-batch.Messages()
	for user, service := range map[string]string{"security": "$JS.API.DIRECT.GET.AUDIT", "operator": "gate.registry.list"} {
		c := p.login(t, user)
		must(t, c.PublishRequest(service, m.Reply(), []byte(`{"seq":999}`)))
		if _, err := c.RequestWithContext(within(t), service, []byte(`{"seq":999}`)); err != nil {
			t.Fatal(err)
		}
	}
	info, err := triage.Info(within(t))
	must(t, err)
	if info.NumAckPending != 1 {
		t.Error("the reading was acknowledged from another account")
	}
}

// unchanged compares the last sequences of VITALS, REJECTIONS, AUDIT and the registry.
func (p *plant) unchanged(t *testing.T, want string) {
	t.Helper()
	if got := p.sequences(t); got != want {
		t.Errorf("last sequences %s, want %s", got, want)
	}
}
