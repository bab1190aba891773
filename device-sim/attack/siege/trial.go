package siege

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/device-sim/attack/wire"
)

// versions are the protocol's that most attacks are tried in.
var versions = [...]byte{wire.MQTT311, wire.MQTT5}

// keepalive is that of connections that do not test it, in seconds.
const keepalive = 60

func login(c registry.Credentials, version byte) wire.Login {
	return wire.Login{Version: version, ID: c.DeviceID, User: c.Username, Password: c.Password, Keepalive: keepalive}
}

// trial is one attack being tried.
type trial struct {
	*siege
	attack Attack
	random *rand.Rand

	mu  sync.Mutex
	row Row
}

// reply is what the gate did: it sent a packet, or hung up, or both, or nothing.
type reply struct {
	wire.Answer
	closed bool
}

var packetNames = map[byte]string{
	wire.Connack: "CONNACK", wire.Publish: "PUBLISH", wire.Puback: "PUBACK", wire.Pubrec: "PUBREC", wire.Pubcomp: "PUBCOMP",
	wire.Suback: "SUBACK", wire.Unsuback: "UNSUBACK", wire.Pingresp: "PINGRESP", wire.Disconnect: "DISCONNECT",
}

func (r reply) String() string {
	name, known := packetNames[r.Type]
	switch {
	case r.Type == 0 && r.closed:
		return "the connection's end"
	case r.Type == 0:
		return "silence"
	case !known:
		return fmt.Sprintf("a packet of type %d", r.Type)
	case r.Type == wire.Publish || r.Type == wire.Pingresp:
		return name
	}
	return fmt.Sprintf("%s %#02x", name, r.Code())
}

// expectation is what a reply must be.
type expectation struct {
	text string
	met  func(reply) bool
}

// ended wants the connection to be closed, with a DISCONNECT or without.
var ended = expectation{"the connection's end", func(r reply) bool { return r.closed && (r.Type == 0 || r.Type == wire.Disconnect) }}

// code wants a packet with one of the reason codes.
func code(kind byte, codes ...byte) expectation {
	var texts []string
	for _, c := range codes {
		texts = append(texts, fmt.Sprintf("%#02x", c))
	}
	return expectation{packetNames[kind] + " " + strings.Join(texts, " or "), func(r reply) bool {
		return r.Type == kind && slices.Contains(codes, r.Code())
	}}
}

// refusal wants a packet that says no: in CONNACK of MQTT 3.1.1 that is every
// code but 0.
func refusal(kind byte) expectation {
	least := byte(0x80)
	if kind == wire.Connack {
		least = 1
	}
	return expectation{"a refusing " + packetNames[kind], func(r reply) bool { return r.Type == kind && r.Code() >= least }}
}

// ignored wants that nothing but the answer to the PINGREQ comes that was sent
// after it.
var ignored = expectation{"no answer", func(r reply) bool { return r.Type == wire.Pingresp }}

func anyOf(all ...expectation) expectation {
	var texts []string
	for _, e := range all {
		texts = append(texts, e.text)
	}
	return expectation{strings.Join(texts, ", or "), func(r reply) bool {
		return slices.ContainsFunc(all, func(e expectation) bool { return e.met(r) })
	}}
}

// judge counts a reply.
func (t *trial) judge(what string, got reply, want expectation) bool {
	if want.met(got) {
		t.met()
		return true
	}
	t.otherwise("%s: %s in place of %s", what, got, want.text)
	return false
}

func (t *trial) met() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.row.met()
}

func (t *trial) otherwise(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.row.otherwise(fmt.Sprintf(format, args...))
}

// check counts what is no reply.
func (t *trial) check(ok bool, format string, args ...any) {
	if ok {
		t.met()
		return
	}
	t.otherwise(format, args...)
}

// next is the client's next reply. After DISCONNECT the connection must end.
func next(c *wire.Client) reply {
	answer, err := c.Next()
	if err != nil {
		return reply{closed: hungUp(err)}
	}
	if answer.Type != wire.Disconnect {
		return reply{Answer: answer}
	}
	_, err = c.Next()
	return reply{Answer: answer, closed: hungUp(err)}
}

