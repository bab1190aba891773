package ingress_test

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/pulsegate/pulsegate/bridge/ingress"
	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
)

func TestAPacketThatPanicsMochiEndsOnlyItsConnection(t *testing.T) {
	t.Parallel()
	b := open(t, nil)
	other := b.connect(t, 5, "w-1")
	other.Send(publish(1, 1))
	open := b.next(t)
	for range 3 {
		c := b.connect(t, 5, "w-2")
		c.SendRaw([]byte{0x82, 6, 0, 1, 0, 0, 1, 'a'}) // a filter without its options
		if bye := c.Expect(packets.Disconnect); bye.ReasonCode != 0x81 {
			t.Errorf("DISCONNECT %#x, want 0x81", bye.ReasonCode)
		}
		c.ExpectEnd()
	}
	other.Ping()
	open.done(accepted)
	other.ExpectBytes(0x40, 2, 0, 1)
	again := b.connect(t, 5, "w-2")
	again.Send(publish(1, 1))
	b.next(t).done(accepted)
	again.ExpectBytes(0x40, 2, 0, 1)
}

// What else may panic on a connection's goroutine ends no more than that.
func TestAPanicEndsOnlyItsConnection(t *testing.T) {
	t.Parallel()
	b := open(t, nil)
	other := b.connect(t, 4, "w-1")
	b.settle = func(c call) {
		if c.connection.ClientID != "w-1" {
			panic("a fault of the gate's own")
		}
		c.done(accepted)
	}
	for range 3 {
		c := b.connect(t, 5, "w-2")
		c.Send(publish(1, 1))
		if bye, err := c.Next(); err == nil { // it may be told to come again, or not
			if bye.FixedHeader.Type != packets.Disconnect || bye.ReasonCode != 0x89 {
				t.Errorf("%x, want DISCONNECT 0x89", bye.Raw)
			}
			c.ExpectEnd()
		}
	}
	other.Send(publish(1, 1))
	other.ExpectBytes(0x40, 2, 0, 1)
	until(t, "only one is open", func() bool { return b.Connections() == 1 })
	if n := b.Panics(); n != 3 {
		t.Errorf("%d panics are counted", n)
	}
	if n, bytes := b.InFlight(); n != 0 || bytes != 0 {
		t.Errorf("%d messages of %d bytes have kept their places", n, bytes)
	}
	if text := b.log.String(); !strings.Contains(text, `"level":"error"`) || strings.Contains(text, "payload") {
		t.Errorf("the log says\n%s", text)
	}
}

func TestAPeerMustConnectInTime(t *testing.T) {
	t.Parallel()
	b := open(t, func(o *ingress.Options) { o.ConnectDeadline = 5 * soon })
	silent, slow := b.dial(t, 5), b.dial(t, 4)
	slow.SendRaw([]byte{0x10, 20, 0, 4, 'M', 'Q'})
	early := b.connect(t, 5, "w-1")
	silent.ExpectEnd()
	slow.ExpectEnd()
	early.Ping() // the deadline was CONNECT's alone
}

