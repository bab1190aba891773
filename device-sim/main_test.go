package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/device-sim/fleet"
	"github.com/pulsegate/pulsegate/device-sim/ledger"
)

// open lets everybody do everything.
type open struct{ mochi.HookBase }

func (*open) Provides(event byte) bool {
	return event == mochi.OnConnectAuthenticate || event == mochi.OnACLCheck
}

func (*open) OnConnectAuthenticate(*mochi.Client, packets.Packet) bool { return true }

func (*open) OnACLCheck(*mochi.Client, string, bool) bool { return true }

func startBroker(t *testing.T) string {
	t.Helper()
	server := mochi.New(&mochi.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err := server.AddHook(new(open), nil); err != nil {
		t.Fatal(err)
	}
	listener := listeners.NewTCP(listeners.Config{ID: "tcp", Address: "127.0.0.1:0"})
	if err := server.AddListener(listener); err != nil {
		t.Fatal(err)
	}
	if err := server.Serve(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return listener.Address()
}

func lines(t *testing.T, n int) string {
	t.Helper()
	var b strings.Builder
	for i := range n {
		id := fmt.Sprintf("w-%d", i+1)
		err := json.NewEncoder(&b).Encode(registry.Credentials{
			DeviceID: id, PatientID: fmt.Sprintf("p-%d", i+1), Topic: "wearables/" + id + "/vitals", Username: id,
			Password: "secret", Key: strings.Repeat("0a", 32),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

// deviceSim runs the command and returns what it prints.
func deviceSim(t *testing.T, in string, args ...string) (string, error) {
	t.Helper()
	out, _, err := bothOutputs(t, in, args...)
	return out, err
}

func bothOutputs(t *testing.T, in string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errOut bytes.Buffer
	c := command()
	c.SetArgs(args)
	c.SetIn(strings.NewReader(in))
	c.SetOut(&out)
	c.SetErr(&errOut)
	err = c.ExecuteContext(t.Context())
	return out.String(), errOut.String(), err
}

func recordings(t *testing.T, n int) (paths []string, rows int) {
	t.Helper()
	for i := range n {
		path := filepath.Join(t.TempDir(), fmt.Sprintf("%d.csv", i))
		file, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := fleet.GenerateRecording(file, 50, uint64(i)); err != nil {
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
		r, err := fleet.OpenRecording(path)
		if err != nil {
			t.Fatal(err)
		}
		paths, rows = append(paths, path), rows+len(r.Rows)
	}
	return paths, rows
}

func TestReplayFromTheCommandLine(t *testing.T) {
	paths, rows := recordings(t, 2)
	dir := t.TempDir()
	args := append([]string{
		"--mqtt", startBroker(t), "--credentials", "-", "--json", "--speed", "200", "--ledger", dir, "--replay",
	}, paths...)
	out, stderr, err := bothOutputs(t, lines(t, 3), args...)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(stderr, "only 2 of 3 devices play") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("of two recordings for three devices it says %q", stderr)
	}
	var total map[string]int
	if err := json.Unmarshal([]byte(out), &total); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	if total["sent"] != rows || total["acknowledged"] != rows || total["unacknowledged"] != 0 || total["never_sent"] != 0 || total["devices"] != 2 {
		t.Errorf("of %d rows: %s", rows, out)
	}
	entries, err := ledger.Read(dir)
	if err != nil || len(entries) != rows {
		t.Errorf("the ledger has %d entries of %d: %v", len(entries), rows, err)
	}
}

func TestAttacksFromTheCommandLine(t *testing.T) {
	out, err := deviceSim(t, lines(t, 3), "--mqtt", startBroker(t), "--credentials", "-", "--duration", "800ms",
		"--rate", "20", "--attacks", "replay,stale", "--attack-rate", "10")
	if err != nil {
		t.Fatal(err)
	}
	// One honest device and the victim; the third is the attacker's.
	if !strings.HasPrefix(out, "2 devices: sent ") || !strings.Contains(out, "attack stale ") || !strings.Contains(out, "attack replay ") ||
		!strings.Contains(out, "acknowledged is not accepted") {
		t.Errorf("it prints %q", out)
	}
}

func TestBadInputIsOneClearError(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	three := lines(t, 3)
	cases := []struct {
		part, in string
		args     []string
	}{
		{"credentials", "", nil},
		{none, "", []string{"--credentials", none}},
		{"standard input: line 4", three + "rubbish\n", []string{"--credentials", "-"}},
		{"standard input", "", []string{"--credentials", "-"}},
		{"--devices: 4", three, []string{"--credentials", "-", "--devices", "4"}},
		{"too few", lines(t, 2), []string{"--credentials", "-", "--attacks", "all"}},
		{"replya", three, []string{"--credentials", "-", "--attacks", "replya"}},
		{none, three, []string{"--credentials", "-", "--replay", none}},
		{"unexpected argument", three, []string{"--credentials", "-", none}},
		{"--log-level", three, []string{"--credentials", "-", "--log-level", "loud"}},
		{"--rate: -1", three, []string{"--credentials", "-", "--rate", "-1"}},
		{"--rate: 0", three, []string{"--credentials", "-", "--rate", "0"}},
		{"--attack-rate: 0", three, []string{"--credentials", "-", "--attack-rate", "0"}},
		{"--speed: 0", three, []string{"--credentials", "-", "--speed", "0"}},
		{"nothing was sent; last: ", three, []string{
			"--credentials", "-", "--mqtt", "127.0.0.1:1", "--duration", "100ms", "--drain", "100ms",
		}},
	}
	for _, c := range cases {
		_, err := deviceSim(t, c.in, c.args...)
		switch {
		case err == nil || !strings.Contains(err.Error(), c.part):
			t.Errorf("%v: the error is %v, want %q in it", c.args, err, c.part)
		case strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "0a0a"):
			t.Errorf("%v: the error has several lines or a key: %q", c.args, err)
		}
	}
}
