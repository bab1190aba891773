package egress_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/verify"
)

func TestFills(t *testing.T) {
	d := openDepot(t)
	d.ensure(t, depotLayout())
	s := d.store(t, time.Second)
	for range 3 {
		s.Reject(egress.Rejection{Outcome: verify.Malformed})
	}
	d.first(t, "REJECTIONS", 3)
	all, err := s.Fills(soon(t))
	need(t, err)
	var names []string
	for _, f := range all {
		names = append(names, f.Stream)
		want := egress.Fill{Stream: f.Stream, Limit: 16 << 20, Replicas: 1, Current: 1}
		switch f.Stream {
		case "REJECTIONS":
			want.Messages = 3
			if f.Bytes < 3 || f.Bytes > 3<<10 {
				t.Errorf("three messages take %d bytes", f.Bytes)
			}
			f.Bytes = 0
		case "KV_devices":
			want.Limit = 1 << 20
		}
		if f != want {
			t.Errorf("got %+v, want %+v", f, want)
		}
	}
	if want := []string{"VITALS", "REJECTIONS", "AUDIT", "KV_devices"}; !slices.Equal(names, want) {
		t.Errorf("the streams are %v, want %v", names, want)
	}
	d.stop()
	if _, err := s.Fills(soon(t)); err == nil {
		t.Error("the streams are seen while NATS is away")
	}
}

func TestServersThatHoldAStream(t *testing.T) {
	current, behind, gone := &jetstream.PeerInfo{Current: true}, &jetstream.PeerInfo{}, &jetstream.PeerInfo{Current: true, Offline: true}
	for want, cluster := range map[int]*jetstream.ClusterInfo{
		3: {Leader: "n0", Replicas: []*jetstream.PeerInfo{current, current}},
		2: {Leader: "n0", Replicas: []*jetstream.PeerInfo{current, behind}},
		1: {Leader: "n0", Replicas: []*jetstream.PeerInfo{gone, behind}},
		0: {Replicas: []*jetstream.PeerInfo{gone, gone}},
	} {
		f := egress.FillOf(&jetstream.StreamInfo{Config: jetstream.StreamConfig{Replicas: 3, MaxBytes: -1}, Cluster: cluster})
		if f.Current != want || f.Replicas != 3 || f.Limit != 0 {
			t.Errorf("got %+v, want %d of 3 servers", f, want)
		}
	}
}

// What cannot be published is counted: without NATS, and where too many wait.
func TestDroppedEventsAreCounted(t *testing.T) {
	d := openDepot(t)
	d.ensure(t, depotLayout())
	s := d.store(t, time.Second)
	d.stop()
	eventually(t, func() error {
		if d.nc.IsConnected() {
			return errors.New("still connected")
		}
		return nil
	})
	s.Reject(egress.Rejection{Outcome: verify.Malformed})
	s.Audit("test", struct{}{})
	counted := func(wantRejections, wantAudits uint64) {
		t.Helper()
		eventually(t, func() error {
			if rejections, audits := s.Dropped(); rejections != wantRejections || audits != wantAudits {
				return errors.New("the events that were dropped are not counted")
			}
			return nil
		})
	}
	counted(1, 1)
	need(t, s.Close(context.Background())) // from here on nobody publishes
	for range egress.EventsWaiting + 5 {
		s.Reject(egress.Rejection{Outcome: verify.Malformed})
	}
	for range egress.AuditsWaiting + 7 {
		s.Audit("test", struct{}{})
	}
	counted(1+5, 1+7)
}
