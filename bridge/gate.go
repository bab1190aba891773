package bridge

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
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
	// patience is how long a message waits until the registry is certain.
	patience time.Duration
	now      func() time.Time
	tap      func(topic string, payload []byte)
	log      zerolog.Logger
	// sampled is log for what an outage would write for every reading.
	sampled zerolog.Logger
}

// refusedLogin is the audit's event of a connection that was refused.
type refusedLogin struct {
	ClientID string    `json:"client_id"`
	Username string    `json:"username"`
	Remote   string    `json:"remote"`
	Time     time.Time `json:"time"`
	Reason   string    `json:"reason"`
}

// Admit implements ingress.Door: the user name or the certificate's name is the
// id of a device or gateway, and so is the client id, since otherwise one could
// take over another's session.
func (g *gate) Admit(c ingress.Connection) (ingress.Handler, ingress.Admission) {
	if !g.registry.Leased(g.now()) || g.store.Err() != nil {
		return nil, ingress.Unavailable
	}
	identity, refusal := g.identify(c)
	if refusal != "" {
		g.refused(c, refusal)
		return nil, ingress.BadCredentials
	}
	if c.ClientID != identity.ID {
		g.refused(c, "the client identifier is not the id of whose password or certificate it is")
		return nil, ingress.NotAuthorized
	}
	one := &caller{gate: g, identity: identity, remote: c.Remote}
	one.session = one.newSession()
	return one, ingress.Welcome
}

func (g *gate) refused(c ingress.Connection, reason string) {
	g.metrics.AuthenticationFailed()
	if g.failures.AllowN(g.now(), 1) {
		g.store.Audit("login.refused", refusedLogin{short(c.ClientID), short(c.Username), c.Remote, g.now().UTC(), reason})
	}
}

// handshakeFailed makes a refused connection of a failed TLS handshake: with
// client certificates that is what a failed login is.
func (g *gate) handshakeFailed(remote string, err error) {
	g.refused(ingress.Connection{Remote: remote}, "TLS handshake: "+short(err.Error()))
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
	*gate
	identity registry.Identity
	session  *verify.Session
	remote   string
}

func (c *caller) newSession() *verify.Session {
	if c.identity.Kind != registry.KindGateway {
		return c.verifier.Session(c.identity.ID)
	}
	return c.verifier.GatewaySession(c.identity.ID, func(device string) bool {
		return c.registry.Carries(c.identity.ID, device)
	})
}

// Handle implements ingress.Handler.
func (c *caller) Handle(m ingress.Message, done func(ingress.Disposition)) {
	if (m.Form == ingress.Published || m.Form == ingress.Retained) && c.tap != nil {
		c.tap(m.Topic, m.Payload)
	}
	// The revision is read first, so that a change in between is noticed.
	p := &passage{caller: c, message: m, done: done, revision: c.registry.Revision()}
	p.verdict = c.judge(c.session, m)
	if p.confirmed() {
		p.proceed()
		return
	}
	c.registry.Confirm(p.verdict.Now.Add(c.patience), p.confirm)
}

// judge runs checks 1 to 7; what is no ordinary publish never reaches them.
func (c *caller) judge(s *verify.Session, m ingress.Message) verify.Verdict {
	switch m.Form {
	case ingress.Will:
		return verify.Verdict{Outcome: verify.Will, Now: c.now(), Reason: "wills are not accepted"}
	case ingress.Retained:
		return verify.Verdict{Outcome: verify.Retained, Now: c.now(), Reason: "retained messages are not accepted"}
	case ingress.Oversize:
		return verify.Verdict{Outcome: verify.Malformed, Now: c.now(), Reason: "the packet is larger than 16 KiB"}
	default:
		return s.Check(m.Topic, m.Payload)
	}
}

// passage is one message on its way through the gate.
type passage struct {
	*caller
	message ingress.Message
	// revision is the registry's that the verdict was reached by, or an earlier.
	revision uint64
	verdict  verify.Verdict
	// fallen is what has become of the verdict while the reading waited.
	fallen verify.Verdict
	done   func(ingress.Disposition)
}

