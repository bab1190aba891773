//go:build linux

package doctor_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/sys/unix"

	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/cmd/pulsegate/doctor"
)

func TestADiskThatIsTooSmall(t *testing.T) {
	c := settings(t)
	c.HTTP.Listen = vacant(t)
	must(t, os.Mkdir(c.Data, 0o700))
	c.Store.Vitals.MaxBytes = 1024 * config.TiB
	refused(t, c, "the streams may grow by ", c.Data, "give a larger disk")
	r := examine(t, c)
	r.onlyFails(t, "disk")
	r.says(t, "disk", doctor.Fail, "the streams may grow by ", c.Data, "give a larger disk")
}

// TestAFullDisk fills the disk under a gate that runs.
func TestAFullDisk(t *testing.T) {
	c := settings(t)
	must(t, os.Mkdir(c.Data, 0o700))
	err := unix.Mount("tmpfs", c.Data, "tmpfs", 0, "size=32m,mode=700")
	if errors.Is(err, unix.EPERM) {
		t.Skip("SKIPPED: mounting a small file system needs CAP_SYS_ADMIN; only a disk that is too small is tried")
	}
	must(t, err)
	t.Cleanup(func() { must(t, unix.Unmount(c.Data, 0)) })
	started, stop := startStop(t, c)
	examine(t, started).onlyFails(t)
	fill(t, filepath.Join(c.Data, "ballast"))
	r := examine(t, started)
	r.says(t, "disk", doctor.Fail, "more bytes in "+c.Data+", but its disk has 0 free", "give a larger disk")
	stop()
	refused(t, c, c.Data+", but its disk has ", "give a larger disk")
	c.HTTP.Listen = vacant(t)
	r = examine(t, c)
	r.onlyFails(t, "disk")
}

// fill writes a file until there is no more room.
func fill(t *testing.T, path string) {
	t.Helper()
	file, err := os.Create(path)
	must(t, err)
	defer file.Close()
	block := make([]byte, 4<<10)
	for err == nil {
		_, err = file.Write(block)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
}

// TestAnAccountThatIsTooSmall is the same for a server of its own.
func TestAnAccountThatIsTooSmall(t *testing.T) {
	c, _ := own(t)
	c.HTTP.Listen = vacant(t)
	examine(t, c).says(t, "disk", doctor.OK, "may hold any amount", "may take 16 MiB")

	o := &server.Options{}
	must(t, o.ProcessConfigString(`accounts { GATE { jetstream { max_file: 8MiB, max_mem: 1MiB }, users: [ { user: gate, password: sesame } ] } }`))
	c.NATS.URLFile, c.NATS.User, c.NATS.Password = "", "gate", "sesame"
	c.NATS.URL = config.ServerURL(run(t, o))
	refused(t, c, "the streams may grow to 16777216 bytes", "may hold 8388608", "raise the account's limit")
	r := examine(t, c)
	r.onlyFails(t, "disk")
	r.says(t, "disk", doctor.Fail, "the streams may grow to 16777216 bytes", "may hold 8388608", "raise the account's limit")
}
