package attack

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/device-sim/fleet"
	"github.com/pulsegate/pulsegate/device-sim/ledger"
)

// DefaultRate is how often each attack has its turn, in Hz.
const DefaultRate = 2

const (
	// patience bounds how long one turn waits for the broker, or for a victim.
	patience = 2 * time.Second
	// redialPause keeps an attacker that is refused from dialing without end.
	redialPause = 500 * time.Millisecond
	// quiesce is how many milliseconds a DISCONNECT may take to be written.
	quiesce = 250
	qos     = 1
)

// Target is an honest device under attack, as an outsider knows it.
type Target struct{ Device, Patient, Topic string }

// Targets returns what an outsider knows of devices.
func Targets(credentials []registry.Credentials) []Target {
	var all []Target
	for _, c := range credentials {
		all = append(all, Target{Device: c.DeviceID, Patient: c.PatientID, Topic: c.Topic})
	}
	return all
}

// Capture is where an attacker overhears authentic payloads.
type Capture interface {
	// Latest returns the newest payload of a device, if there is one. It must
	// not be changed.
	Latest(device string) ([]byte, bool)
}

// Victim is a device that is switched off at times and whose MQTT password the
// attacker has.
type Victim interface {
	// Stolen returns what the attacker has of it.
	Stolen() registry.Credentials
	// Borrow waits until the device is off. It returns a payload of it that was
	// acknowledged and is still fresh, and the function that gives the session
	// back, to be called after disconnecting.
	Borrow(ctx context.Context) (payload []byte, giveBack func(), err error)
}

// Options are what an attacker has. Broker, Stolen, Targets, Attacks and Ledger
// must be there; Capture and Victim where an attack needs them.
type Options struct {
	// Broker is host:port, or a URL that paho knows.
	Broker string
	// Stolen are a registered device's credentials. No honest device may use
	// them meanwhile. The signing key serves the own-key attacks only.
	Stolen  registry.Credentials
	Targets []Target
	Capture Capture
	Victim  Victim
	Attacks []Attack
	// Rate is how often each attack has its turn, in Hz; DefaultRate where it
	// is 0.
	Rate float64
	// Seed determines targets and forged signatures.
	Seed   uint64
	Ledger *ledger.Ledger
	// Logger is never given a payload, a password or a key.
	Logger zerolog.Logger
	// Clock stamps what is forged, time.Now where it is nil.
	Clock func() time.Time
}

// Count is what one attack has done.
type Count struct {
	Sent int `json:"sent"`
	// Acknowledged counts PUBACKs, which a gate sends for what it rejects too.
	Acknowledged int `json:"acknowledged"`
	// Skipped counts turns in which the attack could send nothing, because
	// nothing was captured or the broker let it not connect.
	Skipped int `json:"skipped"`
}

// Attacker runs attacks one after the other from one device's connection.
type Attacker struct {
	options Options
	key     []byte
	book    *ledger.Book
	random  *rand.Rand
	seq     uint64
	client  mqtt.Client
	// dialAt is before when a connection is not tried again.
	dialAt time.Time
	counts map[string]*Count
}

