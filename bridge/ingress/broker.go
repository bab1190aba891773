package ingress

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/rs/zerolog"
	"golang.org/x/sync/semaphore"
)

const (
	// maxPacket is the largest MQTT packet that is read, in bytes: a payload
	// that is too large by little still gets its reason code.
	maxPacket = 16 << 10
	// defaultConnectDeadline is Options.ConnectDeadline where that is zero.
	defaultConnectDeadline = 10 * time.Second
	// writesPending bounds Mochi's queue of packets to a client. Devices
	// subscribe to nothing, so hardly anything ever waits there.
	writesPending = 16
	// week is longer than anybody waits for a $SYS topic that nobody may read.
	week = 7 * 24 * 60 * 60
)

// Options say how a Broker is to work. All but ConnectDeadline and Log must be
// set.
type Options struct {
	// Listen is the TCP address, host:port.
	Listen string
	// MaxConnections bounds the connections that are open at once.
	MaxConnections int
	// ReceiveMaximum bounds the messages of one connection that are being
	// decided at once; at the bound its socket is not read.
	ReceiveMaximum uint16
	// InFlight bounds the same for all connections together.
	InFlight int
	// ConnectDeadline is how long a peer may take until its CONNECT is there;
	// zero is ten seconds.
	ConnectDeadline time.Duration
	Log             zerolog.Logger
}

func (o Options) check() error {
	switch {
	case o.ReceiveMaximum == 0:
		return errors.New("receive maximum is 0; at least 1 is needed [MQTT-3.2.2-23]")
	case o.InFlight < 1:
		return fmt.Errorf("in flight is %d; at least 1 is needed", o.InFlight)
	case o.MaxConnections < 1:
		return fmt.Errorf("maximum connections is %d; at least 1 is needed", o.MaxConnections)
	}
	return nil
}

// Broker is the embedded MQTT broker. Devices publish to it and receive nothing
// but acknowledgements.
type Broker struct {
	server   *mqtt.Server
	listener *listener
	close    func() error
}

// Open listens and serves. Its error says which address could not be had.
func Open(o Options, door Door) (*Broker, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	tcp, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("mqtt: cannot listen on %s: %w; is another broker running there? --mqtt-listen chooses another address", o.Listen, err)
	}
	if o.ConnectDeadline == 0 {
		o.ConnectDeadline = defaultConnectDeadline
	}
	b := &Broker{}
	b.server = mqtt.New(&mqtt.Options{
		Capabilities:           capabilities(o),
		Logger:                 slog.New(redact(zerolog.NewSlogHandler(o.Log))),
		SysTopicResendInterval: week,
	})
	b.close = sync.OnceValue(b.server.Close) // Mochi's panics the second time
	b.listener = newListener(tcp, o, &b.server.Listeners.ClientsWg)
	h := &hook{
		server:         b.server,
		door:           door,
		receiveMaximum: int(o.ReceiveMaximum),
		inFlight:       semaphore.NewWeighted(int64(o.InFlight)),
	}
	if err := errors.Join(b.server.AddHook(h, nil), b.server.AddListener(b.listener), b.server.Serve()); err != nil {
		_ = tcp.Close()
		return nil, fmt.Errorf("mqtt: %w", err)
	}
	return b, nil
}

// Addr is the address that the broker listens on.
func (b *Broker) Addr() net.Addr { return b.listener.tcp.Addr() }

// Connections is how many connections are open.
func (b *Broker) Connections() int { return b.listener.count() }

// Close tells MQTT 5 clients that the server shuts down, closes every
// connection and waits until their goroutines have ended, or until ctx is done.
// It may be called again.
func (b *Broker) Close(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- b.close() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("mqtt: connections are still open: %w", ctx.Err())
	}
}

func capabilities(o Options) *mqtt.Capabilities {
	c := mqtt.NewDefaultServerCapabilities()
	c.MaximumClients = math.MaxInt64 // the listener counts
	c.MaximumClientWritesPending = writesPending
	c.MaximumPacketSize = maxPacket
	c.ReceiveMaximum = o.ReceiveMaximum
	c.MaximumInflight = math.MaxUint16
	c.TopicAliasMaximum = 0
	c.RetainAvailable = 0
	c.SharedSubAvailable = 0
	c.WildcardSubAvailable = 0
	c.SubIDAvailable = 0
	c.Compatibilities.NoInheritedPropertiesOnAck = true
	return c
}
