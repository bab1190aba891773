package doctor

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pulsegate/pulsegate/bridge/clock"
	"github.com/pulsegate/pulsegate/bridge/egress"
)

// clock compares this machine's clock with NATS', as the gate does.
func (e *examination) clock(ctx context.Context) []finding {
	conn := e.known.as(userConsumer)
	if _, err := egress.ServerTime(ctx, conn); errors.Is(err, jetstream.ErrStreamNotFound) {
		return []finding{skipped("NATS tells its clock by the stream %s, which is not there yet: start the gate", egress.StreamVitals)}
	}
	tolerance := time.Duration(e.Config.Freshness.ClockTolerance)
	c := clock.New(clock.Options{
		Wall: e.Now, Tolerance: tolerance,
		Ask: func(ctx context.Context) (time.Time, error) { return egress.ServerTime(ctx, conn) },
	})
	defer func() { _ = c.Close(ctx) }()
	if err := c.First(ctx); err != nil {
		return []finding{wrong("%v: look at the NATS server", err)}
	}
	offset, _ := c.Offset()
	if err := c.Err(); err != nil {
		return []finding{wrong("%v", err)}
	}
	return []finding{well("%v apart from NATS', and %v are allowed", offset.Abs().Round(time.Millisecond), tolerance)}
}
