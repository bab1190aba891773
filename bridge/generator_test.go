//go:build unix

package bridge_test

import (
	"bufio"
	"context"
	"encoding/gob"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/device-sim/load"
)

// generates is the environment variable that makes this program a generator of
// load in place of tests: what the gate costs, and what keeps it waiting, is
// then not mixed up with its senders.
const generates = "PULSEGATE_TEST_GENERATES"

func TestMain(m *testing.M) {
	if os.Getenv(generates) == "" {
		os.Exit(m.Run())
	}
	if err := generate(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// job is what a generator is told, one of its members.
type job struct {
	Closed *load.Options
	Paced  *load.Pace
	Flood  *load.Options
	Crowd  *load.Crowd
}

// outcome is what it tells: first that it has begun, where a job goes on until
// its input ends, then what came of it.
type outcome struct {
	Begun   bool
	Took    []time.Duration
	Flooded load.Flooded
	Opened  int
}

func generate(in io.Reader, out io.Writer) error {
	buffered := bufio.NewReader(in)
	var j job
	if err := gob.NewDecoder(buffered).Decode(&j); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, buffered)
		cancel()
	}()
	encoder := gob.NewEncoder(out)
	begun := func() { _ = encoder.Encode(outcome{Begun: true}) }
	var o outcome
	var err error
	switch {
	case j.Closed != nil:
		_, err = load.Closed(ctx, *j.Closed)
	case j.Paced != nil:
		o.Took, err = load.Paced(ctx, *j.Paced)
	case j.Flood != nil:
		o.Flooded = load.Flood(ctx, *j.Flood, begun)
	case j.Crowd != nil:
		o.Opened = load.Hold(ctx, *j.Crowd, begun)
	}
	if err != nil {
		return err
	}
	return encoder.Encode(o)
}

// generator is a process that generates load.
type generator struct {
	tb      testing.TB
	process *exec.Cmd
	in      io.WriteCloser
	out     *gob.Decoder
}

func (j job) start(tb testing.TB) *generator {
	tb.Helper()
	g := &generator{tb: tb, process: exec.CommandContext(tb.Context(), os.Args[0])}
	g.process.Env = append(os.Environ(), generates+"=1")
	g.process.Stderr = os.Stderr
	in, err := g.process.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := g.process.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := g.process.Start(); err != nil {
		tb.Fatal(err)
	}
	g.in, g.out = in, gob.NewDecoder(out)
	if err := gob.NewEncoder(in).Encode(j); err != nil {
		tb.Fatal(err)
	}
	return g
}

// begun waits until a job that goes on has begun.
func (g *generator) begun() *generator {
	g.tb.Helper()
	g.next()
	return g
}

// stop ends a job that goes on, and wait waits for the end of one that does not.
func (g *generator) stop() outcome {
	g.tb.Helper()
	_ = g.in.Close()
	return g.wait()
}

func (g *generator) wait() outcome {
	g.tb.Helper()
	o := g.next()
	_ = g.in.Close()
	if err := g.process.Wait(); err != nil {
		g.tb.Fatal(err)
	}
	return o
}

func (g *generator) next() (o outcome) {
	g.tb.Helper()
	if err := g.out.Decode(&o); err != nil {
		g.tb.Fatalf("the generator says no more: %v", err)
	}
	return o
}
