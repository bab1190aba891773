package bridge

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/ingress"
	"github.com/pulsegate/pulsegate/bridge/monitor"
	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/bridge/verify"
)

// maxName is the length of the longest id, in bytes.
const maxName = 64

// gate is what happens between ingress and egress: a reading is acknowledged
// only when it is stored, and stored only when it is verified.
type gate struct {
	registry *registry.Registry
	verifier *verify.Verifier
	memory   *verify.Memory
	store    *egress.Store
	metrics  *monitor.Metrics
	// remembered is how long after its timestamp a reading may still come
	// again: its greatest age, and as long as a copy may wait for the store.
	remembered time.Duration
	// failures bounds the audit events of refused connections; the metric
	// counts all of them.
	failures *rate.Limiter
	now      func() time.Time
	tap      func(topic string, payload []byte)
	log      zerolog.Logger
}

// refusedLogin is the audit's event of a connection that was refused.
type refusedLogin struct {
	ClientID string    `json:"client_id"`
	Username string    `json:"username"`
	Remote   string    `json:"remote"`
	Time     time.Time `json:"time"`
	Reason   string    `json:"reason"`
}

// Admit implements ingress.Door: the user name is the device's id, and so is
// the client id, since otherwise one device could take over another's session.
func (g *gate) Admit(c ingress.Connection) (ingress.Handler, ingress.Admission) {
	if !g.registry.Authenticate(c.Username, c.Password) {
		g.refused(c, "unknown device or wrong password")
		return nil, ingress.BadCredentials
	}
	if c.ClientID != c.Username {
		g.refused(c, "the client identifier is not the device's id")
		return nil, ingress.NotAuthorized
	}
	return &caller{gate: g, session: g.verifier.Session(c.Username), id: c.ClientID, remote: c.Remote}, ingress.Welcome
}

func (g *gate) refused(c ingress.Connection, reason string) {
	g.metrics.AuthenticationFailed()
	if g.failures.AllowN(g.now(), 1) {
		g.store.Audit("login.refused", refusedLogin{short(c.ClientID), short(c.Username), c.Remote, g.now().UTC(), reason})
	}
}

// short bounds a name that a stranger gave to the length of an id, lest
// strangers fill the audit.
func short(name string) string {
	if len(name) > maxName {
		name = name[:maxName]
	}
	return strings.ToValidUTF8(name, "")
}

// caller is one connection's way through the gate.
type caller struct {
	gate    *gate
	session *verify.Session
	id      string
	remote  string
}

// Handle implements ingress.Handler.
func (c *caller) Handle(m ingress.Message, done func(ingress.Disposition)) {
	if m.Form != ingress.Will && c.gate.tap != nil {
		c.gate.tap(m.Topic, m.Payload)
	}
	p := &passage{caller: c, message: m, verdict: c.judge(m), done: done}
	if p.verdict.Outcome != verify.Accepted {
		p.refuse()
		return
	}
	expiry := p.verdict.Reading.Timestamp.Add(c.gate.remembered)
	switch c.gate.memory.Reserve(p.verdict.Identity, p.verdict.Now, expiry, p.copied) {
	case verify.First:
		p.publish()
	case verify.Stored:
		p.copied(true)
	case verify.Pending:
	}
}

// judge runs checks 1 to 7; what is no ordinary publish never reaches them.
func (c *caller) judge(m ingress.Message) verify.Verdict {
	switch m.Form {
	case ingress.Will:
		return verify.Verdict{Outcome: verify.Will, Now: c.gate.now(), Reason: "wills are not accepted"}
	case ingress.Retained:
		return verify.Verdict{Outcome: verify.Retained, Now: c.gate.now(), Reason: "retained messages are not accepted"}
	default:
		return c.session.Check(m.Topic, m.Payload)
	}
}

// passage is one message on its way through the gate.
type passage struct {
	*caller
	message ingress.Message
	verdict verify.Verdict
	done    func(ingress.Disposition)
}

func (p *passage) publish() {
	v := &p.verdict
	p.gate.store.Publish(egress.Record{
		Identity: v.Identity, Patient: v.Device.Patient, Device: v.Device.ID, Payload: p.message.Payload,
		Generation: v.Generation, Age: v.Age(), Received: v.Now,
	}, p.answered)
}

// answered settles the reservation by the store's answer.
func (p *passage) answered(answer egress.Confirmation, err error) {
	g := p.gate
	if err != nil {
		g.memory.GiveBack(p.verdict.Identity)
		g.metrics.StoreFailed()
		g.log.Warn().Err(err).Str("device", p.verdict.Device.ID).Msg("a verified reading was not stored and is not acknowledged")
		p.done(ingress.Disposition{Stored: ingress.Failed})
		return
	}
	if !g.memory.Keep(p.verdict.Identity) {
		g.metrics.NotRemembered()
	}
	if answer.Duplicate {
		p.copied(true)
		return
	}
	g.metrics.Decided(verify.Accepted)
	g.metrics.Stored(answer.Took, p.verdict.Age()+answer.Took)
	p.done(ingress.Disposition{Outcome: verify.Accepted})
}

// copied ends a copy as its first ended: acknowledged if that is stored.
func (p *passage) copied(stored bool) {
	if !stored {
		p.done(ingress.Disposition{Stored: ingress.Failed})
		return
	}
	p.verdict.Outcome, p.verdict.Reason = verify.Duplicate, "this reading is stored already"
	p.refuse()
}

// refuse records why a message is not forwarded, and tells its sender; the
// reason only if he holds the key, since others could learn from it.
func (p *passage) refuse() {
	v := &p.verdict
	p.gate.metrics.Decided(v.Outcome)
	hash := sha256.Sum256(p.message.Payload)
	r := egress.Rejection{
		Outcome: v.Outcome, Connection: p.id, Remote: p.remote, Time: v.Now.UTC(),
		PayloadSHA256: hex.EncodeToString(hash[:]), Reason: v.Reason,
	}
	switch {
	case v.Device != nil:
		r.Device = v.Device.ID
	case p.message.Form != ingress.Published:
		r.Device = p.id
	}
	if !p.gate.store.Reject(r) {
		p.gate.metrics.RejectionLost()
	}
	d := ingress.Disposition{Outcome: v.Outcome, AboutTopic: v.AboutTopic}
	if v.Authentic && v.Outcome != verify.Duplicate {
		d.Reason = v.Reason
	}
	p.done(d)
}
