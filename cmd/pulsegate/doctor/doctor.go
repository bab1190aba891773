// Package doctor looks at a gate and at all that it depends on, and says of each
// thing that it is in order, or what to do. It changes nothing but for a device
// that it may enrol for a moment.
package doctor

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/registry"
)

const (
	// wholeLimit bounds all checks together, but for tidying up.
	wholeLimit = 12 * time.Second
	// checkLimit bounds one check, unless it asks for more.
	checkLimit = 3 * time.Second
	// grace is how much longer a check may take to say that its time was up.
	grace = 200 * time.Millisecond
)

// Status is what came of a check.
type Status string

// The statuses, a closed set.
const (
	OK      Status = "ok"
	Warn    Status = "warn"
	Fail    Status = "fail"
	Skipped Status = "skipped"
)

// Check is one line of the result.
type Check struct {
	// Name says what was looked at. Several lines can have the same name.
	Name   string `json:"check"`
	Status Status `json:"status"`
	// Message says what was found and, unless that is in order, what to do.
	Message string `json:"message"`
}

// Options say what to look at.
type Options struct {
	Config config.Config
	// Refused is why there is no Config, or nil.
	Refused error
	// Ready asks the gate of Config whether it is ready. Its error wraps
	// *url.Error where nobody answers.
	Ready func(context.Context) error
	// By is who asks, for the audit.
	By string
	// Device is an enrolled device for the round trip; nil enrols one for a moment.
	Device *registry.Credentials
	// Cert and Key are PEM files of that device's client certificate; empty is none.
	Cert, Key string
	// Now is the machine's clock.
	Now func() time.Time
}

// The checks' names.
const (
	checkConfiguration = "configuration"
	checkDirectory     = "data directory"
	checkFiles         = "files"
	checkCertificates  = "certificates"
	checkGate          = "gate"
	checkNATS          = "nats"
	checkPermissions   = "permissions"
	checkStreams       = "streams"
	checkDisk          = "disk"
	checkClock         = "clock"
	checkRegistry      = "registry"
	checkMQTT          = "mqtt"
)

// Run makes all checks, in an order in which each comes after those that it
// depends on, and returns within 15 seconds.
func Run(ctx context.Context, o Options) []Check {
	ctx, cancel := context.WithTimeout(ctx, wholeLimit)
	defer cancel()
	e := &examination{Options: o, passed: map[string]bool{}}
	defer e.known.close()
	e.check(ctx, checkConfiguration, checkLimit, e.configuration)
	e.check(ctx, checkDirectory, checkLimit, e.directory, checkConfiguration)
	e.check(ctx, checkFiles, checkLimit, e.files, checkConfiguration)
	e.check(ctx, checkCertificates, checkLimit, e.certificates, checkConfiguration)
	e.check(ctx, checkGate, checkLimit, e.gate, checkConfiguration)
	e.check(ctx, checkNATS, checkLimit, e.nats, checkConfiguration)
	e.check(ctx, checkPermissions, checkLimit, e.permissions, checkNATS)
	e.check(ctx, checkDisk, checkLimit, e.disk, e.belowDisk())
	e.check(ctx, checkStreams, checkLimit, e.streams, checkPermissions)
	e.check(ctx, checkClock, checkLimit, e.clock, checkPermissions)
	e.check(ctx, checkRegistry, checkLimit, e.registry, checkPermissions)
	e.check(ctx, checkMQTT, enrolLimit+checkLimit, e.mqtt, checkGate, checkPermissions)
	return e.checks
}

// Failed are the names of the checks that failed, each once.
func Failed(checks []Check) []string {
	var names []string
	for _, c := range checks {
		if c.Status == Fail && (len(names) == 0 || names[len(names)-1] != c.Name) {
			names = append(names, c.Name)
		}
	}
	return names
}

// examination is one run.
type examination struct {
	Options
	known  known
	checks []Check
	// passed are the checks that others may build on.
	passed map[string]bool
}

// finding is one line of a check.
type finding struct {
	status  Status
	message string
}

func well(format string, a ...any) finding     { return finding{OK, fmt.Sprintf(format, a...)} }
func doubtful(format string, a ...any) finding { return finding{Warn, fmt.Sprintf(format, a...)} }
func wrong(format string, a ...any) finding    { return finding{Fail, fmt.Sprintf(format, a...)} }
func skipped(format string, a ...any) finding  { return finding{Skipped, fmt.Sprintf(format, a...)} }

// check runs one check, unless one that it needs has not passed.
func (e *examination) check(ctx context.Context, name string, limit time.Duration, look func(context.Context) []finding, needs ...string) {
	findings := []finding(nil)
	for _, need := range needs {
		if !e.passed[need] {
			findings = []finding{skipped("it needs %q to be in order", need)}
			break
		}
	}
	if findings == nil {
		findings = bounded(ctx, limit, look)
	}
	e.passed[name] = true
	for _, f := range findings {
		e.checks = append(e.checks, Check{name, f.status, f.message})
		if f.status == Fail || f.status == Skipped {
			e.passed[name] = false
		}
	}
}

// bounded does not wait for what heeds no context, such as a look-up of a name or
// a file system that hangs.
func bounded(ctx context.Context, limit time.Duration, look func(context.Context) []finding) []finding {
	if ctx.Err() != nil {
		return []finding{skipped("the time for all checks is over")}
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done := make(chan []finding, 1)
	go func() { done <- look(ctx) }()
	select {
	case findings := <-done:
		return findings
	case <-ctx.Done():
	}
	select {
	case findings := <-done:
		return findings
	case <-time.After(tidyLimit + grace):
		return []finding{wrong("there was no answer in time (%v): find out what hangs", limit)}
	}
}

// known is what checks have found out for others. One whose time is up may still
// be running.
type known struct {
	mu sync.Mutex
	// holder is the gate that has the data directory, empty where none has.
	holder string
	links  map[string]*nats.Conn
}

func (k *known) hold(by string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.holder = by
}

// held says which gate has the data directory, or "".
func (k *known) held() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.holder
}

func (k *known) add(user string, conn *nats.Conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.links == nil {
		k.links = map[string]*nats.Conn{}
	}
	k.links[user] = conn
}

// as returns a connection as a user, who is the gate's where that can be had.
func (k *known) as(user string) *nats.Conn {
	k.mu.Lock()
	defer k.mu.Unlock()
	if gate := k.links[userGate]; gate != nil {
		return gate
	}
	return k.links[user]
}

func (k *known) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, conn := range k.links {
		conn.Close()
	}
}
