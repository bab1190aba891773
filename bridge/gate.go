package bridge

import (
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/clock"
	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/ingress"
	"github.com/pulsegate/pulsegate/bridge/limits"
	"github.com/pulsegate/pulsegate/bridge/monitor"
	"github.com/pulsegate/pulsegate/bridge/presence"
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
	fair       *fairness
	refusals   *refusals
	presence   *presence.Watch
	// fromSource is the way by which readings of another broker come.
	fromSource presence.Way
	// hangUp closes the connection of a client.
	hangUp func(id string)
	// patience is how long a message waits until the registry is certain.
	patience time.Duration
	clock    *clock.Clock
	// now is the machine's clock, which leases are measured by.
	now func() time.Time
	tap func(topic string, payload []byte)
	log zerolog.Logger
	// sampled is log for what an outage or a stranger would write for every reading.
	sampled *limits.Log
}

// Admit implements ingress.Door: the user name or the certificate's name is the
// id of a device or gateway, and so is the client id, since otherwise one could
// take over another's session.
func (g *gate) Admit(c ingress.Connection) (ingress.Handler, ingress.Admission) {
	if !g.sure() || g.store.Err() != nil {
		return nil, ingress.Unavailable
	}
	pair := limits.Pair{Address: limits.AddressOf(c.Remote), Name: short(claimed(c))}
	if a := g.fair.admit(pair, g.now()); a != ingress.Welcome {
		g.refused(c, monitor.TooManyAttempts, "more attempts than are looked at, from its address or after bad signatures under its name there")
		return nil, a
	}
	identity, refusal := g.identify(c)
	if refusal != "" {
		g.refused(c, monitor.WrongCredentials, refusal)
		g.fair.guessed(pair, g.now())
		return nil, ingress.BadCredentials
	}
	if c.ClientID != identity.ID {
		g.refused(c, monitor.WrongClientID, "the client identifier is not the id of whose password or certificate it is")
		return nil, ingress.NotAuthorized
	}
	one := &caller{gate: g, identity: identity, name: identity.ID, remote: c.Remote, purse: g.fair.purse(identity, pair)}
	one.session, one.proven = one.newSession(), c.Demand != ingress.Nothing
	g.metrics.Admitted()
	return one, ingress.Welcome
}

// sure says whether this replica may judge now: it knows all devices, and its
// clock is right.
func (g *gate) sure() bool { return g.registry.Leased(g.now()) && g.clock.Err() == nil }

func (g *gate) refused(c ingress.Connection, f monitor.AuthFailure, reason string) {
	g.metrics.AuthenticationFailed(f)
	g.refusals.login(c, reason, g.now())
}

// handshakeFailed makes a refused connection of a failed TLS handshake: with
// client certificates that is what a failed login is.
func (g *gate) handshakeFailed(remote string, err error) {
	g.refused(ingress.Connection{Remote: remote}, monitor.FailedHandshake, "TLS handshake: "+short(err.Error()))
}

// short bounds a name that a stranger gave to the length of an id, lest
// strangers fill the audit.
func short(name string) string {
	if len(name) > maxName {
		name = name[:maxName]
	}
	return strings.ToValidUTF8(name, "")
}

// claimed is the name that a client wants to be let in by.
func claimed(c ingress.Connection) string {
	switch c.Demand {
	case ingress.Nothing:
		return c.ClientID
	case ingress.Certificate:
		return c.Certificate
	}
	return c.Username
}

// caller is one connection's way through the gate.
type caller struct {
	*gate
	// identity is empty where messages come without a connection of their own.
	identity registry.Identity
	// proven is true if whoever connected has proved that the identity is his.
	proven bool
	way    presence.Way
	held   presence.Held
	// name is the connection's in rejections.
	name    string
	session *verify.Session
	remote  string
	purse   purse
	// cut is set once the connection has been closed for its bad signatures.
	cut atomic.Bool
}

func (c *caller) newSession() *verify.Session {
	if c.identity.Kind != registry.KindGateway {
		return c.verifier.Session(c.identity.ID)
	}
	return c.verifier.GatewaySession(c.identity.ID, func(device string) bool {
		return c.registry.Carries(c.identity.ID, device)
	})
}

// Handle implements ingress.Handler. Who is over a limit waits after his message
// has gone its way: meanwhile his next one is not read, and this one holds no
// place that others could use.
func (c *caller) Handle(m ingress.Message, done func(ingress.Disposition)) {
	if (m.Form == ingress.Published || m.Form == ingress.Retained) && c.tap != nil {
		c.tap(m.Topic, m.Payload)
	}
	now := c.now()
	// The revision is read first, so that a change in between is noticed.
	p := &passage{caller: c, message: m, received: now, done: done, revision: c.registry.Revision()}
	wait, ok := c.purse.byAddress(now)
	if ok {
		p.verdict = c.judge(c.session, m)
		wait = max(wait, c.charge(&p.verdict, now))
	} else {
		// Before the checks, which cost more than this.
		p.verdict = c.undecided(verify.RateLimited, "more messages from this address than it may send")
	}
	if p.confirmed() {
		p.proceed()
	} else {
		c.registry.Confirm(c.now().Add(c.patience), p.confirm)
	}
	c.fair.pause(wait)
}

// judge runs checks 1 to 7; what is no ordinary publish never reaches them.
func (c *caller) judge(s *verify.Session, m ingress.Message) verify.Verdict {
	switch m.Form {
	case ingress.Will:
		return c.undecided(verify.Will, "wills are not accepted")
	case ingress.Retained:
		return c.undecided(verify.Retained, "retained messages are not accepted")
	case ingress.Oversize:
		return c.undecided(verify.Malformed, "the packet is larger than 16 KiB")
	}
	return s.Check(m.Topic, m.Payload)
}

// undecided is the verdict on what is not even looked at.
func (c *caller) undecided(o verify.Outcome, reason string) verify.Verdict {
	v := verify.Verdict{Outcome: o, Reason: reason}
	v.Now, v.Doubt = c.clock.Read()
	return v
}
