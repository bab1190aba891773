package source_test

import (
	"context"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
	"github.com/pulsegate/pulsegate/bridge/ingress/source"
	"github.com/pulsegate/pulsegate/bridge/ingress/source/mosquittest"
)

// network carries connections to a broker until it is told to stop, without
// closing one.
type network struct {
	net.Listener
	silence func()
}

func startNetwork(t *testing.T, to string) *network {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	silent := make(chan struct{})
	n := &network{l, sync.OnceFunc(func() { close(silent) })}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				_ = near.Close()
				continue
			}
			t.Cleanup(func() { _, _ = near.Close(), far.Close() })
			go carry(near, far, silent)
			go carry(far, near, silent)
		}
	}()
	return n
}

func carry(to, from net.Conn, silent <-chan struct{}) {
	buffer := make([]byte, 1<<16)
	for {
		n, err := from.Read(buffer)
		select {
		case <-silent:
			return
		default:
		}
		if err == nil {
			_, err = to.Write(buffer[:n])
		}
		if err != nil {
			_ = to.Close()
			return
		}
	}
}

// A broker that has gone silent does not keep the source from ending, whether
// something is in flight or not.
func TestCloseWhileTheBrokerIsSilent(t *testing.T) {
	t.Parallel()
	for _, inFlight := range []int{0, 1} {
		b := mosquittest.Start(t)
		n := startNetwork(t, b.Address)
		g := start(t, func(o *source.Options) { o.Brokers = []string{"mqtt://" + n.Addr().String()} })
		g.connected(t)
		if inFlight > 0 {
			b.Publisher(t, "w-1").Publish(topic, []byte("1"))
			g.next(t)
		}
		n.silence()
		limit := soon
		if inFlight == 0 {
			limit = mqttest.Patience
		}
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		ends(t, g, ctx)
		if inFlight == 0 && ctx.Err() != nil {
			t.Error("it waited for nothing")
		}
	}
}

// A source that ends while paho waits for room leaves nothing running.
func TestNothingIsLeftRunning(t *testing.T) { // alone, since it counts goroutines
	b := mosquittest.Start(t)
	device := b.Publisher(t, "w-1")
	before := runtime.NumGoroutine()
	g := open(t, b, func(o *source.Options) { o.InFlight = 1 })
	device.Publish(topic, payloads(numbers(1, 5)...)...)
	g.next(t)
	g.quiet(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ends(t, g, ctx)
	g.until(t, "rid of its goroutines", func() bool { return runtime.NumGoroutine() <= before })
}

// A source ends at once while it waits for a CONNACK or a SUBACK, too.
func TestCloseWhileNothingIsAnswered(t *testing.T) {
	t.Parallel()
	for _, answer := range [][]byte{nil, {0x20, 2, 0, 0}} {
		p := startPeer(t, answer)
		g := start(t, func(o *source.Options) { o.Brokers = []string{"mqtt://" + p.address} })
		p.await(t)
		ends(t, g, t.Context())
	}
}

// ends expects that the source does, in time.
func ends(t *testing.T, g *gate, ctx context.Context) {
	t.Helper()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		g.Close(ctx)
	}()
	select {
	case <-closed:
	case <-time.After(mqttest.Patience):
		t.Fatal("Close does not return")
	}
}

// peer answers each packet in turn with given bytes, and then with silence.
type peer struct {
	address string
	reached chan struct{}
}

func startPeer(t *testing.T, answers ...[]byte) *peer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	p := &peer{l.Addr().String(), make(chan struct{}, 1)}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				buffer := make([]byte, 1<<12)
				for _, answer := range answers {
					if _, err := conn.Read(buffer); err != nil || answer == nil {
						break
					}
					_, _ = conn.Write(answer)
				}
				select {
				case p.reached <- struct{}{}:
				default:
				}
				_, _ = io.Copy(io.Discard, conn)
			}()
		}
	}()
	return p
}

func (p *peer) await(t *testing.T) {
	t.Helper()
	select {
	case <-p.reached:
	case <-time.After(mqttest.Patience):
		t.Fatal("nobody connects")
	}
}

// A broker that breaks the protocol ends its connection and nothing else.
func TestABrokerThatBreaksTheProtocol(t *testing.T) {
	t.Parallel()
	connack := []byte{0x20, 2, 0, 0}
	for want, answers := range map[string][][]byte{
		"SUBACK of 5 bytes for 1 filters": {connack, {0x90, 5, 0, 1, 1, 1, 1}},
		"SUBACK of 2 bytes for 1 filters": {connack, {0x90, 2, 0, 1}},
		"type 13 with 268435455 bytes":    {connack, {0xd0, 0xff, 0xff, 0xff, 0x7f}},
		"without an end to its length":    {connack, {0x30, 0xff, 0xff, 0xff, 0xff}},
		"unsupported packet type":         {connack, {0x00, 0}},
		"the connection was lost":         {{0x20, 2, 0, 0x87}}, // a code that paho takes for success
		"check user, password":            {{0x20, 2, 0, 4}},
		"give another client id":          {{0x20, 2, 0, 2}},
		"server Unavailable":              {{0x20, 2, 0, 3}},
		"payload length < 0":              {connack, {0x32, 5, 0, 2, 'a', 'b', 0}},
		"non-CONNACK first packet":        {{0xd0, 0}},
		"CONNACK":                         {{0x90, 3, 0, 1, 1}},
		"refused the subscription to":     {connack, {0x90, 3, 0, 1, 0x80}},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			p := startPeer(t, answers...)
			g := start(t, func(o *source.Options) { o.Brokers = []string{"mqtt://" + p.address} })
			g.broken(t, want)
		})
	}
}
