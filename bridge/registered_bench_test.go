//go:build unix

package bridge_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/engine"
	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/bridge/verify"
)

// one is a directory that holds a single device and costs next to nothing.
type one struct{ device *verify.Device }

func (o one) Device(id string) (*verify.Device, bool) { return o.device, id == o.device.ID }

// BenchmarkCheckRegistered measures the checks against a registry of 100,000
// devices beside the same checks against a directory of one, in interleaved
// rounds of one session each, and reports the ratio of the medians' times.
func BenchmarkCheckRegistered(b *testing.B) {
	r := openLarge(b, 100_000)
	credentials, err := r.Credentials("w-050000")
	if err != nil {
		b.Fatal(err)
	}
	device, _ := r.Device(credentials.DeviceID)
	payloads := signedReadings(b, credentials, 1000)
	round := func(d verify.Directory) float64 {
		v, err := verify.New(verify.Config{Topic: "wearables/{device_id}/vitals", MaxAge: time.Hour}, d, verify.Trusted(time.Now))
		if err != nil {
			b.Fatal(err)
		}
		session := v.Session(credentials.DeviceID)
		began := time.Now()
		for _, p := range payloads {
			if verdict := session.Check(credentials.Topic, p); verdict.Outcome != verify.Accepted {
				b.Fatal(verdict.Outcome, verdict.Reason)
			}
		}
		return float64(time.Since(began).Nanoseconds()) / float64(len(payloads))
	}
	var large, small []float64
	for b.Loop() {
		large, small = append(large, round(r)), append(small, round(one{device}))
	}
	b.ReportMetric(median(large), "registered-ns")
	b.ReportMetric(median(small), "alone-ns")
	b.ReportMetric(median(large)/median(small), "registered/alone")
	b.ReportMetric(0, "ns/op")
}

// openLarge opens a registry of so many devices, all copies of one but for
// their ids.
func openLarge(b *testing.B, devices int) *registry.Registry {
	b.Helper()
	e, err := engine.Open(b.Context(), engine.Options{Dir: b.TempDir(), Listen: "127.0.0.1:0", Sync: "2m", Log: zerolog.Nop()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = e.Close() })
	bucket, err := egress.Ensure(b.Context(), e.Conn(), egress.Layout{
		Vitals: egress.Limits{MaxBytes: 1 << 20}, Rejections: egress.Limits{MaxBytes: 1 << 20},
		Audit: egress.Limits{MaxBytes: 1 << 20}, Devices: egress.Limits{MaxBytes: 1 << 30},
		Replicas: 1, DuplicateWindow: 2 * time.Minute,
	})
	if err != nil {
		b.Fatal(err)
	}
	js, err := jetstream.New(e.Conn())
	if err != nil {
		b.Fatal(err)
	}
	now := time.Now().UTC()
	for i := range devices {
		id := fmt.Sprintf("w-%06d", i)
		value, err := json.Marshal(registry.Entry{
			Kind: registry.KindDevice, ID: id, State: registry.Active, Enrolment: fmt.Sprintf("%032x", i), Master: "1",
			Keys:        []registry.KeyEntry{{Generation: 1, Master: "1", From: now}},
			Assignments: []registry.Assignment{{PatientID: fmt.Sprintf("p-%06d", i), From: now}}, Added: now, Changed: now,
		})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := js.PublishAsync("$KV.devices."+id, value); err != nil {
			b.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	masters, err := registry.ParseMasters([]byte(fmt.Sprintf("%064x", 1)))
	if err != nil {
		b.Fatal(err)
	}
	r, err := registry.Open(b.Context(), e.Conn(), bucket, masters, registry.Options{
		Topic: func(id string) string { return verify.DeviceTopic("wearables/{device_id}/vitals", id) },
		Now:   time.Now, Log: zerolog.Nop(),
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = r.Close() })
	return r
}
