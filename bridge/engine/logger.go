package engine

import (
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/rs/zerolog"
)

// serverLog passes nats-server's messages to zerolog. Notices become debug messages: they tell of the server as if it
// were a program of its own, while the service that embeds it announces itself. A fatal error, on which nats-server
// expects the process to end, is handed to whoever starts it, who reports it.
type serverLog struct {
	log      zerolog.Logger
	starting atomic.Bool
	fatal    chan error // capacity 1; the first fatal error is the cause of any other
}

// Noticef implements server.Logger.
func (l *serverLog) Noticef(format string, v ...any) { l.write(zerolog.DebugLevel, format, v) }

// Warnf implements server.Logger.
func (l *serverLog) Warnf(format string, v ...any) {
	// The advice to hash passwords is for configuration files: here they are random and stay within the process.
	if strings.HasPrefix(format, "Plaintext passwords detected") {
		return
	}
	l.write(zerolog.WarnLevel, format, v)
}

// Errorf implements server.Logger.
func (l *serverLog) Errorf(format string, v ...any) { l.write(zerolog.ErrorLevel, format, v) }

// Debugf implements server.Logger.
func (l *serverLog) Debugf(format string, v ...any) { l.write(zerolog.DebugLevel, format, v) }

// Tracef implements server.Logger. A trace shows payloads, which belong to no log.
func (l *serverLog) Tracef(string, ...any) {}

// Fatalf implements server.Logger.
func (l *serverLog) Fatalf(format string, v ...any) {
	if l.starting.Load() {
		select {
		case l.fatal <- cause(format, v):
			return
		default:
		}
	}
	l.write(zerolog.ErrorLevel, format, v)
}

func (l *serverLog) write(level zerolog.Level, format string, v []any) {
	l.log.WithLevel(level).Msg(fmt.Sprintf(format, v...))
}

// cause keeps the error among a message's arguments, so that the caller can ask what it is.
func cause(format string, v []any) error {
	for _, argument := range v {
		if err, ok := argument.(error); ok {
			return err
		}
	}
	return fmt.Errorf(format, v...)
}
