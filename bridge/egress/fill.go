package egress

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// Fill is how full a stream is, and by how many servers it is held.
type Fill struct {
	// Stream is its name.
	Stream string
	// Bytes of Limit are taken, by so many Messages.
	Bytes, Messages, Limit uint64
	// Replicas servers are to hold it, and Current do and are up to date.
	Replicas, Current int
}

// Fills asks JetStream how full each stream is, the registry's bucket included.
// It may block longer than ctx while NATS does not read.
func (s *Store) Fills(ctx context.Context) ([]Fill, error) {
	var all []Fill
	for _, name := range []string{StreamVitals, StreamRejections, StreamAudit, "KV_" + BucketDevices} {
		stream, err := s.js.Stream(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("asking for stream %s: %w", name, err)
		}
		all = append(all, fillOf(stream.CachedInfo()))
	}
	return all, nil
}

func fillOf(info *jetstream.StreamInfo) Fill {
	f := Fill{
		Stream: info.Config.Name, Bytes: info.State.Bytes, Messages: info.State.Msgs,
		Limit: uint64(max(info.Config.MaxBytes, 0)), Replicas: info.Config.Replicas, Current: 1,
	}
	if info.Cluster == nil { // a server alone
		return f
	}
	if info.Cluster.Leader == "" {
		f.Current = 0
	}
	for _, peer := range info.Cluster.Replicas {
		if peer.Current && !peer.Offline {
			f.Current++
		}
	}
	return f
}
