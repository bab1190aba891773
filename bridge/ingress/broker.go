package ingress

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/rs/zerolog"
	"golang.org/x/sync/semaphore"

	"github.com/pulsegate/pulsegate/bridge/limits"
)

const (
	// maxPacket is the largest MQTT packet that is read, in bytes: a payload
	// that is too large by little still gets its reason code.
	maxPacket = 16 << 10
	// maxConnect is the same for CONNECT, which is read from everybody. Names and
	// password have room enough.
	maxConnect = 4 << 10
	// defaultConnectDeadline is Options.ConnectDeadline where that is zero.
	defaultConnectDeadline = 10 * time.Second
	// writesPending bounds Mochi's queue of packets to a client. Devices
	// subscribe to nothing, so hardly anything ever waits there.
	writesPending = 16
	// week is longer than anybody waits for a $SYS topic that nobody may read.
	week = 7 * 24 * 60 * 60
)

// Options say how a Broker is to work. The listeners, the bounds of
// connections and those of messages must be set.
type Options struct {
	// Listeners are where devices connect, at least one.
	Listeners []Listener
	// MaxConnections bounds the connections that are open at once.
	MaxConnections int
	// MaxConnectionsPerAddress bounds those of one IPv4 address, or of one /64 in
	// IPv6; zero is MaxConnections.
	MaxConnectionsPerAddress int
	// Balancers are the addresses whose connections begin with a PROXY protocol
	// header, which tells the client's address; one without it is closed. Others
	// cannot send one.
	Balancers []netip.Prefix
	// ReceiveMaximum bounds the messages of one connection that are being
	// decided at once; at the bound its socket is not read.
	ReceiveMaximum uint16
	// InFlight bounds the same for all connections together.
	InFlight int
	// InFlightBytes bounds the size in bytes of the packets of those messages, at
	// least the largest packet's 16 KiB. One connection's are bounded too: to
	// ReceiveMaximum times 4 KiB, or one packet.
	InFlightBytes int64
	// ConnectDeadline is how long a peer may take until its CONNECT is there, TLS
	// and WebSocket included; zero is ten seconds.
	ConnectDeadline time.Duration
	// PacketDeadline is how long a packet that has begun may take until it is whole;
	// zero is thirty seconds. The time in which the socket is not read does not
	// count.
	PacketDeadline time.Duration
	// HandshakeFailed is told of every TLS handshake that failed, from the
	// connection's goroutine; nil is nobody.
	HandshakeFailed func(remote string, err error)
	Log             zerolog.Logger
}

func (o Options) check() error {
	switch {
	case len(o.Listeners) == 0:
		return errors.New("there is no listener")
	case o.ReceiveMaximum == 0:
		return errors.New("receive maximum is 0; at least 1 is needed [MQTT-3.2.2-23]")
	case o.InFlight < 1:
		return fmt.Errorf("in flight is %d; at least 1 is needed", o.InFlight)
	case o.InFlightBytes < maxPacket:
		return fmt.Errorf("in flight bytes is %d; at least %d is needed, for the largest packet", o.InFlightBytes, maxPacket)
	case o.MaxConnectionsPerAddress < 0:
		return fmt.Errorf("maximum connections per address is %d; at least 1 is needed", o.MaxConnectionsPerAddress)
	case o.MaxConnections < 1:
		return fmt.Errorf("maximum connections is %d; at least 1 is needed", o.MaxConnections)
	}
	return nil
}

// Broker is the embedded MQTT broker. Devices publish to it and receive nothing
// but acknowledgements.
type Broker struct {
	server    *mqtt.Server
	listeners []*listener
	shared    shared
	close     func() error
	log       zerolog.Logger
}