func hungUp(err error) bool { return err != nil && !errors.Is(err, os.ErrDeadlineExceeded) }

// request sends, and returns the next reply. A write may fail where the gate
// hangs up before it has read all; what it did is seen by reading.
func request(c *wire.Client, packets ...[]byte) reply {
	_ = c.Send(packets...)
	return next(c)
}

// dial connects TCP. That it cannot is a finding.
func (t *trial) dial(ctx context.Context, version byte) (*wire.Client, bool) {
	c, err := wire.Dial(ctx, t.Broker, version, t.Patience)
	if err != nil {
		if !over(ctx) {
			t.otherwise("it cannot be connected to: %s", dialError(err))
		}
		return nil, false
	}
	return c, true
}

// over says whether an attack's time is. A dialler gives up at the deadline of
// ctx, which on a busy machine is before ctx itself notices.
func over(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && !time.Now().Before(deadline)
}

// dialError leaves out the addresses, so that equal findings are equal.
func dialError(err error) error {
	var of *net.OpError
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}

// stranger does something on a connection that has not sent CONNECT.
func (t *trial) stranger(ctx context.Context, version byte, do func(*wire.Client)) {
	if c, ok := t.dial(ctx, version); ok {
		defer c.Close()
		do(c)
	}
}

// insider does something on a connection of one of the stolen devices. One that
// is locked out by now gives way to the next.
func (t *trial) insider(ctx context.Context, version byte, do func(*wire.Client, registry.Credentials)) {
	t.insiderWith(ctx, version, login, func(c *wire.Client, who registry.Credentials, _ wire.Answer) { do(c, who) })
}

// insiderWith is insider with a CONNECT of the caller's, whose CONNACK it is
// shown.
func (t *trial) insiderWith(ctx context.Context, version byte, connect func(registry.Credentials, byte) wire.Login, do func(*wire.Client, registry.Credentials, wire.Answer)) {
	for range len(t.Credentials) - 3 {
		if t.asInsider(ctx, version, connect, do) {
			return
		}
	}
	t.untried()
}

// untried counts what was left out because nobody was let in.
func (t *trial) untried() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.row.Untried++
}

// asInsider says whether there is no need to try with another one.
func (t *trial) asInsider(ctx context.Context, version byte, connect func(registry.Credentials, byte) wire.Login, do func(*wire.Client, registry.Credentials, wire.Answer)) bool {
	var who registry.Credentials
	select {
	case who = <-t.stolen:
	case <-ctx.Done():
		return true
	}
	defer func() { t.stolen <- who }()
	c, ok := t.dial(ctx, version)
	if !ok {
		return true
	}
	defer c.Close()
	r := request(c, connect(who, version).Bytes())
	if r.Type != wire.Connack || r.Code() != 0 {
		return false
	}
	do(c, who, r.Answer)
	return true
}

// asVictim does something on the victim's own connection, which must be let in.
func (t *trial) asVictim(ctx context.Context, version byte, do func(*wire.Client, registry.Credentials)) {
	t.victim.Lock()
	defer t.victim.Unlock()
	t.stranger(ctx, version, func(c *wire.Client) {
		who := t.Credentials[1]
		if t.judge("the victim's own login", request(c, login(who, version).Bytes()), code(wire.Connack, 0)) {
			do(c, who)
		}
	})
}

// afterwards looks whether the gate still serves: the victim logs in, with the
// same address as the attacker, and its reading is taken.
func (t *trial) afterwards(ctx context.Context) {
	t.asVictim(ctx, wire.MQTT5, func(c *wire.Client, who registry.Credentials) {
		t.honestly(c, who, "the victim's own reading")
	})
}

// honestly publishes an authentic reading, which must be acknowledged.
func (t *trial) honestly(c *wire.Client, who registry.Credentials, what string) []byte {
	payload := t.books.sign(who, "")
	message := wire.Message{Version: c.Version(), Topic: who.Topic, ID: 1, QoS: 1, Payload: payload}
	if t.judge(what, request(c, message.Bytes()), code(wire.Puback, 0)) {
		t.books.acknowledged(payload)
	}
	return payload
}

// times is how often to do what is done so often at strength 1.
func (t *trial) times(n int) int { return n * t.Strength }
