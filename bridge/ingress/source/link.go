package source

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/pulsegate/pulsegate/bridge/ingress"
)

const (
	// connectTimeout bounds everything from TCP to CONNACK.
	connectTimeout = 10 * time.Second
	// subscribeTimeout bounds the wait for SUBACK, before which the broker may
	// send all that it has kept.
	subscribeTimeout = time.Minute
	// keepAlive with pingTimeout is how long a broker may be silent. A handler
	// that blocks so long, because the store is away and the bounds in flight
	// are reached, ends the connection too: what paho does not read is no answer.
	keepAlive   = 30 * time.Second
	pingTimeout = 20 * time.Second
	// quiesce is how long DISCONNECT may take to be written.
	quiesce = 250 * time.Millisecond
	// lossTimeout is how long paho may take to say why a connection ended.
	lossTimeout = time.Second

	mqtt311 = 4
	qos     = 1
	// mostQoS is the largest return code of SUBACK that grants a subscription.
	mostQoS = 2
)

var (
	errNoAnswer = fmt.Errorf("the broker did not answer within %v", connectTimeout)
	errHungUp   = errors.New("the connection ended")
	errStopped  = errors.New("the gate is stopping")
)

// link is one connection to a broker, used once.
type link struct {
	*Source
	broker  broker
	handler ingress.Handler
	queue   *queue
	client  mqtt.Client
	// ctx is done when the connection has ended or is to end; its cause says why.
	ctx    context.Context
	cancel context.CancelCauseFunc
	// reasons has what paho says of a loss.
	reasons chan error
	// keep takes the time limit off the connection. It is set while paho connects.
	keep func() bool
}

func (s *Source) newLink(b broker) *link {
	l := &link{
		Source: s, broker: b, handler: s.options.Handler(b.address), reasons: make(chan error, 1),
		queue: newQueue(s.room, s.lostOne),
	}
	l.ctx, l.cancel = context.WithCancelCause(s.running)
	return l
}

// connect opens the connection up to CONNACK, and says whether the broker had a
// session.
func (l *link) connect() (present bool, err error) {
	// Not of l.ctx, which paho ends itself before it says what was wrong.
	ctx, cancel := context.WithTimeout(l.running, connectTimeout)
	defer cancel()
	defer context.AfterFunc(l.stopping, cancel)()
	l.client = mqtt.NewClient(l.clientOptions(ctx))
	token := l.client.Connect().(*mqtt.ConnectToken)
	select {
	case <-token.Done():
	case <-ctx.Done():
		return false, errNoAnswer
	}
	if err := token.Error(); err != nil {
		return false, explain(err)
	}
	if !l.keep() {
		return false, errNoAnswer
	}
	return token.SessionPresent(), nil
}

// clientOptions leave paho nothing but the protocol: reconnecting, keeping and
// sending again are the source's and the broker's.
func (l *link) clientOptions(ctx context.Context) *mqtt.ClientOptions {
	o := mqtt.NewClientOptions().
		AddBroker(l.broker.String()).
		SetClientID(l.options.ClientID).
		SetUsername(l.options.User).
		SetPassword(l.options.Password).
		// Named, since paho otherwise tries a refused CONNECT again as MQTT 3.1.
		SetProtocolVersion(mqtt311).
		SetCleanSession(false).
		SetAutoReconnect(false).
		SetConnectRetry(false).
		SetStore(forgetful{}).
		SetAutoAckDisabled(true).
		// One after another; and no routes by filter, since paho would call those
		// of overlapping filters for one message.
		SetOrderMatters(true).
		SetDefaultPublishHandler(l.receive).
		SetConnectTimeout(connectTimeout).
		SetKeepAlive(keepAlive).
		SetPingTimeout(pingTimeout).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) { l.reasons <- err })
	o.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) {
		conn, socket, err := l.options.dial(ctx, l.broker)
		if err != nil {
			return nil, err
		}
		g := newGuard(conn, socket, len(l.options.filters()), func() { l.cancel(errHungUp) })
		l.keep = context.AfterFunc(ctx, func() { _ = g.Close() })
		return g, nil
	})
	return o
}

// receive is paho's handler. While it blocks, the socket is not read.
func (l *link) receive(_ mqtt.Client, m mqtt.Message) {
	d := l.queue.take(l.ctx, m)
	if d == nil {
		if m.Qos() == 0 {
			l.lostOne()
		}
		return
	}
	l.received.Add(1)
	l.handler.Handle(message(m), d.settle)
}

