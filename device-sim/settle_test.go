package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge"
	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/engine"
	"github.com/pulsegate/pulsegate/bridge/reading"
	"github.com/pulsegate/pulsegate/device-sim/ledger"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// startGate starts a whole gate with n devices and returns it, their credentials
// and the file with the consumer's URL.
func startGate(t *testing.T, n int) (gate *bridge.Bridge, credentials, consumer string) {
	t.Helper()
	c := config.Default()
	c.Data = t.TempDir()
	c.MQTT.Listen, c.NATS.Listen, c.HTTP.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	c.Store.Vitals.MaxBytes = 64 * config.MiB
	c.Store.Rejections.MaxBytes, c.Store.Audit.MaxBytes, c.Store.Devices.MaxBytes = 8*config.MiB, 8*config.MiB, 8*config.MiB
	gate, err := bridge.Start(t.Context(), c, bridge.Options{Log: zerolog.Nop()})
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := gate.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	var all bytes.Buffer
	for i := range n {
		one, err := gate.Enrol(t.Context(), fmt.Sprintf("w-%d", i+1), fmt.Sprintf("p-%d", i+1))
		must(t, err)
		must(t, json.NewEncoder(&all).Encode(one))
	}
	return gate, all.String(), engine.URLFile(c.Data, "consumer")
}

// settled runs settle with --json; out is all that it prints.
func settled(t *testing.T, args ...string) (r report, out string, failure error) {
	t.Helper()
	out, failure = deviceSim(t, "", append([]string{"settle", "--json"}, args...)...)
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v in %q; %v", err, out, failure)
	}
	return r, out, failure
}

func TestAFleetAndItsAttackerSettle(t *testing.T) {
	gate, credentials, consumer := startGate(t, 5)
	paths, rows := recordings(t, 2)
	honest, attacked := t.TempDir(), t.TempDir()
	_, err := deviceSim(t, credentials, append([]string{
		"--mqtt", gate.MQTT(), "--credentials", "-", "--speed", "200", "--ledger", honest, "--replay",
	}, paths...)...)
	must(t, err)
	_, err = deviceSim(t, credentials, "--mqtt", gate.MQTT(), "--credentials", "-", "--rate", "50", "--duration", "700ms",
		"--attacks", "forged-signature,replay", "--attack-rate", "20", "--ledger", attacked)
	must(t, err)

	r, out, err := settled(t, "--ledger", honest, "--ledger", attacked, "--nats-file", consumer)
	if err != nil || r.Sent <= rows || r.Delivered != r.Sent || r.Acknowledged != r.Sent || len(r.Failures) != 0 {
		t.Errorf("%v: %s", err, out)
	}
	if r.Stream.Messages != uint64(r.Sent) || r.Inversions.Total != 0 {
		t.Errorf("of the stream: %s", out)
	}
	// Without one of the ledgers its readings are nobody's.
	r, out, err = settled(t, "--ledger", honest, "--nats-file", consumer)
	if err == nil || r.Sent != rows || r.Forged != int(r.Stream.Messages)-rows || len(r.Findings.Forged) != ledger.MaxFindings {
		t.Errorf("%v: %s", err, out)
	}
	until := time.Now().Add(time.Hour).Format(time.RFC3339)
	r, out, err = settled(t, "--ledger", honest, "--nats-file", consumer, "--ignore-before", until)
	if err != nil || r.Forged != 0 || r.LeftOut != int(r.Stream.Messages)-rows || r.Delivered != rows {
		t.Errorf("%v: %s", err, out)
	}
	t.Setenv(consumerVariable, urlIn(t, consumer))
	text, err := deviceSim(t, "", "settle", "--ledger", honest, "--ledger", attacked)
	if err != nil || !strings.Contains(text, "\nlost 0, stored twice 0, forged 0, misfiled 0\n") {
		t.Errorf("%v: %s", err, text)
	}
}

func urlIn(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	return strings.TrimSpace(string(text))
}

