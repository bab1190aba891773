package registry_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pulsegate/pulsegate/bridge/registry"
)

// fleet writes entries of devices into the bucket, as they are after an import.
func (s *site) fleet(t testing.TB, r *registry.Registry, devices int) {
	t.Helper()
	enrol(t, r, device("w-000000"))
	stored, err := s.bucket.Get(within(t), "w-000000")
	must(t, err)
	js, err := jetstream.New(s.nc, jetstream.WithPublishAsyncMaxPending(devices))
	must(t, err)
	for n := 1; n < devices; n++ {
		id := fmt.Sprintf("w-%06d", n)
		_, err := js.PublishAsync("$KV.devices."+id, bytes.ReplaceAll(stored.Value(), []byte("w-000000"), []byte(id)))
		must(t, err)
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(time.Minute):
		t.Fatal("the entries cannot be stored")
	}
}

// TestALargeFleet loads 100,000 devices, and shows that only so many of them
// have their keys derived at once.
func TestALargeFleet(t *testing.T) {
	if testing.Short() || registry.Racing {
		t.Skip("100,000 devices take some seconds, and many under the race detector")
	}
	const devices, touched = 100_000, 20_000
	s := newSite(t)
	first := s.replica(t)
	s.fleet(t, first, devices)
	must(t, first.Close())
	start := time.Now()
	r := s.replica(t)
	took := time.Since(start)
	t.Logf("%d devices are loaded in %v", r.Size(), took)
	if r.Size() != devices || took > 20*time.Second {
		t.Errorf("%d devices are loaded in %v", r.Size(), took)
	}
	for range 2 {
		for n := range touched {
			id := fmt.Sprintf("w-%06d", n)
			if d, known := r.Device(id); !known || d.ID != id || len(d.Keys) != 1 {
				t.Fatalf("%s is served as %+v", id, d)
			}
		}
		if derived := r.Derived(); derived != registry.Cached {
			t.Errorf("%d devices have their keys derived, want %d", derived, registry.Cached)
		}
	}
	one, _ := r.Device("w-019999")
	if again, _ := r.Device("w-019999"); again != one {
		t.Error("the device that was used last is derived again")
	}
}
