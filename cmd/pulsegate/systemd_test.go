package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
)

// unit is the service's unit file.
const unit = "../../configs/systemd/pulsegate.service"

// TestSystemdIsTold listens as systemd would: ready once it serves, stopping once
// it was told to.
func TestSystemdIsTold(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	must(t, err)
	defer socket.Close()
	must(t, socket.SetReadDeadline(time.Now().Add(mqttest.Patience)))
	expect := func(want string) {
		t.Helper()
		buffer := make([]byte, 256)
		n, err := socket.Read(buffer)
		if err != nil || string(buffer[:n]) != want {
			t.Fatalf("systemd is told %q (%v), want %q", buffer[:n], err, want)
		}
	}
	p := serveProcess(t, filepath.Join(t.TempDir(), "data"), "NOTIFY_SOCKET="+path)
	expect("READY=1")
	must(t, p.Process.Signal(syscall.SIGTERM))
	expect("STOPPING=1")
	must(t, p.end(t))
}

// TestUnit lets systemd read the unit and judge how much the service could do
// that it need not: 0 is nothing, 10 everything.
func TestUnit(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("systemd-analyze is not installed")
		}
		t.Skip("SKIPPED: systemd-analyze is not installed, so nothing read the unit")
	}
	text, err := os.ReadFile(unit)
	must(t, err)
	self, err := os.Executable()
	must(t, err)
	// The program need not be installed here.
	here := strings.ReplaceAll(string(text), "/usr/local/bin/pulsegate", self)
	file := filepath.Join(t.TempDir(), "pulsegate.service")
	must(t, os.WriteFile(file, []byte(here), 0o644))
	// Another name than that of an installed one, if there is one.
	if out, err := exec.Command("systemd-analyze", "verify", "--man=no", file).CombinedOutput(); err != nil || strings.Contains(string(out), file) {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	if out, err := exec.Command("systemd-analyze", "security", "--offline=yes", "--threshold=20", file).CombinedOutput(); err != nil {
		t.Errorf("systemd-analyze security, at most 2.0: %v\n%s", err, out)
	}
}

// TestUnitFitsTheRest reads what else relies on the unit: the alert on restarts
// needs /proc/stat, which ProcSubset=pid hides, and the example for production
// names a file that only its owner may read, which the unit's dynamic user is of
// nothing but the state directory.
func TestUnitFitsTheRest(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(unit)
	must(t, err)
	if strings.Contains(string(text), "\nProcSubset=pid") {
		t.Error("ProcSubset=pid hides /proc/stat, and so process_start_time_seconds")
	}
	_, after, _ := strings.Cut(string(text), "\nStateDirectory=")
	directory, _, _ := strings.Cut(after, "\n")
	c, err := config.Load(config.Sources{File: "../../configs/production.yaml", Environ: []string{"HOME=/"}})
	must(t, err)
	if directory == "" || filepath.Dir(c.NATS.URLFile) != "/var/lib/"+directory {
		t.Errorf("%s is not in the state directory %q", c.NATS.URLFile, directory)
	}
}
