package limits

import (
	"sync"
	"time"

	"github.com/rs/zerolog"
)

const (
	// tellEvery is how long lines are counted before it is told how many were left
	// out.
	tellEvery = 10 * time.Second
	// linesApart is how many kinds of lines are told apart at once.
	linesApart = 64
)

// Of log lines these are written, each second and at once after a rest: of one
// kind, and of all together.
var (
	linesOfOne = Rate{PerSecond: 1, Burst: 5}
	linesOfAll = Rate{PerSecond: 10, Burst: 50}
)

// kind is what lines of a log are sampled by.
type kind struct {
	level   zerolog.Level
	message string
}

// Log is for what strangers or an outage can cause as often as they like. It
// writes some lines of each kind, and then, while there are more and once there
// are none, how many it left out: every line is written or counted. It is safe for
// concurrent use.
type Log struct {
	log     zerolog.Logger
	sampler *Sampler[kind]

	mu sync.Mutex
	// due tells what has been left out; nil while there is nothing to tell.
	due *time.Timer
}

// NewLog returns a Log that writes to another.
func NewLog(log zerolog.Logger) *Log {
	return &Log{log: log, sampler: NewSampler(Sampling[kind]{
		Each: linesOfOne, All: linesOfAll, Keys: linesApart, Rest: func(k kind) kind { return kind{level: k.level} },
	})}
}

// Warn writes a line, or counts it. Its message is its kind, the same for all
// that are alike; with adds the rest, and is called only if it is written.
func (l *Log) Warn(message string, with func(*zerolog.Event)) {
	l.write(kind{zerolog.WarnLevel, message}, with)
}

// Error is Warn for what an operator has to mend.
func (l *Log) Error(message string, with func(*zerolog.Event)) {
	l.write(kind{zerolog.ErrorLevel, message}, with)
}

func (l *Log) write(k kind, with func(*zerolog.Event)) {
	if l.sampler.Keep(k, time.Now()) {
		event := l.log.WithLevel(k.level)
		with(event)
		event.Msg(k.message)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.due == nil {
		l.due = time.AfterFunc(tellEvery, l.Tell)
	}
}

// Tell writes how many lines of each kind have been left out since it was last
// told, which happens by itself every ten seconds. At the end it tells the rest.
func (l *Log) Tell() {
	l.mu.Lock()
	if l.due != nil {
		l.due.Stop()
		l.due = nil
	}
	l.mu.Unlock()
	l.sampler.Report(func(k kind, left LeftOut) bool {
		l.log.WithLevel(k.level).Uint64("left_out", left.Count).Time("from", left.From).Time("until", left.Until).
			Msg("more lines like this were left out: " + k.message)
		return true
	})
}