func identity(t *testing.T, payload []byte) string {
	t.Helper()
	e, err := reading.Split(payload)
	must(t, err)
	return e.Signature.String()
}

const own = "live.p-1.w-1"

func TestSettleFinds(t *testing.T) {
	cases := map[string]struct {
		do   func(t *testing.T, a *archive)
		want report
	}{
		"1 lost": {
			func(t *testing.T, a *archive) { a.acknowledged(t, signed(t, 9, 9)) },
			report{Sent: 3, Acknowledged: 3, Delivered: 2, StoredLive: 2, Lost: 1, Findings: ledger.Findings{Lost: []ledger.Finding{
				{Identity: identity(t, signed(t, 9, 9)), Device: "w-1", Acknowledged: epoch.Add(time.Second)},
			}}},
		},
		"1 stored twice": {
			func(t *testing.T, a *archive) { a.store(t, own, signed(t, 1, 1)) },
			report{Sent: 2, Acknowledged: 2, Delivered: 2, StoredLive: 2, StoredTwice: 1, Findings: ledger.Findings{Duplicated: []ledger.Finding{
				{Identity: identity(t, signed(t, 1, 1)), Device: "w-1", Subject: "vitals." + own, Sequence: 3, FirstSequence: 1},
			}}},
		},
		"1 stored twice, once as late": {
			func(t *testing.T, a *archive) { a.store(t, "late.p-1.w-1.29455", signed(t, 2, 2)) },
			report{Sent: 2, Acknowledged: 2, Delivered: 2, StoredLive: 2, StoredTwice: 1, Findings: ledger.Findings{Duplicated: []ledger.Finding{
				{Identity: identity(t, signed(t, 2, 2)), Device: "w-1", Subject: "vitals.late.p-1.w-1.29455", Sequence: 3, FirstSequence: 2},
			}}},
		},
		"1 forged": {
			func(t *testing.T, a *archive) { a.store(t, "live.p-7.w-7", signed(t, 3, 3)) },
			report{Sent: 2, Acknowledged: 2, Delivered: 2, StoredLive: 2, Forged: 1, Findings: ledger.Findings{Forged: []ledger.Finding{
				{Identity: identity(t, signed(t, 3, 3)), Device: "w-7", Subject: "vitals.live.p-7.w-7", Sequence: 3},
			}}},
		},
		"1 misfiled": {
			func(t *testing.T, a *archive) {
				a.sent(t, signed(t, 4, 4))
				a.store(t, "live.p-2.w-1", signed(t, 4, 4))
			},
			report{Sent: 3, Acknowledged: 2, Delivered: 2, StoredLive: 2, Misfiled: 1, Findings: ledger.Findings{Misfiled: []ledger.Finding{
				{Identity: identity(t, signed(t, 4, 4)), Device: "w-1", Subject: "vitals.live.p-2.w-1", Sequence: 3},
			}}},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			a := openArchive(t)
			for i := range 2 {
				payload := signed(t, i+1, i+1)
				a.acknowledged(t, payload)
				a.store(t, own, payload)
			}
			if r, err := a.settle(t); err != nil || r.Delivered != 2 {
				t.Fatalf("before: %+v: %v", r, err)
			}
			c.do(t, a)
			r, err := a.settle(t)
			what, _, _ := strings.Cut(name, ",")
			if err == nil || err.Error() != "settle: "+what {
				t.Errorf("the error is %v", err)
			}
			c.want.Stream = extent{uint64(a.stored), 1, uint64(a.stored)}
			c.want.Failures = []string{what}
			if got, want := asJSON(t, withoutHashes(r)), asJSON(t, c.want); got != want {
				t.Errorf("got\n%s, want\n%s", got, want)
			}
		})
	}
}

func withoutHashes(r report) report {
	for _, kind := range [][]ledger.Finding{r.Findings.Lost, r.Findings.Duplicated, r.Findings.Forged, r.Findings.Misfiled} {
		for i := range kind {
			kind[i].SHA256 = ""
		}
	}
	return r
}

