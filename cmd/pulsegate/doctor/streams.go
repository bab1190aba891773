package doctor

import (
	"context"
	"errors"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pulsegate/pulsegate/bridge"
	"github.com/pulsegate/pulsegate/bridge/egress"
)

const (
	// nearlyFull is how much of a stream that forgets nothing may be taken, in
	// percent, before it is warned of.
	nearlyFull = 80
	// little is the room in bytes that hardly any message can do with.
	little = 512
)

// streams compares each stream with the configuration.
func (e *examination) streams(ctx context.Context) []finding {
	var all []finding
	for _, name := range egress.StreamNames() {
		conn := e.reader(name)
		if conn == nil {
			continue // the embedded bucket, which only the gate itself reaches
		}
		all = append(all, e.stream(ctx, conn, name))
	}
	layout := bridge.LayoutOf(e.Config)
	missing, err := egress.MissingConsumers(ctx, e.known.as(userConsumer), layout)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
	case err != nil:
		all = append(all, wrong("%v", err))
	case len(missing) > 0:
		all = append(all, wrong("consumers of %s that are configured are not there: %s; start the gate anew, which makes them", egress.StreamVitals, strings.Join(missing, ", ")))
	}
	return all
}

// reader is a connection that may look at a stream, or nil.
func (e *examination) reader(stream string) *nats.Conn {
	switch stream {
	case egress.StreamVitals:
		return e.known.as(userConsumer)
	case egress.StreamRejections, egress.StreamAudit:
		return e.known.as(userSecurity)
	}
	return e.known.as(userGate)
}

func (e *examination) stream(ctx context.Context, conn *nats.Conn, name string) finding {
	s, err := egress.Inspect(ctx, conn, bridge.LayoutOf(e.Config), name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return skipped("%s is not there yet: the gate makes it when it starts", name)
	case err != nil:
		return wrong("%v: look at the NATS server, and at what its user may do", err)
	case len(s.Contradictions) > 0:
		return wrong("%s is not as Pulsegate needs it, and the gate will not start: %s; adapt the configuration, or edit the stream", name, strings.Join(append(s.Contradictions, s.Lacking...), "; "))
	case len(s.Lacking) > 0:
		return wrong("%s is not as configured: %s; start the gate anew, which puts that right", name, strings.Join(s.Lacking, "; "))
	case s.Leaderless:
		return wrong("%s has no leader, so that nothing is stored: look at the NATS servers", name)
	}
	return filled(s.Fill)
}

// filled tells how full a stream is. Rejections and the audit forget what is
// oldest, so they may be full.
func filled(f egress.Fill) finding {
	size := humanize.IBytes(f.Bytes) + " of " + humanize.IBytes(f.Limit)
	forgets := f.Stream == egress.StreamRejections || f.Stream == egress.StreamAudit
	switch {
	case !forgets && f.Bytes+little > f.Limit:
		return wrong("%s is full, %s, and takes nothing more: raise its max_bytes in the configuration and start the gate anew", f.Stream, size)
	case !forgets && f.Bytes*100 > f.Limit*nearlyFull:
		return doubtful("%s is nearly full, %s; once it is, nothing more is acknowledged: raise its max_bytes", f.Stream, size)
	case f.Current < f.Replicas:
		return doubtful("%s is up to date on %d of %d servers: look at the others", f.Stream, f.Current, f.Replicas)
	}
	return well("%s is as configured, and holds %s", f.Stream, size)
}
