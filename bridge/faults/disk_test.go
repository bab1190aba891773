//go:build linux

package faults

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// disk is the one under a gate's store, which can be full.
type disk interface {
	// fill leaves room for a few readings.
	fill(g *gate)
	// free makes room again.
	free(g *gate)
	// says is what a write to it then fails with.
	says() string
}

// TestDiskFull lets the disk under the embedded store become full in the midst
// of the load, and makes room some time later. The gate goes on by itself, or it
// ends, and then its supervisor starts it again.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	for name, provide := range map[string]func(*testing.T, string) disk{"no-space": mountSmall, "file-too-large": limitFiles} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			random := chance(t)
			dir := t.TempDir()
			d := provide(t, dir)
			g := newGateIn(t, dir, impatient, "STORE_UNAVAILABLE_AFTER=3s", "STORE_VITALS_MAX_BYTES=24MiB", "STORE_REJECTIONS_MAX_BYTES=1MiB",
				"STORE_AUDIT_MAX_BYTES=1MiB", "STORE_DEVICES_MAX_BYTES=1MiB")
			g.start()
			w := newWard(t, g.mqtt, g.enrol(20), load{rate: pace})
			w.start()
			rounds := either(1, 5)
			for range rounds {
				w.await(1 + random.IntN(500))
				d.fill(g)
				g.awaitLog(d.says())
				d.free(g)
				g.recover(w)
				w.await(100)
			}
			w.settle("disk-"+name, rounds, g.credentials)
			g.stop()
		})
	}
}

// recover waits until the gate stores again, and does a supervisor's work.
func (g *gate) recover(w *ward) {
	g.t.Helper()
	const within = time.Minute
	// Some were stored before and are acknowledged only now: at most so many as
	// are in flight.
	const underWay = 20 * 16
	select {
	case <-w.acknowledged.more(underWay + 1):
	case <-g.ended:
		g.t.Logf("the gate has ended: %v", g.failure)
		g.start()
	case <-time.After(within):
		g.t.Errorf("the gate neither stores again within %v nor ends", within)
		g.kill()
		g.start()
	}
}

// small is a file system of little space.
type small struct{ dir string }

func mountSmall(t *testing.T, dir string) disk {
	t.Helper()
	err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=32m")
	if errors.Is(err, unix.EPERM) {
		// The other way of running out of room needs no privilege.
		t.Skip("SKIPPED: mounting a small file system needs CAP_SYS_ADMIN; only file-too-large is tried")
	}
	must(t, err)
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return small{dir}
}

func (s small) ballast() string { return filepath.Join(s.dir, "ballast") }

func (s small) fill(g *gate) {
	g.t.Helper()
	const room = 64 << 10
	file, err := os.Create(s.ballast())
	must(g.t, err)
	defer file.Close()
	for err = unix.ENOSPC; errors.Is(err, unix.ENOSPC); {
		// The gate may take what is free before it is taken here.
		var free unix.Statfs_t
		must(g.t, unix.Statfs(s.dir, &free))
		size := int64(free.Bavail)*free.Bsize - room
		if size <= 0 {
			return
		}
		err = unix.Fallocate(int(file.Fd()), 0, 0, size)
	}
	must(g.t, err)
}

func (s small) free(g *gate) {
	g.t.Helper()
	must(g.t, os.Remove(s.ballast()))
}

func (s small) says() string { return "no space left on device" }

// limited is a process whose files may not grow.
type limited struct{ dir string }

func limitFiles(_ *testing.T, dir string) disk { return limited{dir} }

func (l limited) fill(g *gate) {
	g.t.Helper()
	var largest int64
	must(g.t, filepath.WalkDir(l.dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		largest = max(largest, info.Size())
		return nil
	}))
	const room = 64 << 10
	l.limit(g, uint64(largest)+room)
}

func (l limited) free(g *gate) {
	g.t.Helper()
	if g.alive() {
		l.limit(g, unix.RLIM_INFINITY)
	}
}

// limit sets the soft limit, which needs no privilege to be raised again.
func (l limited) limit(g *gate, size uint64) {
	g.t.Helper()
	must(g.t, unix.Prlimit(g.running.Process.Pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: size, Max: unix.RLIM_INFINITY}, nil))
}

func (l limited) says() string { return syscall.EFBIG.Error() }

// awaitLog waits until the gate's log speaks of something since its last start,
// or the gate has ended.
func (g *gate) awaitLog(part string) {
	g.t.Helper()
	before := strings.Count(g.journal.String(), part)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for end := time.After(patience); strings.Count(g.journal.String(), part) <= before; {
		select {
		case <-ticker.C:
		case <-g.ended:
			return
		case <-end:
			g.t.Fatalf("the gate's log does not speak of %q", part)
		}
	}
}
