package source

import (
	"math/rand/v2"
	"time"
)

const (
	leastPause = 250 * time.Millisecond
	mostPause  = 30 * time.Second
	// storePause follows a message that could not be stored: the handler has
	// tried for long already, and recovery must not wait.
	storePause = time.Second
	// steady is how long a connection must stand to count as one that works.
	steady = 5 * time.Second
	// enough brief connections in a row look like two clients with one id.
	enough = 3
)

// pause is the wait between connections.
type pause struct {
	failures int
	// brief counts the connections in a row that ended soon after they were
	// subscribed.
	brief int
}

// failed is the wait after an attempt that got no subscription.
func (p *pause) failed() time.Duration {
	p.failures++
	return p.next()
}

// lost is the wait after a connection that stood for a time.
func (p *pause) lost(stood time.Duration) time.Duration {
	if p.brief++; stood >= steady {
		p.brief = 0
	}
	if p.brief < enough {
		p.failures = 0
	}
	return p.failed()
}

// takenOver says whether another client may be using the client id: of two, each
// connection ends the other's [MQTT-3.1.4-2].
func (p *pause) takenOver() bool { return p.brief >= enough }

func (p *pause) next() time.Duration {
	d := mostPause
	if shift := p.failures - 1; shift < 7 {
		d = min(leastPause<<shift, mostPause)
	}
	return jittered(d)
}

// jittered is between half of d and d, so that replicas do not come all at once.
func jittered(d time.Duration) time.Duration { return d/2 + rand.N(d/2) }
