//go:build unix

package bridge_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/device-sim/load"
)

// TestFlood is the benchmarks of floods in small, and all at once: forgers, half
// open connections and slow writers beside honest devices, whose readings must
// all be stored, and nothing else.
func TestFlood(t *testing.T) {
	t.Parallel()
	const devices, rate = 16, 200
	s := start(t, limited(t, func(l *config.Limits) { l.LockoutAfter = 1_000_000 }))
	var credentials []registry.Credentials
	for i := range 2 * devices {
		credentials = append(credentials, s.enrol(t, fmt.Sprintf("w-%04d", i), fmt.Sprintf("p-%04d", i)).Credentials)
	}
	all := besiegedAt(t, s.dir, s.MQTT(), credentials)
	crowd := job{Crowd: &load.Crowd{Broker: s.MQTT(), HalfOpen: 300, SlowWriters: 30}}.start(t).begun()
	flood := job{Flood: &load.Options{Broker: s.MQTT(), InFlight: forgedInFlight, Lanes: all.forgeries(forgedInFlight)}}.start(t).begun()
	all.paced(rate, time.Second)
	flooded := flood.stop().Flooded
	if flooded.Answered == 0 || flooded.LetIn != devices {
		t.Errorf("the flood came to %+v", flooded)
	}
	if refused := s.decided(t, "bad_signature"); int64(refused) < flooded.Answered {
		t.Errorf("%d forged readings were refused, %d answered", refused, flooded.Answered)
	}
	if opened := crowd.stop().Opened; opened < 330 {
		t.Errorf("%d connections of the crowd", opened)
	}
}

// TestForgersSlowEachOtherDown lets two forgers share what may be forged in all,
// and an honest device at their address pay nothing for it.
func TestForgersSlowEachOtherDown(t *testing.T) {
	t.Parallel()
	const rate, each, batches = 32, 48, 6 // of 16 messages
	s := start(t, limited(t, func(l *config.Limits) { l.ForgedRate = rate; l.LockoutAfter = 1000 }))
	victim := s.enrol(t, "w-0001", "p-0001")
	forged := tampered(victim.sign(t))
	var forgers sync.WaitGroup
	for i := range 2 {
		f := s.dial(t, s.enrol(t, fmt.Sprintf("w-066%d", i), fmt.Sprintf("p-066%d", i)), 5)
		forgers.Go(func() {
			if codes := send(f, victim.Topic, slicesOf(forged, each)); codes[0x87] != each {
				t.Errorf("forged: %v", codes)
			}
		})
	}
	c := s.dial(t, victim, 5)
	if codes := send(c, victim.Topic, victim.readings(t, 10*each)); codes[0] != 10*each {
		t.Errorf("the victim's own: %v", codes)
	}
	forgers.Wait()
	if n := s.counted(t, slowed); n == 0 || n > batches {
		t.Errorf("slowed down %d times", n)
	}
	if n := s.decided(t, "bad_signature"); n != 2*each {
		t.Errorf("%d were refused as forged", n)
	}
}
