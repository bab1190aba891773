package load

import (
	"bytes"
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// redial is how long a lane of a flood waits after it was not let in.
const redial = 10 * time.Millisecond

// Flooded is what became of a flood.
type Flooded struct {
	// Answered counts PUBACKs, LetIn and TurnedAway attempts to connect.
	Answered, LetIn, TurnedAway int64
}

// Flood sends the first InFlight payloads of every lane again and again, as fast
// as they are answered, until ctx ends. A lane that is cut off connects again.
// opened is called when each lane has tried once.
func Flood(ctx context.Context, o Options, opened func()) Flooded {
	var answered, letIn, turnedAway atomic.Int64
	var tried, all sync.WaitGroup
	tried.Add(len(o.Lanes))
	for _, l := range o.Lanes {
		batch := bytes.Join(encode(l, o.InFlight)[:o.InFlight], nil)
		all.Go(func() {
			first := sync.OnceFunc(tried.Done)
			for ctx.Err() == nil {
				one, err := dial(ctx, o.Broker, l.Credentials)
				first()
				if err != nil {
					turnedAway.Add(1)
					time.Sleep(redial)
					continue
				}
				letIn.Add(1)
				one.flood(ctx, batch, o.InFlight, &answered)
			}
		})
	}
	tried.Wait()
	opened()
	all.Wait()
	return Flooded{answered.Load(), letIn.Load(), turnedAway.Load()}
}

// flood goes on until it is cut off, or ctx ends.
func (l *lane) flood(ctx context.Context, batch []byte, n int, answered *atomic.Int64) {
	stop := context.AfterFunc(ctx, func() { _ = l.conn.Close() })
	defer stop()
	defer func() { _ = l.conn.Close() }()
	const pubackSize = 4
	acks := make([]byte, n*pubackSize)
	for {
		if _, err := l.conn.Write(batch); err != nil {
			return
		}
		got, err := io.ReadFull(l.in, acks)
		answered.Add(int64(got / pubackSize))
		if err != nil {
			return
		}
	}
}
