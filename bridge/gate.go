package bridge

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/ingress"
	"github.com/pulsegate/pulsegate/bridge/monitor"
	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/bridge/verify"
)

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
		g.store.Audit("login.refused", refusedLogin{c.ClientID, c.Username, c.Remote, g.now().UTC(), reason})
	}
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
	v := c.judge(m)
	if v.Outcome != verify.Accepted {
		c.reject(m, &v)
		done(refusal(&v))
		return
	}
	expiry := v.Reading.Timestamp.Add(c.gate.remembered)
	switch c.gate.memory.Reserve(v.Identity, v.Now, expiry, func(stored bool) { c.copied(m, v, stored, done) }) {
	case verify.First:
		c.publish(m, v, done)
	case verify.Stored:
		c.copied(m, v, true, done)
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

func (c *caller) publish(m ingress.Message, v verify.Verdict, done func(ingress.Disposition)) {
	record := egress.Record{
		Identity: v.Identity, Patient: v.Device.Patient, Device: v.Device.ID, Payload: m.Payload,
		Generation: v.Generation, Age: v.Age(), Received: v.Now,
	}
	c.gate.store.Publish(record, func(answer egress.Confirmation, err error) {
		if err != nil {
			c.gate.memory.GiveBack(v.Identity)
			c.gate.metrics.StoreFailed()
			c.gate.log.Warn().Err(err).Str("device", v.Device.ID).Msg("a verified reading was not stored and is not acknowledged")
			done(ingress.Disposition{Stored: ingress.Failed})
			return
		}
		if !c.gate.memory.Keep(v.Identity) {
			c.gate.metrics.NotRemembered()
		}
		if answer.Duplicate {
			c.copied(m, v, true, done)
			return
		}
		c.gate.metrics.Decided(verify.Accepted)
		c.gate.metrics.Stored(answer.Took, v.Age()+answer.Took)
		done(ingress.Disposition{Outcome: verify.Accepted})
	})
}

// copied ends a copy as its first ended: acknowledged if that is stored.
func (c *caller) copied(m ingress.Message, v verify.Verdict, stored bool, done func(ingress.Disposition)) {
	if !stored {
		done(ingress.Disposition{Stored: ingress.Failed})
		return
	}
	v.Outcome, v.Reason = verify.Duplicate, "this reading is stored already"
	c.reject(m, &v)
	done(ingress.Disposition{Outcome: verify.Duplicate})
}

func (c *caller) reject(m ingress.Message, v *verify.Verdict) {
	c.gate.metrics.Decided(v.Outcome)
	hash := sha256.Sum256(m.Payload)
	r := egress.Rejection{
		Outcome: v.Outcome, Connection: c.id, Remote: c.remote, Time: v.Now.UTC(),
		PayloadSHA256: hex.EncodeToString(hash[:]), Reason: v.Reason,
	}
	switch {
	case v.Device != nil:
		r.Device = v.Device.ID
	case m.Form != ingress.Published:
		r.Device = c.id
	}
	if !c.gate.store.Reject(r) {
		c.gate.metrics.RejectionLost()
	}
}

// refusal is what the sender hears. The reason is only for one who holds the
// key, except where it says nothing but how a message must come.
func refusal(v *verify.Verdict) ingress.Disposition {
	d := ingress.Disposition{Outcome: v.Outcome, AboutTopic: v.AboutTopic}
	if v.Authentic {
		d.Reason = v.Reason
	}
	return d
}
