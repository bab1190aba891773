//go:build linux

package faults

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a program that can be broken and started again.
type process struct {
	t    *testing.T
	name string
	// command is the program with its arguments, environ what is added to this
	// process' environment.
	command, environ []string
	// ready is in the line by which it says that it serves.
	ready   *regexp.Regexp
	journal *journal

	running *exec.Cmd
	// ended is closed when it has, and then failure is how.
	ended   chan struct{}
	failure error
}

func newProcess(t *testing.T, name string, ready *regexp.Regexp, command ...string) *process {
	p := &process{t: t, name: name, command: command, ready: ready, journal: &journal{}}
	t.Cleanup(p.end)
	return p
}

// start runs it and waits until it serves; it returns what the parentheses of
// ready hold.
func (p *process) start() []string {
	p.t.Helper()
	found, err := p.tryStart()
	must(p.t, err)
	return found
}

// tryStart is start for one that may end before it serves.
func (p *process) tryStart() ([]string, error) {
	served := p.launch()
	select {
	case found := <-served:
		return found, nil
	case <-p.ended:
		return nil, fmt.Errorf("%s ended before it served: %v", p.name, p.failure)
	case <-time.After(patience):
		return nil, fmt.Errorf("%s does not serve", p.name)
	}
}

// launch runs it; what it sends is what the parentheses of ready hold.
func (p *process) launch() <-chan []string {
	p.t.Helper()
	cmd := exec.Command(p.command[0], p.command[1:]...)
	cmd.Env = append(os.Environ(), p.environ...)
	// Should this process be killed, nothing is left behind.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	served := make(chan []string, 1)
	watch := &watcher{out: p.journal, ready: p.ready, served: served}
	cmd.Stdout, cmd.Stderr = watch, watch // the same one, so that writes do not overlap
	p.journal.note("--- %s: %s", p.name, strings.Join(p.command, " "))
	must(p.t, cmd.Start())
	ended := make(chan struct{})
	p.running, p.ended = cmd, ended
	go func() {
		p.failure = cmd.Wait()
		close(ended)
	}()
	return served
}

// kill is kill -9; it returns when the process is gone.
func (p *process) kill() {
	p.t.Helper()
	p.signal(syscall.SIGKILL)
	p.await()
}

// stop asks it to end and expects that it does so cleanly.
func (p *process) stop() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	p.await()
	if p.failure != nil {
		p.t.Errorf("%s ended with %v", p.name, p.failure)
	}
}

// pause is SIGSTOP: its sockets stay open, and nobody answers.
func (p *process) pause() { p.t.Helper(); p.signal(syscall.SIGSTOP) }

func (p *process) resume() { p.t.Helper(); p.signal(syscall.SIGCONT) }

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.running.Process.Signal(s); err != nil {
		p.t.Errorf("%s to %s: %v", s, p.name, err)
	}
}

// await waits for its end.
func (p *process) await() {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Fatalf("%s does not end", p.name)
	}
}

// alive reports whether it still runs.
func (p *process) alive() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// end leaves nothing running, shows the log where the test failed, and fails it
// where the log tells of a panic or a data race.
func (p *process) end() {
	if p.running != nil && p.alive() {
		_ = p.running.Process.Kill()
		<-p.ended
	}
	if line := p.journal.alarm(); line != "" {
		p.t.Errorf("%s: %s", p.name, line)
	}
	if p.t.Failed() {
		p.t.Logf("the log of %s:\n%s", p.name, p.journal.tail())
	}
}

// journal is what a program wrote in all its runs.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

func (j *journal) note(format string, args ...any) {
	_, _ = fmt.Fprintf(j, format+"\n", args...)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// alarm is a line that no program may ever write.
func (j *journal) alarm() string {
	for line := range strings.Lines(j.String()) {
		if strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") || strings.Contains(line, "WARNING: DATA RACE") {
			return line
		}
	}
	return ""
}

func (j *journal) tail() string {
	const shown = 16 << 10
	text := j.String()
	if len(text) <= shown {
		return text
	}
	return fmt.Sprintf("(%d bytes before)\n%s", len(text)-shown, text[len(text)-shown:])
}

// watcher passes output on and looks for the line that says "ready".
type watcher struct {
	out    io.Writer
	ready  *regexp.Regexp
	served chan<- []string
	line   []byte
}

func (w *watcher) Write(b []byte) (int, error) {
	if w.served != nil {
		w.line = append(w.line, b...)
		w.look()
	}
	return w.out.Write(b)
}

func (w *watcher) look() {
	for {
		line, rest, ended := bytes.Cut(w.line, []byte("\n"))
		if !ended {
			return
		}
		w.line = rest
		if found := w.ready.FindStringSubmatch(string(line)); found != nil {
			w.served <- found[1:]
			w.served, w.line = nil, nil
			return
		}
	}
}
