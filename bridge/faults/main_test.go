//go:build linux

package faults

import (
	"flag"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience bounds waiting for anything that must come: the machine may be slow
// and shared, and the race detector on.
const patience = 90 * time.Second

var (
	extent = flag.String("faults", "short", "how many faults: short or long")
	seed   = flag.Uint64("faults.seed", 0, "determines when faults come (default: another each time)")
)

func TestMain(m *testing.M) {
	flag.Parse()
	if *extent != "short" && *extent != "long" {
		fmt.Fprintf(os.Stderr, "-faults: %q is none of short, long\n", *extent)
		os.Exit(2)
	}
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	scenariosAtOnce(4)
	status := m.Run()
	if dir, err := builds(); err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(status)
}

// scenariosAtOnce lets more run in parallel than there are processors, where
// nobody said how many: they wait more than they compute.
func scenariosAtOnce(n int) {
	parallel := flag.Lookup("test.parallel")
	if parallel.Value.String() == fmt.Sprint(runtime.GOMAXPROCS(0)) {
		_ = parallel.Value.Set(fmt.Sprint(max(n, runtime.GOMAXPROCS(0))))
	}
}

func long() bool { return *extent == "long" }

// either is the first in the short set and the second in the long one.
func either[T any](short, full T) T {
	if long() {
		return full
	}
	return short
}

// chance is the test's own generator, so that others' draws do not matter.
func chance(t *testing.T) *rand.Rand {
	t.Helper()
	t.Logf("-faults.seed=%d", *seed)
	name := fnv.New64a()
	_, _ = name.Write([]byte(t.Name()))
	return rand.New(rand.NewPCG(*seed, name.Sum64()))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// builds is the directory of the programs.
var builds = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "pulsegate-faults-") })

// The programs, each built once. The gate is built as the test is, with or
// without the race detector.
var (
	gateProgram   = build("github.com/pulsegate/pulsegate/cmd/pulsegate", raceFlags()...)
	settleProgram = build("github.com/pulsegate/pulsegate/device-sim")
	natsProgram   = build("github.com/nats-io/nats-server/v2")
)

func build(pkg string, flags ...string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		dir, err := builds()
		if err != nil {
			return "", err
		}
		path := filepath.Join(dir, filepath.Base(strings.TrimSuffix(pkg, "/v2")))
		args := append([]string{"build", "-o", path}, flags...)
		if out, err := exec.Command("go", append(args, pkg)...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
		}
		return path, nil
	})
}

// program returns the path of one of the programs.
func program(t *testing.T, built func() (string, error)) string {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		absent(t, "the go command")
	}
	path, err := built()
	must(t, err)
	return path
}

// absent ends a test whose tool is not there: as skipped, or as failed where the
// machine is meant to have everything.
func absent(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not here", what)
	}
	t.Skipf("SKIPPED: %s is not here", what)
}
