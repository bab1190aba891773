package egress_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pulsegate/pulsegate/bridge/egress"
)

// TestCopiesAreFoundFromEveryNode stores readings in a stream of three replicas,
// changes its leader, and sends copies by way of leader and followers.
func TestCopiesAreFoundFromEveryNode(t *testing.T) {
	var nodes []*depot
	for _, nc := range startThree(t) {
		js, err := jetstream.New(nc)
		need(t, err)
		nodes = append(nodes, &depot{nc: nc, js: js})
	}
	d, l := nodes[0], forgetful()
	l.Replicas, l.Consumers = 3, nil
	eventually(t, func() error {
		ctx, cancel := context.WithTimeout(soon(t), 2*time.Second)
		defer cancel()
		_, err := egress.Ensure(ctx, d.nc, l)
		return err
	})
	k := d.keeper(t, 25*time.Second, lateOptions())
	live, late := at(0, time.Now()), at(1, anHourAgo())
	if a := publish(t, k.Store, live); a.err != nil {
		t.Fatal(a.err)
	}
	if a := publishLate(t, k.Store, late); a.err != nil || a.Duplicate {
		t.Fatalf("answer %+v", a)
	}
	d.forgets(t)
	_, err := d.nc.RequestWithContext(soon(t), "$JS.API.STREAM.LEADER.STEPDOWN.VITALS", nil)
	need(t, err)
	for n, node := range nodes {
		k := node.keeper(t, 25*time.Second, lateOptions())
		k.forward(time.Hour)
		for sequence, r := range []egress.Record{live, late} {
			if a := publishLate(t, k.Store, r); a.err != nil || !a.Duplicate || a.Sequence != uint64(sequence)+1 {
				t.Errorf("by way of node %d: %+v, want a duplicate of %d", n, a, sequence+1)
			}
		}
	}
}
