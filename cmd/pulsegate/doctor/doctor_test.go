package doctor_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/cmd/pulsegate/doctor"
)

func TestAHealthyGate(t *testing.T) {
	c := start(t, settings(t))
	r := examine(t, c)
	if len(r) < 12 {
		t.Errorf("only %d lines", len(r))
	}
	for _, check := range r {
		if check.Status != doctor.OK {
			t.Errorf("%s %s: %s", check.Status, check.Name, check.Message)
		}
	}
	r.says(t, "data directory", doctor.OK, c.Data, "in use by a running pulsegate, process ")
	r.says(t, "mqtt", doctor.OK, c.MQTT.Listen, "measured 1h0m")
	r.says(t, "clock", doctor.OK, "2s are allowed")
	r.says(t, "disk", doctor.OK, "may take 16 MiB")
}

// TestItLeavesNoReading looks at all that is stored after an examination.
func TestItLeavesNoReading(t *testing.T) {
	c, js := own(t)
	c = start(t, c)
	r := examine(t, c)
	r.onlyFails(t)
	r.says(t, "mqtt", doctor.OK, c.MQTT.Listen)
	r.says(t, "permissions", doctor.OK, "in the account GATE")
	last := map[string]string{}
	for name, want := range map[string]uint64{"VITALS": 0, "REJECTIONS": 1, "AUDIT": 2} {
		stream, err := js.Stream(within(t), name)
		must(t, err)
		got := stream.CachedInfo().State.LastSeq
		for ctx := within(t); got < want; { // events are published beside
			info, err := stream.Info(ctx)
			must(t, err)
			got = info.State.LastSeq
		}
		if got != want {
			t.Errorf("%s holds %d messages, want %d", name, got, want)
		}
		if want > 0 {
			m, err := stream.GetMsg(within(t), want)
			must(t, err)
			last[name] = m.Subject + " " + string(m.Data)
		}
	}
	if !strings.HasPrefix(last["REJECTIONS"], "rejected.future.doctor-") || !strings.Contains(last["AUDIT"], `"by":"a test"`) || !strings.HasPrefix(last["AUDIT"], "audit.registry.remove ") {
		t.Errorf("what is left is %q", last)
	}
	bucket, err := js.KeyValue(within(t), "devices")
	must(t, err)
	keys, err := bucket.Keys(within(t))
	must(t, err)
	if len(keys) != 1 || keys[0] != "masters.proofs" {
		t.Errorf("the registry holds %q", keys)
	}
}

func TestBeforeTheFirstStart(t *testing.T) {
	c := settings(t)
	c.Data = filepath.Join(c.Data, "none")
	c.HTTP.Listen = vacant(t)
	r := examine(t, c)
	r.onlyFails(t)
	r.says(t, "data directory", doctor.Warn, "is not there yet")
	r.says(t, "gate", doctor.Skipped, "start it with `pulsegate serve`")
	r.says(t, "nats", doctor.Skipped, "start it with `pulsegate serve`")
	r.says(t, "mqtt", doctor.Skipped, `it needs "gate"`)
	if _, err := os.Stat(c.Data); err == nil {
		t.Error("the data directory has been made")
	}

	c, js := own(t)
	c.HTTP.Listen = vacant(t)
	r = examine(t, c)
	r.onlyFails(t)
	r.says(t, "streams", doctor.Skipped, "VITALS is not there yet")
	r.says(t, "registry", doctor.Skipped, "not there yet")
	r.says(t, "clock", doctor.Skipped, "start the gate")
	if _, err := js.Stream(within(t), "VITALS"); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("VITALS: %v", err)
	}
}

// vacant is an address where nobody listens.
func vacant(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().String()
}

func TestTwoGatesOnOneDirectory(t *testing.T) {
	first := start(t, settings(t))
	second := settings(t)
	second.Data, second.HTTP.Listen = first.Data, vacant(t)
	refused(t, second, first.Data, "is in use by another pulsegate (process ")
	r := examine(t, second)
	r.onlyFails(t, "gate")
	r.says(t, "gate", doctor.Fail, first.Data, "in use by a running pulsegate, process ", second.HTTP.Listen, "give each its own directory")

	other := settings(t)
	other.HTTP.Listen = first.HTTP.Listen
	r = examine(t, other)
	r.onlyFails(t, "gate")
	r.says(t, "gate", doctor.Fail, "does not use the data directory "+other.Data)
}

// TestItEndsInTime lets everything hang: what is there takes connections and says
// nothing.
func TestItEndsInTime(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	c := settings(t)
	c.HTTP.Listen, c.MQTT.Listen = l.Addr().String(), l.Addr().String()
	c.NATS.URL = config.ServerURL("nats://gate:sesame@" + l.Addr().String())
	began := time.Now()
	r := examine(t, c)
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("it took %v", took)
	}
	r.says(t, "nats", doctor.Fail, l.Addr().String(), "cannot be reached")
	r.says(t, "streams", doctor.Skipped, `it needs "permissions"`)
	if strings.Contains(r.String(), "sesame") {
		t.Errorf("it tells the password:\n%s", r)
	}
}

func TestConfigurationThatCannotBeLoaded(t *testing.T) {
	o := options(config.Config{})
	o.Refused = &config.Error{Origin: "gate.yaml:3", Key: "mqtt.listen", Problem: "is not host:port"}
	r := result(doctor.Run(t.Context(), o))
	r.onlyFails(t, "configuration")
	r.says(t, "configuration", doctor.Fail, "gate.yaml:3: mqtt.listen: is not host:port")
	for _, check := range r[1:] {
		if check.Status != doctor.Skipped {
			t.Errorf("%s is %s", check.Name, check.Status)
		}
	}
	var text bytes.Buffer
	must(t, doctor.PrintJSON(&text, r))
	var all []map[string]string
	must(t, json.Unmarshal(text.Bytes(), &all))
	if len(all) != len(r) || all[0]["check"] != "configuration" || all[0]["status"] != "fail" || all[0]["message"] == "" || len(all[0]) != 3 {
		t.Errorf("the JSON is %s", text.String())
	}
}

func TestAnonymousIsWarnedOf(t *testing.T) {
	c := settings(t)
	c.MQTT.Anonymous = config.AnonymousLoopback
	c = start(t, c)
	r := examine(t, c)
	r.onlyFails(t)
	r.says(t, "configuration", doctor.Warn, "mqtt.anonymous is loopback")
	r.says(t, "mqtt", doctor.OK)
}