// Open listens and serves. Its error says which address could not be had.
func Open(o Options, door Door) (*Broker, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.ConnectDeadline == 0 {
		o.ConnectDeadline = defaultConnectDeadline
	}
	if o.PacketDeadline == 0 {
		o.PacketDeadline = defaultPacketDeadline
	}
	if o.MaxConnectionsPerAddress == 0 {
		o.MaxConnectionsPerAddress = o.MaxConnections
	}
	b := &Broker{log: o.Log}
	b.server = mqtt.New(&mqtt.Options{
		Capabilities:           capabilities(o),
		Logger:                 slog.New(redact(zerolog.NewSlogHandler(o.Log))),
		SysTopicResendInterval: week,
	})
	b.close = sync.OnceValue(b.server.Close) // Mochi's panics the second time
	b.shared.room = semaphore.NewWeighted(int64(o.MaxConnections))
	b.shared.addresses = newAddresses(o.MaxConnectionsPerAddress)
	b.shared.serving = &b.server.Listeners.ClientsWg
	b.shared.known = b.server.Clients
	b.shared.handshakeFailed = o.HandshakeFailed
	b.shared.sampled = limits.NewLog(o.Log)
	b.shared.inFlight = newFlight(o.InFlight, o.InFlightBytes)
	if err := b.listen(o); err != nil {
		return nil, err
	}
	h := &hook{
		shared:         &b.shared,
		server:         b.server,
		door:           door,
		receiveMaximum: int(o.ReceiveMaximum),
	}
	if err := b.serve(h); err != nil {
		b.giveUp()
		return nil, fmt.Errorf("mqtt: %w", err)
	}
	return b, nil
}

// listen takes all addresses, or none.
func (b *Broker) listen(o Options) error {
	for _, of := range o.Listeners {
		l, err := listen(of, o, &b.shared)
		if err != nil {
			b.giveUp()
			return err
		}
		b.listeners = append(b.listeners, l)
	}
	return nil
}

func (b *Broker) giveUp() {
	for _, l := range b.listeners {
		_ = l.tcp.Close()
	}
}

func (b *Broker) serve(h *hook) error {
	if err := b.server.AddHook(h, nil); err != nil {
		return err
	}
	for _, l := range b.listeners {
		if err := b.server.AddListener(l); err != nil {
			return err
		}
	}
	return b.server.Serve()
}

// Addr is the address of the first listener.
func (b *Broker) Addr() net.Addr { return b.listeners[0].tcp.Addr() }

// URLs are those of the listeners, in their order: mqtt, mqtts, ws or wss, with
// host and port.
func (b *Broker) URLs() []string {
	var urls []string
	for _, l := range b.listeners {
		urls = append(urls, l.ID())
	}
	return urls
}

// Disconnect closes the connection of a client, if there is one, telling MQTT 5
// that an operator did. It does not block.
func (b *Broker) Disconnect(id string) {
	// Those who arrive first: one that becomes a client meanwhile is found below.
	var arriving []*connection
	b.shared.arriving.Range(func(c, as any) bool {
		if as == id {
			arriving = append(arriving, c.(*connection))
		}
		return true
	})
	var known *connection
	if client, ok := b.shared.present.Load(id); ok {
		cl := client.(*mqtt.Client)
		known = connectionOf(cl)
		go func() {
			known.hurry()
			_ = b.server.DisconnectClient(cl, packets.ErrAdministrativeAction)
		}()
	}
	for _, c := range arriving {
		if c != known {
			_ = c.socket.Close()
		}
	}
}

// Connections is how many connections are open.
func (b *Broker) Connections() int {
	n := 0
	for _, l := range b.listeners {
		n += l.size()
	}
	return n
}

// InFlight is how many messages are being decided, and their packets' size in
// bytes.
func (b *Broker) InFlight() (messages int, bytes int64) {
	return int(b.shared.inFlight.messages.Load()), b.shared.inFlight.bytes.Load()
}

// TurnedAway is how many connections were refused as Unavailable.
func (b *Broker) TurnedAway() uint64 { return b.shared.turnedAway.Load() }

// Crowded is how many connections were refused because too many were open: in
// all, or of one address.
func (b *Broker) Crowded() (all, address uint64) {
	return b.shared.full.Load(), b.shared.crowded.Load()
}

// Panics is how many connections were closed because handling their packet
// panicked.
func (b *Broker) Panics() uint64 { return b.shared.panics.Load() }

// HandshakesFailed is how many TLS handshakes failed.
func (b *Broker) HandshakesFailed() uint64 { return b.shared.handshakesFailed.Load() }

// Close tells MQTT 5 clients to use another server, closes every connection and
// waits until their goroutines have ended, or until ctx is done. What is being
// decided is not answered any more; Drain before it lets that finish.
// It may be called again.
func (b *Broker) Close(ctx context.Context) error {
	defer b.shared.sampled.Tell()
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
