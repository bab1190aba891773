package doctor

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/reading"
	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/device-sim/attack/wire"
)

const (
	// enrolLimit bounds the wait until all replicas know the device: they take up
	// to five seconds.
	enrolLimit = 6 * time.Second
	// tidyLimit bounds its removal, after all else.
	tidyLimit = 2 * time.Second
	// tripLimit bounds a round trip.
	tripLimit = 2 * time.Second
	// ahead is how far the reading is beyond the future that the gate takes.
	ahead = time.Hour
	// idSize is the length of what is random in the device's id.
	idSize = 12
)

// Reason codes (MQTT 5, 3.2.2.2 and 3.4.2.1).
const (
	success       = 0x00
	specificError = 0x83
)

// mqtt goes the way of a device to each listener: it logs in and sends a reading
// that is signed as it must be and measured in the future. The gate refuses that
// only after it has found the signature, the device and the patient right, and
// says so; nothing is stored that a consumer of readings could see.
func (e *examination) mqtt(ctx context.Context) (all []finding) {
	doors := e.doors()
	if len(doors) == 0 {
		return []finding{skipped("no listener is configured: readings come from another broker")}
	}
	device := e.Device
	if device == nil {
		added, tidy, problem := e.enrol(ctx)
		if problem != nil {
			return []finding{*problem}
		}
		defer func() { all = append(all, tidy()...) }()
		device = &added
	}
	for _, d := range doors {
		all = append(all, e.trip(ctx, d, *device))
	}
	return all
}

// enrol adds a device for this one examination.
func (e *examination) enrol(ctx context.Context) (c registry.Credentials, tidy func() []finding, problem *finding) {
	id := "doctor-" + strings.ToLower(rand.Text()[:idSize])
	limited, cancel := context.WithTimeout(ctx, enrolLimit)
	defer cancel()
	result, err := e.client().Add(limited, registry.New{Kind: registry.KindDevice, ID: id, Patient: id})
	tidy = func() []finding {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyLimit)
		defer cancel()
		if _, err := e.client().Remove(ctx, registry.KindDevice, id); err != nil && !errors.Is(err, registry.ErrUnknown) {
			return []finding{wrong("the device %s, enrolled for this examination, is still there: %v; remove it: pulsegate device remove %s", id, err, id)}
		}
		return nil
	}
	if err != nil || result.Credentials == nil {
		f := wrong("no device could be enrolled for the round trip: %v", err)
		if left := tidy(); left != nil && !errors.Is(err, registry.ErrNoService) {
			f.message += "; and " + left[0].message
		}
		return c, nil, &f
	}
	if len(result.Behind) > 0 {
		f := wrong("replicas do not take up changes of the registry: %s; look at them, or stop them", strings.Join(result.Behind, ", "))
		for _, left := range tidy() {
			f.message += "; and " + left.message
		}
		return c, nil, &f
	}
	return *result.Credentials, tidy, nil
}

// trip is one round trip to one listener.
func (e *examination) trip(ctx context.Context, d door, device registry.Credentials) finding {
	where := d.setting + " " + d.address
	switch {
	case anyPort(d.address):
		return skipped("%s is any free port: say which one it is", where)
	case d.demand != config.ClientPassword && e.Cert == "":
		return skipped("%s demands a client certificate: give that of a device with --device, --cert and --key", where)
	}
	ctx, cancel := context.WithTimeout(ctx, tripLimit)
	defer cancel()
	began := e.Now()
	conn, err := e.dial(ctx, d)
	if err != nil {
		return wrong("%s: %v", where, err)
	}
	client := wire.Over(conn, wire.MQTT5, tripLimit)
	defer client.Close()
	if err := logIn(client, device); err != nil {
		return wrong("%s: %v", where, err)
	}
	reason, err := e.send(client, device)
	if err != nil {
		return wrong("%s: %v", where, err)
	}
	return well("%s let a device in, and found its reading authentic and in the future (%s), after %v", where, reason, e.Now().Sub(began).Round(time.Millisecond))
}

func logIn(client *wire.Client, device registry.Credentials) error {
	answer, err := client.Request(wire.Login{Version: wire.MQTT5, ID: device.DeviceID, User: device.Username, Password: device.Password, Keepalive: 60}.Bytes())
	switch {
	case err != nil:
		return fmt.Errorf("CONNECT is not answered (%w): look at what listens there, and at the gate's log", err)
	case answer.Type != wire.Connack:
		return errors.New("what listens there is no MQTT broker: look at what does")
	case answer.Code() != success:
		return fmt.Errorf("CONNECT as %s is refused with 0x%02X (%s)", device.DeviceID, answer.Code(), refusals()[answer.Code()])
	}
	return nil
}

// refusals are what codes of CONNACK are sent for, see docs/mqtt.md.
func refusals() map[byte]string {
	return map[byte]string{
		0x86: "not enrolled, or the password or certificate is wrong",
		0x87: "the client identifier is another's",
		0x88: "the gate is not ready: its log says why",
	}
}

// send publishes the reading and returns what the gate says of it.
func (e *examination) send(client *wire.Client, device registry.Credentials) (reason string, err error) {
	key, err := hex.DecodeString(device.Key)
	if err != nil {
		return "", errors.New("the device's key is not hexadecimal")
	}
	measured := e.Now().Add(time.Duration(e.Config.Freshness.MaxFuture) + ahead)
	text := fmt.Sprintf(`{"device_id":%q,"patient_id":%q,"timestamp":%.3f,"spo2":97,"heart_rate":72}`,
		device.DeviceID, device.PatientID, float64(measured.UnixMilli())/1000)
	payload, err := reading.Sign(key, []byte(text))
	if err != nil {
		return "", err
	}
	answer, err := client.Request(wire.Message{Version: wire.MQTT5, Topic: device.Topic, ID: 1, QoS: 1, Payload: payload}.Bytes())
	switch {
	case err != nil:
		return "", fmt.Errorf("a reading is not answered (%w): the gate's log says why", err)
	case answer.Type == wire.Disconnect:
		return "", fmt.Errorf("the gate ended the connection with 0x%02X: its log says why", answer.Code())
	case answer.Type != wire.Puback || answer.Code() != specificError:
		return "", fmt.Errorf("a reading of the future is answered with 0x%02X %s, not refused with 0x%02X: compare the device's patient and key, and the clocks of gate and NATS", answer.Code(), answer.Reason(), specificError)
	}
	_ = client.Send(wire.Packet(wire.FirstDisconnect, nil))
	return answer.Reason(), nil
}