func TestCloseWithSilentConnections(t *testing.T) {
	t.Parallel()
	b := open(t, nil)
	clients := []*mqttest.Client{b.dial(t, 4), b.dial(t, 5), b.connect(t, 4, "w-1"), b.connect(t, 5, "w-2")}
	clients[3].Send(publish(1, 1))
	b.next(t) // and is never settled
	ctx, cancel := context.WithTimeout(t.Context(), mqttest.Patience/2)
	defer cancel()
	if err := b.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if bye := clients[3].Expect(packets.Disconnect); bye.ReasonCode != 0x9C {
		t.Errorf("DISCONNECT %#x, want 0x9c", bye.ReasonCode)
	}
	for _, c := range clients {
		c.ExpectEnd()
	}
	if n := b.Connections(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
	if err := b.Close(ctx); err != nil {
		t.Errorf("the second time: %v", err)
	}
}

func TestCloseWithOneWhoReadsNothing(t *testing.T) {
	t.Parallel()
	handled := make(chan string, 1<<16)
	b := open(t, func(o *ingress.Options) { o.ReceiveMaximum = 2 })
	b.settle = func(c call) {
		handled <- c.connection.ClientID
		c.done(ingress.Disposition{Outcome: rejected.Outcome, Reason: strings.Repeat("x", 60_000)})
	}
	c := b.connect(t, 5, "w-1")
	go func() {
		for c.TrySend(publish(1, 1)) == nil {
		}
	}()
	awaitQuiet(t, handled)
	b.shut(t)
}

func TestConnectionsComeAndGoWhileItCloses(t *testing.T) {
	t.Parallel()
	b := open(t, nil)
	stop := make(chan struct{})
	ended := make(chan struct{})
	for range 4 {
		go func() {
			defer func() { ended <- struct{}{} }()
			for {
				select {
				case <-stop:
					return
				default:
				}
				conn, err := net.Dial("tcp", b.Addr().String())
				if err != nil {
					return // the listener is closed
				}
				_, _ = conn.Write([]byte{0x10, 15, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, 3, 'w', '-', '1'})
				_ = conn.Close()
			}
		}()
	}
	for len(b.admitted()) < 50 {
		runtime.Gosched()
	}
	b.shut(t)
	close(stop)
	for range 4 {
		<-ended
	}
}

func TestTooManyConnections(t *testing.T) {
	t.Parallel()
	b := open(t, func(o *ingress.Options) { o.MaxConnections = 2 })
	first := b.connect(t, 5, "w-1")
	b.connect(t, 5, "w-2")
	b.dial(t, 5).ExpectEnd()
	first.Close()
	for b.Connections() == 2 {
		runtime.Gosched()
	}
	b.connect(t, 5, "w-3")
}

// One who is cut off just after the door let him in must not slip through.
func TestDisconnectedOnTheDoorstep(t *testing.T) {
	t.Parallel()
	b := open(t, nil)
	b.meet = func(c ingress.Connection) { b.Disconnect(c.ClientID) }
	c := b.dial(t, 5)
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}}
	pk.Connect.ProtocolName, pk.Connect.ClientIdentifier, pk.Connect.Clean = []byte("MQTT"), "w-1", true
	c.Send(pk)
	for {
		answer, err := c.Next()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("the connection stays open")
		}
		if err != nil {
			return
		}
		t.Logf("on the way out it is sent %x", answer.Raw)
	}
}

func TestAPacketThatIsTooLarge(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, version byte) {
		b := open(t, nil)
		c := b.connect(t, version, "w-1")
		large := publish(1, 1)
		large.Payload = make([]byte, 16_000)
		c.Send(large)
		b.next(t).done(rejected)
		c.Expect(packets.Puback)

		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		c.SendRaw([]byte{0x32, 0xff, 0xff, 0xff, 0x7f}) // 256 MiB are announced
		if version == 5 {
			if bye := c.Expect(packets.Disconnect); bye.ReasonCode != 0x95 {
				t.Errorf("DISCONNECT %#x, want 0x95", bye.ReasonCode)
			}
		}
		c.ExpectEnd()
		if m := b.next(t); m.Form != ingress.Oversize {
			t.Errorf("the handler hears of form %d", m.Form)
		}
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 16<<20 {
			t.Errorf("%d bytes were allocated for it", grown)
		}
	})
}

// A peer's keep alive must not cut off the answer to what it sent in time.
func TestAnAnswerLaterThanTheKeepAlive(t *testing.T) {
	t.Parallel()
	b := open(t, func(o *ingress.Options) { o.ReceiveMaximum = 1 })
	c := b.connect(t, 5, "w-1", func(pk *packets.Packet) { pk.Connect.Keepalive = 1 })
	c.Send(publishes(1, 2)...) // the second is waiting, so that nothing is read
	first := b.next(t)
	b.quietFor(t, 1500*time.Millisecond) // longer than the keep alive and half of it
	first.done(accepted)
	c.ExpectBytes(0x40, 2, 0, 1)
	b.next(t).done(accepted)
	c.ExpectBytes(0x40, 2, 0, 2)
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	at := func(address string) []ingress.Listener {
		return []ingress.Listener{{Address: "127.0.0.1:0"}, {Address: address, Setting: "--mqtt-listen"}}
	}
	good := ingress.Options{Listeners: at("127.0.0.1:0"), MaxConnections: 1, ReceiveMaximum: 1, InFlight: 1, InFlightBytes: 16 << 10}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	for want, change := range map[string]func(*ingress.Options){
		"no listener":         func(o *ingress.Options) { o.Listeners = nil },
		"receive maximum":     func(o *ingress.Options) { o.ReceiveMaximum = 0 },
		"in flight":           func(o *ingress.Options) { o.InFlight = 0 },
		"in flight bytes":     func(o *ingress.Options) { o.InFlightBytes-- },
		"maximum connections": func(o *ingress.Options) { o.MaxConnections = 0 },
		"per address":         func(o *ingress.Options) { o.MaxConnectionsPerAddress = -1 },
		"--mqtt-listen":       func(o *ingress.Options) { o.Listeners = at(taken.Addr().String()) },
		"cannot listen":       func(o *ingress.Options) { o.Listeners = at("nowhere") },
	} {
		o := good
		change(&o)
		_, err := ingress.Open(o, &script{})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v: want one line with %q", err, want)
		}
	}
}
