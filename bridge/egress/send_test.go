package egress_test

import (
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/reading"
)

// TestRevokedWhileNATSDoesNotRead publishes readings that wait a moment for the
// connection: one that does not stand any more by then is not stored.
func TestRevokedWhileNATSDoesNotRead(t *testing.T) {
	d := openDepot(t)
	d.ensure(t, depotLayout())
	line := &stalled{blocked: make(chan struct{}, 1), free: make(chan struct{})}
	nc, err := nats.Connect(d.nc.ConnectedUrl(), nats.SetCustomDialer(line))
	need(t, err)
	t.Cleanup(nc.Close)
	began, waited := time.Now(), atomic.Int64{}
	s, err := egress.NewStore(nc, egress.Options{
		Deadline: time.Minute, UnavailableAfter: time.Minute, Replica: "gate-1", Log: zerolog.Nop(),
		Now: func() time.Time { return began.Add(time.Duration(waited.Load())) },
	})
	need(t, err)
	t.Cleanup(func() { _ = s.Close(soon(t)) })
	need(t, nc.Flush())
	var revoked error
	publish := func(number byte, stands func() error) chan error {
		done := make(chan error, 1)
		s.Publish(egress.Record{Identity: reading.Identity{number}, Patient: "p-1", Device: "w-1", Payload: []byte("{}"), Received: began, Stands: stands},
			func(_ egress.Confirmation, err error) { done <- err })
		return done
	}
	valid := func() error { return nil }
	line.stall.Store(true)
	first := publish(1, valid)
	<-line.blocked
	second, third := publish(2, valid), publish(3, func() error { return revoked })
	revoked = errors.New("the device is revoked")
	waited.Store(int64(time.Second))
	close(line.free)
	need(t, <-first)
	need(t, <-second)
	if err := <-third; !errors.Is(err, egress.ErrWithdrawn) || !errors.Is(err, revoked) {
		t.Errorf("what was revoked while it waited: %v", err)
	}
}

// stalled dials a line on which writes wait, once they are to, until it is freed.
type stalled struct {
	stall   atomic.Bool
	blocked chan struct{}
	free    chan struct{}
}

func (s *stalled) Dial(network, address string) (net.Conn, error) {
	conn, err := net.Dial(network, address)
	return stalledConn{conn, s}, err
}

type stalledConn struct {
	net.Conn
	line *stalled
}

func (c stalledConn) Write(b []byte) (int, error) {
	if c.line.stall.Load() {
		select {
		case c.line.blocked <- struct{}{}:
		default:
		}
		<-c.line.free
	}
	return c.Conn.Write(b)
}
