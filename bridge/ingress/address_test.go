package ingress_test

import (
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/pulsegate/pulsegate/bridge/ingress"
	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
)

// from dials from an address of this machine's.
func (b *broker) from(t *testing.T, address string, version byte) *mqttest.Client {
	t.Helper()
	return mqttest.DialWith(t, net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}, b.Addr().String(), version)
}

func TestAnAddressHasItsShare(t *testing.T) {
	t.Parallel()
	b := open(t, func(o *ingress.Options) { o.MaxConnectionsPerAddress = 2 })
	first := b.connect(t, 5, "w-1")
	stranger := b.dial(t, 4) // half-open ones count too
	until(t, "both are open", func() bool { return b.Connections() == 2 })
	second := b.connect(t, 5, "w-0")
	stranger.ExpectEnd() // and are the first to go
	b.dial(t, 5).ExpectEnd()
	other := b.from(t, "127.0.0.2", 5)
	if ack := other.Connect("w-2"); ack.ReasonCode != 0 {
		t.Errorf("another address is refused: CONNACK %x", ack.Raw)
	}
	first.Close()
	until(t, "the place is free", func() bool { return b.Connections() == 2 })
	b.connect(t, 5, "w-3")
	second.Ping()
	if all, address := b.Crowded(); all != 0 || address != 2 {
		t.Errorf("refused are %d for all and %d for the address, want 0 and 2", all, address)
	}
}

// TestWhoSaysNothingKeepsNobodyOut opens more silent connections than may be, in
// all and of one address, and goes on doing so while a device behind the same
// address connects.
func TestWhoSaysNothingKeepsNobodyOut(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*ingress.Options){
		"all":     func(o *ingress.Options) { o.MaxConnections = 20 },
		"address": func(o *ingress.Options) { o.MaxConnectionsPerAddress = 20 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := open(t, change)
			early := b.connect(t, 5, "w-1")
			for i := range 60 {
				b.dial(t, 5)
				if i%20 == 19 {
					b.connect(t, 5, "w-2")
				}
			}
			until(t, "the others have been refused", func() bool {
				all, address := b.Crowded()
				return all+address >= 41 && b.Connections() <= 20
			})
			early.Ping()
			b.connect(t, 4, "w-3").Ping()
		})
	}
}

// A flood of refused connections is counted, and hardly logged.
func TestRefusedConnectionsAreCountedAndSampled(t *testing.T) {
	t.Parallel()
	for name, run := range map[string]struct {
		change       func(*ingress.Options)
		all, address uint64
	}{
		"all":     {func(o *ingress.Options) { o.MaxConnections = 1 }, 50, 0},
		"address": {func(o *ingress.Options) { o.MaxConnectionsPerAddress = 1 }, 0, 50},
	} {
		b := open(t, run.change)
		b.connect(t, 5, "w-1")
		for range 50 {
			b.dial(t, 5).ExpectEnd()
		}
		if all, address := b.Crowded(); all != run.all || address != run.address {
			t.Errorf("%s: refused are %d and %d, want %d and %d", name, all, address, run.all, run.address)
		}
		b.shut(t)
		if lines, of := b.log.lines(t, "a connection was refused"); lines < 2 || lines > 25 || of != 50 {
			t.Errorf("%s: %d lines stand for %d connections, want few for 50", name, lines, of)
		}
	}
}

func TestWhomAnAddressCountsFor(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"192.0.2.7:1":                  "192.0.2.7/32",
		"[::ffff:192.0.2.7]:2":         "192.0.2.7/32",
		"[2001:db8:1:2:3:4:5:6]:3":     "2001:db8:1:2::/64",
		"[2001:db8:1:2:ffff::1%eth]:4": "2001:db8:1:2::/64",
	} {
		a := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address))
		if got := ingress.Sender(a); got.String() != want {
			t.Errorf("%s counts for %s, want %s", address, got, want)
		}
	}
}

// tired is a listener that cannot accept for a while.
type tired struct {
	net.Listener
	failures atomic.Int32
}

func (l *tired) Accept() (net.Conn, error) {
	if l.failures.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

func TestAFailedAcceptIsTriedAgain(t *testing.T) {
	t.Parallel()
	for _, web := range []*ingress.WebSocket{nil, {}} {
		l := ingress.Listener{WebSocket: web}.OpenedBy(func(network, address string) (net.Listener, error) {
			tcp, err := net.Listen(network, address)
			l := &tired{Listener: tcp}
			l.failures.Store(6) // the pauses double: 10 ms to 320 ms
			return l, err
		})
		b := openAt(t, nil, l)
		conn := net.Conn(nil)
		if web != nil {
			conn = b.dialWeb(t, "ws", nil)
		} else {
			var err error
			if conn, err = net.Dial("tcp", b.Addr().String()); err != nil {
				t.Fatal(err)
			}
		}
		c := mqttest.Over(t, conn, 5)
		if ack := c.Connect("w-1"); ack.ReasonCode != 0 {
			t.Errorf("CONNACK %x", ack.Raw)
		}
		text := b.log.String()
		if n := strings.Count(text, "too many open files"); n < 1 || n > 5 {
			t.Errorf("%d lines for 6 failures:\n%s", n, text)
		}
	}
}

// It closes although accepting fails for ever.
func TestCloseWhileAcceptingFails(t *testing.T) {
	t.Parallel()
	l := ingress.Listener{}.OpenedBy(func(network, address string) (net.Listener, error) {
		tcp, err := net.Listen(network, address)
		l := &tired{Listener: tcp}
		l.failures.Store(1 << 30)
		return l, err
	})
	b := openAt(t, nil, l)
	until(t, "accepting fails", func() bool { return strings.Contains(b.log.String(), "too many open files") })
	b.shut(t)
}