// confirmed says whether the verdict may be acted on as it is: this replica has
// the right to judge, and a refusal that a lag of its registry could have
// caused has been made sure of.
func (p *passage) confirmed() bool {
	switch p.verdict.Outcome {
	case verify.UnknownDevice, verify.RevokedDevice, verify.BadSignature, verify.WrongDevice, verify.WrongPatient:
		return false
	}
	return p.registry.Leased(p.verdict.Now)
}

// confirm goes on when the registry is known to be up to date. It may come from
// any goroutine, so a message that must be judged again gets a session of its
// own.
func (p *passage) confirm(current bool) {
	// Others that waited may have taken long before this one's turn came.
	if !current || !p.registry.Leased(p.now()) {
		p.done(ingress.Disposition{Stored: ingress.Failed})
		return
	}
	if p.registry.Revision() != p.revision {
		p.verdict = p.judge(p.newSession(), p.message)
	}
	p.proceed()
}

// proceed acts on the verdict.
func (p *passage) proceed() {
	v := &p.verdict
	if v.Outcome != verify.Accepted {
		p.refuse()
		return
	}
	switch p.memory.Reserve(v.Identity, v.Now, v.Reading.Timestamp.Add(p.remembered), p.copied) {
	case verify.First:
		p.publish()
	case verify.Stored:
		p.copied(true)
	case verify.Pending:
	}
}

func (p *passage) publish() {
	v := &p.verdict
	p.store.Publish(egress.Record{
		Identity: v.Identity, Patient: v.Device.Patient, Device: v.Device.ID, Payload: p.message.Payload,
		Generation: v.Generation, Age: v.Age(), Received: v.Now, Stands: p.stands,
	}, p.answered)
}

// errFallen says that a reading which waited would be refused by now.
var errFallen = errors.New("the reading no longer passes the checks")

// stands is asked before a reading that waited is published again.
func (p *passage) stands() error {
	if !p.registry.Leased(p.now()) {
		return egress.ErrNotYet
	}
	if v := p.session.Recheck(p.verdict); v.Outcome != verify.Accepted {
		p.fallen = v
		return errFallen
	}
	return nil
}

// answered settles the reservation by the store's answer.
func (p *passage) answered(answer egress.Confirmation, err error) {
	id := p.verdict.Identity
	switch {
	case errors.Is(err, egress.ErrWithdrawn):
		p.memory.GiveBack(id)
		p.verdict = p.fallen
		p.refuse()
	case err != nil:
		p.memory.GiveBack(id)
		p.metrics.StoreFailed()
		p.sampled.Warn().Err(err).Str("device", p.verdict.Device.ID).Msg("a verified reading was not stored and is not acknowledged")
		p.done(ingress.Disposition{Stored: ingress.Failed})
	default:
		if !p.memory.Keep(id) {
			p.metrics.NotRemembered()
		}
		p.stored(answer)
	}
}

func (p *passage) stored(answer egress.Confirmation) {
	v := &p.verdict
	if answer.Duplicate {
		p.copied(true)
		return
	}
	p.metrics.Decided(verify.Accepted)
	p.metrics.Stored(answer.Took, v.Age()+answer.Took)
	p.registry.Signed(v.Device.ID, v.Generation)
	if v.Generation != v.Device.Keys[0].Generation {
		p.metrics.PreviousKey()
	}
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
	p.metrics.Decided(v.Outcome)
	hash := sha256.Sum256(p.message.Payload)
	r := egress.Rejection{
		Outcome: v.Outcome, Connection: p.identity.ID, Remote: p.remote, Time: v.Now.UTC(),
		PayloadSHA256: hex.EncodeToString(hash[:]), Reason: v.Reason,
	}
	if p.message.Form == ingress.Oversize {
		r.PayloadSHA256 = "" // it was never read
	}
	switch {
	case v.Device != nil:
		r.Device = v.Device.ID
	case p.message.Form != ingress.Published:
		r.Device = p.identity.ID
	}
	if !p.store.Reject(r) {
		p.metrics.RejectionLost()
	}
	d := ingress.Disposition{Outcome: v.Outcome, AboutTopic: v.AboutTopic}
	if v.Authentic && v.Outcome != verify.Duplicate {
		d.Reason = v.Reason
	}
	p.done(d)
}
