package config

import (
	"errors"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// The binary units of Bytes.
const (
	KiB Bytes = 1 << 10
	MiB Bytes = 1 << 20
	GiB Bytes = 1 << 30
	TiB Bytes = 1 << 40
)

// Bytes is a size in bytes. Its text is a number with or without a unit: 1048576, 64MiB, 2GiB, 64MB (decimal).
type Bytes int64

// UnmarshalText reads a size; an error says only that the text is none.
func (b *Bytes) UnmarshalText(text []byte) error {
	// humanize goes through a float, which would round a large plain number.
	if n, err := strconv.ParseInt(string(text), 10, 64); err == nil {
		*b = Bytes(n)
		return nil
	}
	n, err := humanize.ParseBytes(string(text))
	// humanize drops commas, and would take 1,5GiB for 15 GiB.
	if err != nil || n > math.MaxInt64 || strings.Contains(string(text), ",") {
		return errors.New("not a size")
	}
	*b = Bytes(n)
	return nil
}

// String is exact: the largest unit that divides the size.
func (b Bytes) String() string {
	for _, unit := range []struct {
		size Bytes
		name string
	}{{TiB, "TiB"}, {GiB, "GiB"}, {MiB, "MiB"}, {KiB, "KiB"}} {
		if b != 0 && b%unit.size == 0 {
			return strconv.FormatInt(int64(b/unit.size), 10) + unit.name
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// MarshalText is String.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// Duration is a time.Duration whose text needs a unit, so that a bare 60 is refused instead of being 60 nanoseconds.
type Duration time.Duration

// UnmarshalText reads what time.ParseDuration takes.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return errors.New("not a duration")
	}
	*d = Duration(parsed)
	return nil
}

// String is time.Duration's without the trailing zero units: 168h, not 168h0m0s.
func (d Duration) String() string {
	text := time.Duration(d).String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// MarshalText is String.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// SyncAlways is fsync on every store, before it is confirmed.
const SyncAlways Sync = 0

// Sync is the time between two fsyncs; SyncAlways is its zero value.
type Sync time.Duration

const alwaysText = "always"

// UnmarshalText reads `always` or a duration above zero.
func (s *Sync) UnmarshalText(text []byte) error {
	if string(text) == alwaysText {
		*s = SyncAlways
		return nil
	}
	var interval Duration
	if err := interval.UnmarshalText(text); err != nil {
		return err
	}
	// A zero would silently become SyncAlways.
	if interval <= 0 {
		return errors.New("not above zero")
	}
	*s = Sync(interval)
	return nil
}

// String is `always` or the interval.
func (s Sync) String() string {
	if s == SyncAlways {
		return alwaysText
	}
	return Duration(s).String()
}

// MarshalText is String.
func (s Sync) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// mask is what stands in place of a secret.
const mask = "****"

// Secret prints as a mask however it is printed; convert it to string for its value.
type Secret string

// String is the mask, or empty for an empty secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return mask
}

// GoString is String.
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// MarshalText is String.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// ServerURL is one NATS URL or several separated by commas. It prints with its credentials masked; convert it to string
// for its value.
type ServerURL string

// String masks user, password and token of each URL, and everything where it cannot be sure what they are.
func (u ServerURL) String() string {
	if !strings.Contains(string(u), "@") {
		return string(u)
	}
	parts := strings.Split(string(u), ",")
	for i, part := range parts {
		parsed, ok := parseServer(part)
		// A comma or a slash within a password makes it look like a host.
		if !ok || parsed.User == nil {
			return mask
		}
		parts[i] = parsed.Scheme + "://" + mask + "@" + parsed.Host
	}
	return strings.Join(parts, ",")
}

// GoString is String.
func (u ServerURL) GoString() string { return strconv.Quote(u.String()) }

// MarshalText is String.
func (u ServerURL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// parseServer takes what nats.go takes: a URL, or host:port with the scheme left out.
func parseServer(text string) (*url.URL, bool) {
	text = strings.TrimSpace(text)
	if !strings.Contains(text, "://") {
		text = "nats://" + text
	}
	parsed, err := url.Parse(text)
	if err != nil || parsed.Hostname() == "" {
		return nil, false
	}
	switch parsed.Scheme {
	case "nats", "tls", "ws", "wss":
		return parsed, true
	}
	return nil, false
}
