package egress

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ServerTime returns the clock of the leader of the stream VITALS, as it was at
// a moment between call and return. By that clock JetStream remembers what is a
// duplicate. It costs one small request.
//
// The time is the member "ts" of the answer to STREAM.INFO, which nats-server
// sets when it answers, since 2.10. Only the leader answers; while there is none
// another replica may, whose clock rules nothing: that is an error. A leader that
// was cut off from the others answers until it notices, but stores nothing.
func ServerTime(ctx context.Context, nc *nats.Conn) (time.Time, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return time.Time{}, fmt.Errorf("jetstream: %w", err)
	}
	stream, err := js.Stream(ctx, StreamVitals)
	if err != nil {
		return time.Time{}, fmt.Errorf("looking at stream %s: %w", StreamVitals, err)
	}
	info := stream.CachedInfo()
	switch {
	case info.Cluster != nil && info.Cluster.Leader == "":
		return time.Time{}, fmt.Errorf("stream %s has no leader", StreamVitals)
	case info.TimeStamp.IsZero():
		return time.Time{}, errors.New("this NATS does not tell its time: it is older than 2.10; use a newer one")
	}
	return info.TimeStamp, nil
}