// New makes an attacker. It connects nowhere yet.
func New(o Options) (*Attacker, error) {
	if o.Rate == 0 {
		o.Rate = DefaultRate
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if err := check(o); err != nil {
		return nil, err
	}
	key, err := fleet.Key(o.Stolen)
	if err != nil {
		return nil, err
	}
	book, err := o.Ledger.Book("attacker." + o.Stolen.DeviceID)
	if err != nil {
		return nil, err
	}
	a := &Attacker{
		options: o, key: key, book: book,
		random: rand.New(rand.NewPCG(o.Seed, uint64(len(o.Attacks)))), counts: make(map[string]*Count),
	}
	for _, attack := range o.Attacks {
		a.counts[attack.Name] = &Count{}
	}
	return a, nil
}

func check(o Options) error {
	switch {
	case o.Broker == "":
		return errors.New("attack: no broker's address")
	case len(o.Attacks) == 0:
		return errors.New("attack: no attacks")
	case len(o.Targets) == 0:
		return errors.New("attack: no targets")
	case o.Ledger == nil:
		return errors.New("attack: no ledger")
	case o.Capture == nil:
		return errors.New("attack: nothing to capture from")
	case o.Victim == nil && NeedVictim(o.Attacks):
		return fmt.Errorf("attack: no victim for %s", Replay)
	case !(o.Rate >= 0.001 && o.Rate <= 100):
		return fmt.Errorf("attack: the rate is %g Hz; it must be from 0.001 to 100", o.Rate)
	}
	for _, t := range o.Targets {
		if t.Device == o.Stolen.DeviceID || t.Patient == o.Stolen.PatientID {
			return fmt.Errorf("attack: the stolen device %s is a target, or has a target's patient", t.Device)
		}
	}
	return nil
}

// Run gives each attack its turn, again and again, until the context ends. That
// the broker refuses is no error; the error is the ledger's. It may be called
// once.
func (a *Attacker) Run(ctx context.Context) (map[string]Count, error) {
	defer a.disconnect()
	interval := time.Duration(float64(time.Second) / (a.options.Rate * float64(len(a.options.Attacks))))
	ticks := time.NewTicker(interval)
	defer ticks.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return a.total(), nil
		case <-ticks.C:
		}
		if err := a.take(ctx, a.options.Attacks[i%len(a.options.Attacks)]); err != nil {
			return a.total(), err
		}
	}
}

func (a *Attacker) total() map[string]Count {
	all := make(map[string]Count)
	for name, c := range a.counts {
		all[name] = *c
	}
	return all
}

// take lets one attack have its turn.
func (a *Attacker) take(ctx context.Context, attack Attack) error {
	t := newTurn(a, attack)
	err := attack.step(ctx, t)
	if t.broken != nil {
		return t.broken
	}
	if err != nil {
		a.options.Logger.Debug().Err(err).Str("attack", attack.Name).Msg("a turn came to nothing")
	}
	if !t.fired {
		t.count.Skipped++
	}
	return nil
}

// Message is what an attack publishes.
type Message struct {
	Topic    string
	Payload  []byte
	Retained bool
}

// Craft returns a message of an attack for whoever sends it in a way of his own.
// It fails for attacks that are more than one publish, and where nothing has
// been captured yet.
func (a *Attacker) Craft(attack Attack) (Message, error) {
	if attack.craft == nil {
		return Message{}, fmt.Errorf("attack: %s is more than one publish", attack.Name)
	}
	s, err := attack.craft(newTurn(a, attack))
	return Message{Topic: s.topic, Payload: s.payload, Retained: s.retained}, err
}

// connected returns the attacker's own connection, connecting if need be.
func (a *Attacker) connected() (mqtt.Client, error) {
	if a.client != nil && a.client.IsConnectionOpen() {
		return a.client, nil
	}
	a.disconnect()
	now := a.options.Clock()
	if now.Before(a.dialAt) {
		return nil, errors.New("waiting before connecting again")
	}
	client, err := connect(fleet.ClientOptions(a.options.Broker, a.options.Stolen))
	if err != nil {
		a.dialAt = now.Add(redialPause)
		a.options.Logger.Warn().Err(err).Str("device", a.options.Stolen.DeviceID).Msg("the attacker cannot connect")
		return nil, err
	}
	a.client = client
	return client, nil
}

func (a *Attacker) disconnect() {
	if a.client != nil {
		a.client.Disconnect(quiesce)
		a.client = nil
	}
}

// connect connects once. The options' own timeout bounds it.
func connect(options *mqtt.ClientOptions) (mqtt.Client, error) {
	client := mqtt.NewClient(options.SetConnectTimeout(patience))
	token := client.Connect()
	token.Wait()
	return client, token.Error()
}