func message(m mqtt.Message) ingress.Message {
	switch {
	case len(m.Topic())+len(m.Payload()) > oversize:
		return ingress.Message{Form: ingress.Oversize}
	case m.Retained():
		return ingress.Message{Topic: m.Topic(), Payload: m.Payload(), Form: ingress.Retained}
	}
	return ingress.Message{Topic: m.Topic(), Payload: m.Payload()}
}

// subscribe asks for all filters at once, and takes no answer for granted.
func (l *link) subscribe() error {
	asked := make(map[string]byte)
	for _, f := range l.options.filters() {
		asked[f] = qos
	}
	answers := make(chan *mqtt.SubscribeToken, 1)
	// Apart, since paho does not notice for 30 s that the connection has ended.
	go func() {
		token := l.client.SubscribeMultiple(asked, nil)
		<-token.Done()
		answers <- token.(*mqtt.SubscribeToken)
	}()
	timer := time.NewTimer(subscribeTimeout)
	defer timer.Stop()
	select {
	case token := <-answers:
		switch err := token.Error(); {
		case err != nil && l.ctx.Err() != nil:
			return l.reason()
		case err != nil:
			return fmt.Errorf("subscribing: %w", err)
		}
		return granted(l.options.filters(), token.Result())
	case <-l.ctx.Done():
		return l.reason()
	case <-l.stopping.Done():
		return errStopped
	case <-timer.C:
		return fmt.Errorf("the broker did not answer SUBSCRIBE within %v", subscribeTimeout)
	}
}

// granted checks the return codes of SUBACK (MQTT 3.1.1, 3.9.3), in which a
// refusal is no error of its own.
func granted(filters []string, codes map[string]byte) error {
	var problems []string
	for _, f := range filters {
		switch code, answered := codes[f]; {
		case !answered || code > mostQoS:
			problems = append(problems, fmt.Sprintf("the broker refused the subscription to %q: allow it to the client there", f))
		case code < qos:
			problems = append(problems, fmt.Sprintf("the broker granted QoS 0 for %q, at which it keeps nothing: allow QoS 1 there", f))
		}
	}
	if len(problems) == 0 {
		return nil
	}
	return &refusal{strings.Join(problems, "; ")}
}

// refusal is a subscription that the broker does not serve as it must.
type refusal struct{ text string }

func (r *refusal) Error() string { return r.text }

// drain waits until what has been taken is acknowledged.
func (l *link) drain() {
	l.queue.drain()
	select {
	case <-l.queue.drained:
	case <-l.ctx.Done():
	}
}

// reason says why the connection ended.
func (l *link) reason() error {
	cause := context.Cause(l.ctx)
	if !errors.Is(cause, errHungUp) {
		return cause
	}
	timer := time.NewTimer(lossTimeout)
	defer timer.Stop()
	select {
	case err := <-l.reasons:
		return fmt.Errorf("the connection was lost: %w", err)
	case <-timer.C:
		return cause
	}
}

// end closes the connection, and returns how many messages it leaves
// unacknowledged.
func (l *link) end() int {
	l.cancel(errHungUp)
	n := l.queue.end()
	if l.client != nil {
		l.client.Disconnect(uint(quiesce.Milliseconds()))
	}
	return n
}

// explain says what to do about a refused CONNECT.
func explain(err error) error {
	switch {
	case errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword), errors.Is(err, packets.ErrorRefusedNotAuthorised):
		return fmt.Errorf("the broker refused the connection (%w): check user, password and what it allows the client id", err)
	case errors.Is(err, packets.ErrorRefusedIDRejected):
		return fmt.Errorf("the broker refused the connection (%w): give another client id", err)
	}
	return err
}

// forgetful is paho's store, of which nothing is needed: the broker keeps what
// is not acknowledged, and the source publishes nothing.
type forgetful struct{}

func (forgetful) Open()                             {}
func (forgetful) Put(string, packets.ControlPacket) {}
func (forgetful) Get(string) packets.ControlPacket  { return nil }
func (forgetful) All() []string                     { return nil }
func (forgetful) Del(string)                        {}
func (forgetful) Close()                            {}
func (forgetful) Reset()                            {}
