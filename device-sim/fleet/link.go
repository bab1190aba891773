package fleet

import (
	"context"
	"fmt"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/pulsegate/pulsegate/bridge/registry"
)

const (
	connectTimeout = 5 * time.Second
	writeTimeout   = 5 * time.Second
	keepAlive      = 20 * time.Second
	// quiesce is how many milliseconds a DISCONNECT may take to be written.
	quiesce = 250
	mqtt311 = 4
	// qos is that of every honest reading: at least once.
	qos = 1
	// window is how many readings of one device may be unanswered at once.
	window = 64
)

// ClientOptions returns paho's options for a device, set so that a publish's
// token tells the truth: with paho's own reconnecting, or with a session that
// outlives the connection, it completes without an acknowledgement, or never.
// The broker is host:port or a URL that paho knows (tcp, ssl, ws, wss).
func ClientOptions(broker string, c registry.Credentials) *mqtt.ClientOptions {
	return mqtt.NewClientOptions().
		AddBroker(broker).
		SetClientID(c.DeviceID).
		SetUsername(c.Username).
		SetPassword(c.Password).
		// Named, since paho otherwise tries a refused CONNECT again as MQTT 3.1.
		SetProtocolVersion(mqtt311).
		SetCleanSession(true).
		SetAutoReconnect(false).
		SetConnectRetry(false).
		SetConnectTimeout(connectTimeout).
		SetWriteTimeout(writeTimeout).
		SetKeepAlive(keepAlive)
}

// link is one connection of a wearable, used once.
type link struct {
	client mqtt.Client
	lost   <-chan struct{}
	// drop closes lost, once, whoever calls it.
	drop func()
	// flights are the publishes that wait for their acknowledgement, in order.
	flights chan flight
	// answers are the acknowledgements; it is closed when no more can come.
	answers chan answer
}

type flight struct {
	message *message
	token   mqtt.Token
}

type answer struct {
	message *message
	at      time.Time
}

// dial connects. Its error says what the broker or the network answered.
func dial(ctx context.Context, broker string, c registry.Credentials) (*link, error) {
	lost := make(chan struct{})
	drop := sync.OnceFunc(func() { close(lost) })
	options := ClientOptions(broker, c).
		SetConnectionLostHandler(func(mqtt.Client, error) { drop() })
	client := mqtt.NewClient(options)
	token := client.Connect()
	select {
	case <-token.Done():
	case <-ctx.Done():
		client.Disconnect(quiesce)
		return nil, ctx.Err()
	}
	if err := token.Error(); err != nil {
		return nil, fmt.Errorf("connecting to %s as %s: %w", broker, c.DeviceID, err)
	}
	return &link{
		client: client, lost: lost, drop: drop,
		flights: make(chan flight, window), answers: make(chan answer, window),
	}, nil
}

// publish hands a message to paho. No more than the window may be unanswered.
func (l *link) publish(topic string, m *message) {
	l.flights <- flight{message: m, token: l.client.Publish(topic, qos, false, m.payload)}
}

// watch gives out the acknowledgements, in the order of sending, until the link
// has ended or a publish fails or stays unanswered for patience. PUBACKs come in
// the order of the PUBLISH packets [MQTT-4.6.0-2], so waiting in that order
// delays none.
func (l *link) watch(patience time.Duration, now func() time.Time) {
	defer close(l.answers)
	defer l.drop()
	for {
		select {
		case f := <-l.flights:
			if !l.confirmed(f.token, patience) {
				return
			}
			l.answers <- answer{message: f.message, at: now()}
		case <-l.lost:
			return
		}
	}
}

// confirmed waits for one token. It watches the link too, because a token whose
// publish raced with the loss of the connection never completes.
func (l *link) confirmed(token mqtt.Token, patience time.Duration) bool {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-token.Done():
		return token.Error() == nil
	case <-l.lost:
	case <-timer.C:
	}
	return false
}

// close disconnects, and waits until paho is done with it.
func (l *link) close() {
	l.client.Disconnect(quiesce)
	l.drop()
}
