package egress_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/bridge/egress"
)

// BenchmarkLookup searches a stream of 200,000 readings of 1,000 devices for one
// device's minute: where it sent one reading a second, and where it sent none.
func BenchmarkLookup(b *testing.B) {
	if testing.Short() {
		b.Skip("SKIPPED: filling the stream takes some seconds")
	}
	const readings, devices = 200_000, 1000
	d := openDepot(b)
	l := depotLayout()
	l.Vitals.MaxBytes, l.Republish = 200<<20, false
	d.ensure(b, l)
	s := d.keeper(b, 60*time.Second, lateOptionsFor(60*time.Second))
	slots := make(chan struct{}, 1000)
	var all sync.WaitGroup
	for n := range readings {
		r := record(n)
		r.Device = fmt.Sprintf("w-%d", n%devices)
		r.Payload = fmt.Appendf(r.Payload, "%150s", " ")
		slots <- struct{}{}
		all.Add(1)
		s.Publish(r, func(_ egress.Confirmation, err error) {
			if err != nil {
				b.Error(err)
			}
			<-slots
			all.Done()
		})
	}
	all.Wait()
	for name, c := range map[string]struct {
		ago  time.Duration
		want int
	}{"sent": {0, readings / devices}, "silent": {time.Hour, 0}} {
		b.Run(name, func(b *testing.B) {
			for n := range b.N {
				got, err := s.LookUp(soon(b), "p-1", fmt.Sprintf("w-%d", n%devices), time.Now().Add(-c.ago))
				if err != nil || got != c.want {
					b.Fatalf("%d found, want %d: %v", got, c.want, err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/1000, "ms/look-up")
		})
	}
}