func asJSON(t *testing.T, r report) string {
	t.Helper()
	text, err := json.Marshal(r)
	must(t, err)
	return string(text)
}

func TestInversionsAreCountedAndNoFailure(t *testing.T) {
	a := openArchive(t)
	// Signed at second, with seq, and stored in this order.
	for _, at := range [][2]int{{1, 1}, {3, 3}, {2, 2}, {3, 4}, {5, 6}, {5, 5}} {
		payload := signed(t, at[0], at[1])
		a.acknowledged(t, payload)
		a.store(t, own, payload)
	}
	late := signed(t, 0, 0)
	a.acknowledged(t, late)
	a.store(t, "late.p-1.w-1.29455", late)
	r, err := a.settle(t)
	if err != nil || r.Inversions != (inversions{Total: 2, Devices: 1}) || r.Delivered != 7 || r.StoredLive != 6 || r.StoredLate != 1 {
		t.Errorf("%+v: %v", r, err)
	}
}

func TestSettleSaysWhatIsWrong(t *testing.T) {
	a := openArchive(t)
	none := filepath.Join(t.TempDir(), "none")
	consumer := urlIn(t, engine.URLFile(a.dir, "consumer"))
	password := strings.TrimPrefix(consumer[:strings.Index(consumer, "@")], "nats://consumer:")
	unsent := t.TempDir()
	must(t, os.WriteFile(filepath.Join(unsent, "w-1.jsonl"), nil, 0o600))
	t.Setenv(consumerVariable, "")
	cases := map[string]struct {
		part string
		args []string
	}{
		"nothing acknowledged": {"nothing was acknowledged", []string{"--ledger", unsent, "--nats", consumer}},
		"an empty directory":   {"no *.jsonl in ", []string{"--ledger", t.TempDir(), "--nats", consumer}},
		"no directory":         {none + ": no such file", []string{"--ledger", a.ledger, "--ledger", none, "--nats", consumer}},
		"no ledger":            {`"ledger" not set`, []string{"--nats", consumer}},
		"no NATS given":        {"--nats URL, --nats-file FILE or $" + consumerVariable, []string{"--ledger", a.ledger}},
		"two NATS":             {"[nats nats-file]", []string{"--ledger", a.ledger, "--nats", consumer, "--nats-file", none}},
		"no file":              {none, []string{"--ledger", a.ledger, "--nats-file", none}},
		"no URL":               {"--nats: not a NATS URL", []string{"--ledger", a.ledger, "--nats", strings.Replace(consumer, "@127", "@%zz127", 1)}},
		"a file with no URL":   {"w-1.jsonl: not a NATS URL", []string{"--ledger", a.ledger, "--nats-file", filepath.Join(unsent, "w-1.jsonl")}},
		"nobody there":         {"no NATS at 127.0.0.1:1:", []string{"--ledger", a.ledger, "--nats", "nats://consumer:" + password + "@127.0.0.1:1"}},
		"a wrong password":     {"refuses these credentials", []string{"--ledger", a.ledger, "--nats", strings.Replace(consumer, password, "wrong", 1)}},
		"another user":         {"does not let this user read", []string{"--ledger", a.ledger, "--nats-file", engine.URLFile(a.dir, "security")}},
		"no time":              {"--ignore-before: ", []string{"--ledger", a.ledger, "--nats", consumer, "--ignore-before", "yesterday"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := deviceSim(t, "", append([]string{"settle"}, c.args...)...)
			switch {
			case err == nil || !strings.Contains(err.Error(), c.part):
				t.Errorf("the error is %v, without %q", err, c.part)
			case strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), password):
				t.Errorf("the error is not one line, or holds the password: %v", err)
			}
		})
	}
	must(t, a.js.DeleteStream(t.Context(), egress.StreamVitals))
	_, err := deviceSim(t, "", "settle", "--ledger", a.ledger, "--nats", consumer)
	if err == nil || !strings.Contains(err.Error(), "is this the NATS of a gate?") {
		t.Errorf("without a stream: %v", err)
	}
}
