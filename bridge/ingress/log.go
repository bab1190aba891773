package ingress

import (
	"context"
	"log/slog"
	"strings"

	"github.com/rs/zerolog"
)

// debugLog turns the HTTP server's lines, which strangers cause, into details.
type debugLog struct{ zerolog.Logger }

// Write logs one line.
func (d debugLog) Write(line []byte) (int, error) {
	d.Debug().Msg(strings.TrimSpace(string(line)))
	return len(line), nil
}

// shown are the attributes of Mochi's log that hold neither payloads nor
// passwords. Whole packets are among the others.
var shown = map[string]bool{
	"client": true, "remote": true, "listener": true, "id": true, "version": true, "hook": true, "keepalive": true,
}

// redacted passes Mochi's log on without what devices sent.
type redacted struct{ slog.Handler }

func redact(h slog.Handler) slog.Handler { return redacted{h} }

// Handle passes a record on with the attributes that may be shown.
func (r redacted) Handle(ctx context.Context, record slog.Record) error {
	clean := slog.NewRecord(record.Time, lower(record.Level), record.Message, record.PC)
	record.Attrs(func(a slog.Attr) bool {
		if shown[a.Key] {
			clean.AddAttrs(a)
		}
		return true
	})
	return r.Handler.Handle(ctx, clean)
}

// Enabled asks for the level at which a record will be passed on.
func (r redacted) Enabled(ctx context.Context, level slog.Level) bool {
	return r.Handler.Enabled(ctx, lower(level))
}

// WithAttrs drops attributes that may not be shown.
func (r redacted) WithAttrs(attrs []slog.Attr) slog.Handler {
	var clean []slog.Attr
	for _, a := range attrs {
		if shown[a.Key] {
			clean = append(clean, a)
		}
	}
	return redacted{r.Handler.WithAttrs(clean)}
}

// WithGroup passes the group on.
func (r redacted) WithGroup(name string) slog.Handler { return redacted{r.Handler.WithGroup(name)} }

// lower turns what Mochi says of itself and of single clients into details: its
// warnings are what peers caused, and its start is not news.
func lower(l slog.Level) slog.Level {
	if l >= slog.LevelError {
		return l
	}
	return slog.LevelDebug
}
