package ingress_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/pulsegate/pulsegate/bridge/ingress"
	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
)

// drain begins to, and returns what is closed when it has ended.
func (b *broker) drain(t *testing.T, limit time.Duration) <-chan struct{} {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	drained := make(chan struct{})
	go func() {
		b.Drain(ctx)
		close(drained)
	}()
	until(t, "nobody is accepted", func() bool {
		conn, err := net.Dial("tcp", b.Addr().String())
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	return drained
}

func ended(t *testing.T, drained <-chan struct{}) {
	t.Helper()
	select {
	case <-drained:
	case <-time.After(mqttest.Patience / 2):
		t.Fatal("draining does not end")
	}
}

func goodbye(t *testing.T, c *mqttest.Client) {
	t.Helper()
	if c.Version == 5 {
		if bye := c.Expect(packets.Disconnect); bye.ReasonCode != 0x9C {
			t.Errorf("DISCONNECT %#x, want 0x9c", bye.ReasonCode)
		}
	}
	c.ExpectEnd()
}

func TestDrainAnswersWhatIsInFlight(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, version byte) {
		b := open(t, nil)
		c := b.connect(t, version, "w-1")
		c.Send(publish(9, 2))
		b.next(t).done(accepted)
		c.ExpectBytes(0x50, 2, 0, 9)
		c.Send(publishes(1, 3)...)
		calls := b.take(t, 3)
		drained := b.drain(t, time.Minute)
		c.Ping() // what is open is still served
		c.Send(mqttest.Pubrel(9))
		c.ExpectBytes(0x70, 2, 0, 9)
		c.Send(publish(4, 1), publish(0, 0), publish(5, 2))
		c.Ping() // they have been read
		if len(b.calls) > 0 {
			t.Errorf("%d messages were taken while draining", len(b.calls))
		}
		calls[2].done(rejected)
		calls[1].done(accepted)
		select {
		case <-drained:
			t.Error("draining ended with a message undecided")
		case <-time.After(soon):
		}
		calls[0].done(accepted)
		for id := uint16(1); id <= 3; id++ {
			if ack := c.Expect(packets.Puback); ack.PacketID != id {
				t.Errorf("PUBACK %d in place of %d", ack.PacketID, id)
			}
		}
		ended(t, drained)
		c.Ping()
		b.shut(t)
		goodbye(t, c)
	})
}

// What cannot be decided is left unacknowledged when the time is over.
func TestDrainGivesUp(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, version byte) {
		b := open(t, nil)
		c := b.connect(t, version, "w-1")
		c.Send(publishes(1, 2)...)
		calls := b.take(t, 2)
		calls[1].done(accepted) // behind one that is not
		ended(t, b.drain(t, 2*soon))
		b.shut(t)
		goodbye(t, c)
		calls[0].done(accepted)
		if !strings.Contains(b.log.String(), `"undecided":1`) {
			t.Errorf("the log does not say what was left:\n%s", b.log)
		}
	})
}

// A store that fails while draining ends that connection, and no other.
func TestDrainWithAFailedStore(t *testing.T) {
	t.Parallel()
	b := open(t, nil)
	unlucky, other := b.connect(t, 4, "w-1"), b.connect(t, 5, "w-2")
	unlucky.Send(publish(1, 1))
	failing := b.next(t)
	other.Send(publish(1, 1))
	stored := b.next(t)
	drained := b.drain(t, time.Minute)
	failing.done(failed)
	unlucky.ExpectEnd()
	stored.done(accepted)
	other.ExpectBytes(0x40, 2, 0, 1)
	ended(t, drained)
}

// What waits at a bound has not been taken yet.
func TestDrainTakesNobodyFromTheLine(t *testing.T) {
	t.Parallel()
	b := open(t, func(o *ingress.Options) { o.InFlight, o.ReceiveMaximum = 2, 2 })
	first, second := b.connect(t, 4, "w-1"), b.connect(t, 5, "w-2")
	first.Send(publishes(1, 3)...) // the third waits for its connection's bound
	calls := b.take(t, 2)
	second.Send(publish(1, 1)) // waits for that of all
	b.quiet(t)
	drained := b.drain(t, time.Minute)
	second.Ping()
	for i, c := range calls {
		c.done(accepted)
		first.ExpectBytes(0x40, 2, 0, byte(i+1))
	}
	ended(t, drained)
	first.Ping()
	if len(b.calls) > 0 {
		t.Errorf("%d messages were taken while draining", len(b.calls))
	}
}

// Neither peers that never say a word nor one that reads none of its
// acknowledgements hold the others up.
func TestDrainWithSilentAndStalledPeers(t *testing.T) {
	t.Parallel()
	handled := make(chan string, 1<<16)
	b := open(t, func(o *ingress.Options) { o.ReceiveMaximum = 2 })
	b.settle = func(c call) {
		handled <- c.connection.ClientID
		c.done(ingress.Disposition{Outcome: rejected.Outcome, Reason: strings.Repeat("x", 60_000)})
	}
	b.dial(t, 5)
	b.dial(t, 4).SendRaw([]byte{0x10, 20, 0, 4, 'M', 'Q'})
	idle, stalled := b.connect(t, 5, "w-1"), b.connect(t, 5, "w-2")
	go func() {
		for stalled.TrySend(publish(1, 1)) == nil {
		}
	}()
	awaitQuiet(t, handled)
	ended(t, b.drain(t, time.Minute))
	idle.Ping()
}

// Who was accepted but had not said CONNECT goes elsewhere.
func TestDrainRefusesNewcomers(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, version byte) {
		b := open(t, nil)
		first, newcomer := b.connect(t, version, "w-1"), b.dial(t, version)
		first.Send(publish(1, 1))
		stored := b.next(t)
		drained := b.drain(t, time.Minute)
		if ack, want := newcomer.Connect("w-2", mqttest.Login("w-2", "a password")), map[byte]byte{4: 3, 5: 0x88}[version]; ack.ReasonCode != want {
			t.Errorf("CONNACK %#x, want %#x", ack.ReasonCode, want)
		}
		newcomer.ExpectEnd()
		if n := b.TurnedAway(); n != 1 {
			t.Errorf("%d were turned away, want 1", n)
		}
		stored.done(accepted)
		first.ExpectBytes(0x40, 2, 0, 1)
		ended(t, drained)
	})
}
