package attack

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/pulsegate/pulsegate/device-sim/fleet"
	"github.com/pulsegate/pulsegate/device-sim/ledger"
)

// turn is one execution of one attack, with only what that attack may have.
type turn struct {
	*Attacker
	attack  Attack
	count   *Count
	own     Target
	capture Capture
	random  *rand.Rand
	clock   func() time.Time
	// key is the stolen signing key, nil for all but own-key attacks.
	key []byte
	// fired says that something was sent; broken is an error of the ledger.
	fired  bool
	broken error
}

func newTurn(a *Attacker, attack Attack) *turn {
	t := &turn{
		Attacker: a, attack: attack, count: a.counts[attack.Name], capture: a.options.Capture,
		random: a.random, clock: a.options.Clock,
		own: Target{Device: a.options.Stolen.DeviceID, Patient: a.options.Stolen.PatientID, Topic: a.options.Stolen.Topic},
	}
	// The embedded attacker's key stays hidden behind this one.
	if attack.OwnKey {
		t.key = a.key
	}
	return t
}

func (t *turn) target() Target { return t.options.Targets[t.random.IntN(len(t.options.Targets))] }

// published makes a step of what is published on the attacker's own connection.
func published(craft func(*turn) (shot, error)) func(context.Context, *turn) error {
	return func(_ context.Context, t *turn) error {
		client, err := t.connected()
		if err != nil {
			return err
		}
		s, err := craft(t)
		if err != nil {
			return err
		}
		return t.fire(client, s)
	}
}

// fire publishes, and waits for the PUBACK that a gate sends for what it rejects
// too.
func (t *turn) fire(client mqtt.Client, s shot) error {
	ref, err := t.enter(s)
	if err != nil {
		return err
	}
	token := client.Publish(s.topic, qos, s.retained, s.payload)
	if !token.WaitTimeout(patience) {
		return errors.New("no PUBACK")
	}
	if err := token.Error(); err != nil {
		return err
	}
	return t.acknowledged(ref)
}

// enter writes a shot into the ledger before it is sent.
func (t *turn) enter(s shot) (ledger.Ref, error) {
	ref, err := t.book.Sent(ledger.Message{
		Device: s.device, Patient: s.patient, Topic: s.topic, Payload: s.payload, QoS: qos,
		Attack: t.attack.Name, Expected: t.attack.Expected,
	}, t.clock())
	if err != nil {
		t.broken = err
		return 0, err
	}
	t.fired = true
	t.count.Sent++
	return ref, nil
}

func (t *turn) acknowledged(ref ledger.Ref) error {
	t.count.Acknowledged++
	t.broken = t.book.Acknowledged(ref, t.clock())
	return t.broken
}

// replay becomes the victim while that is off. From any other connection the
// bytes would fail for their sender already.
func replay(ctx context.Context, t *turn) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	payload, giveBack, err := t.options.Victim.Borrow(ctx)
	if err != nil {
		return err
	}
	defer giveBack()
	victim := t.options.Victim.Stolen()
	client, err := connect(fleet.ClientOptions(t.options.Broker, victim))
	if err != nil {
		return err
	}
	defer client.Disconnect(quiesce)
	return t.fire(client, shot{
		device: victim.DeviceID, patient: victim.PatientID, topic: victim.Topic, payload: payload,
	})
}

// will connects with a forged reading as its will. The gate is to refuse; where
// it does not, the connection is cut, so that the broker publishes the will.
func will(_ context.Context, t *turn) error {
	s, err := forgedSignature(t)
	if err != nil {
		return err
	}
	// One client id has one connection.
	t.disconnect()
	options := fleet.ClientOptions(t.options.Broker, t.options.Stolen).
		SetBinaryWill(s.topic, s.payload, qos, false)
	socket, err := open(options.Servers[0], options.TLSConfig)
	if err != nil {
		return err
	}
	defer socket.Close()
	if _, err := t.enter(s); err != nil {
		return err
	}
	options.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return socket, nil })
	if _, err := connect(options); err == nil {
		t.options.Logger.Warn().Msg("the broker took a connection with a will")
	}
	return nil
}

func open(u *url.URL, config *tls.Config) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: patience}
	switch u.Scheme {
	case "tcp", "mqtt":
		return dialer.Dial("tcp", u.Host)
	case "ssl", "tls", "mqtts":
		return tls.DialWithDialer(dialer, "tcp", u.Host, config)
	}
	return nil, fmt.Errorf("a will can be tried over tcp and tls only, not over %s", u.Scheme)
}
