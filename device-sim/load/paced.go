package load

import (
	"context"
	"fmt"
	"time"
)

// settleLimit is how long after the last message's time acknowledgements are
// waited for.
const settleLimit = 30 * time.Second

// Pace says when messages are sent.
type Pace struct {
	// Broker is host:port.
	Broker string
	// Rate is messages a second over all lanes, which take turns.
	Rate  float64
	Lanes []Lane
}

// Paced sends every payload at its time, whatever has become of those before (an
// open loop), and returns for each how long after that time its PUBACK came.
// Without all of them it returns an error.
func Paced(ctx context.Context, p Pace) ([]time.Duration, error) {
	if p.Rate <= 0 {
		return nil, fmt.Errorf("the rate is %g a second; it must be more than 0", p.Rate)
	}
	lanes, err := dialAll(ctx, Options{Broker: p.Broker, InFlight: mostInFlight, Lanes: p.Lanes})
	defer closeAll(lanes)
	if err != nil {
		return nil, err
	}
	apart := time.Duration(float64(len(lanes)) / p.Rate * float64(time.Second))
	took := make([][]time.Duration, len(lanes))
	start := time.Now()
	err = together(ctx, lanes, func(i int, l *lane) (err error) {
		first := start.Add(apart * time.Duration(i) / time.Duration(len(lanes)))
		took[i], err = l.paced(first, apart)
		return err
	})
	var all []time.Duration
	for _, t := range took {
		all = append(all, t...)
	}
	return all, err
}

func (l *lane) paced(first time.Time, apart time.Duration) ([]time.Duration, error) {
	due := func(i int) time.Time { return first.Add(time.Duration(i) * apart) }
	if err := l.conn.SetDeadline(due(len(l.packets)).Add(settleLimit)); err != nil {
		return nil, err
	}
	sent := make(chan error, 1)
	go func() { sent <- l.sendAt(due) }()
	took := make([]time.Duration, 0, len(l.packets))
	for i := range l.packets {
		if err := l.puback(uint16(i%mostInFlight + 1)); err != nil {
			_ = l.conn.Close()
			<-sent
			return took, err
		}
		took = append(took, time.Since(due(i)))
	}
	return took, <-sent
}

func (l *lane) sendAt(due func(i int) time.Time) error {
	for i, packet := range l.packets {
		time.Sleep(time.Until(due(i)))
		if _, err := l.conn.Write(packet); err != nil {
			return err
		}
	}
	return nil
}
