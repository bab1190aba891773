package ingress_test

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"github.com/pulsegate/pulsegate/bridge/ingress"
	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
)

// FuzzBroker says anything to the broker, over TCP: as the first bytes of a
// connection, or after a CONNECT that is let in. Whatever it is, it is answered
// or the connection closed, nothing panics, and an honest client is still served.
func FuzzBroker(f *testing.F) {
	const first, after4, after5 = 0, 4, 5
	for _, r := range connectRules {
		f.Add(byte(first), wire(f, r.sends, r.versions[0]-'0'))
	}
	for _, r := range clientRules {
		for _, version := range []byte(r.versions) {
			f.Add(version-'0', wire(f, r.sends, version-'0'))
		}
	}
	b := open(f, func(o *ingress.Options) { o.Log = o.Log.Level(zerolog.WarnLevel) })
	b.settle = func(c call) {
		if len(c.Payload)%2 == 0 {
			c.done(accepted)
			return
		}
		go c.done(rejected)
	}
	// Kernels remember connections for a while after their end, and how many.
	pace := rate.NewLimiter(400, 400)
	honest := mqttest.Dial(f, b.Addr().String(), 5)
	if ack := honest.Connect("an honest client"); ack.ReasonCode != 0 {
		f.Fatalf("CONNACK %x", ack.Raw)
	}
	f.Fuzz(func(t *testing.T, as byte, said []byte) {
		switch as {
		case first, after4, after5:
		default:
			t.Skip("nobody begins so")
		}
		_ = pace.Wait(t.Context())
		before := len(b.log.String())
		conn := b.anywhere(t)
		defer func() { _ = conn.Close() }()
		if as != first {
			said = append(wire(t, "10 | 'MQTT' V 02 003c P 'w-1'", as), said...)
		}
		_, _ = conn.Write(said)
		_ = conn.CloseWrite()
		_ = conn.SetReadDeadline(time.Now().Add(mqttest.Patience))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("the connection stays open")
		}
		if err := honest.TrySend(publish(1, 1)); err != nil {
			t.Fatalf("an honest client cannot send: %v", err)
		}
		if ack, err := honest.Next(); err != nil {
			t.Fatalf("an honest client is not answered: %x, %v", ack.Raw, err)
		}
		if text := b.log.String()[before:]; strings.Contains(text, `"level":"error"`) {
			t.Errorf("the log says\n%s", text)
		}
	})
}

// anywhere dials from one of many addresses, of which none runs out of ports.
func (b *broker) anywhere(t *testing.T) *net.TCPConn {
	t.Helper()
	from := &net.TCPAddr{IP: net.IPv4(127, byte(rand.N(250)), byte(rand.N(250)), byte(1+rand.N(250)))}
	conn, err := net.DialTCP("tcp", from, b.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}
