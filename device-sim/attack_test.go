package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pulsegate/pulsegate/device-sim/attack/siege"
)

// TestAttackVerb runs it against a broker that lets everybody in.
func TestAttackVerb(t *testing.T) {
	broker := startBroker(t)
	args := []string{"attack", "--broker", broker, "--credentials", "-", "--attacks", "connect-flood,login-guessing", "--quiet", "150ms"}
	out, err := deviceSim(t, lines(t, 5), append(args, "--json")...)
	if err == nil || !strings.Contains(err.Error(), "login-guessing") {
		t.Errorf("the error is %v", err)
	}
	var report siege.Report
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if len(report.Rows) != 3 || report.Rows[1].Attack != "login-guessing" || report.Rows[1].Otherwise == 0 || report.Honest.Quiet+report.Honest.Attacked == 0 {
		t.Errorf("%+v", report)
	}
	out, err = deviceSim(t, lines(t, 5), append(args[:5:5], "--attacks", "replay", "--quiet", "150ms")...)
	if err != nil || !strings.Contains(out, "AS EXPECTED") || !strings.Contains(out, "the honest device") {
		t.Errorf("%v in %s", err, out)
	}
}

func TestAttackVerbRefuses(t *testing.T) {
	for part, args := range map[string][]string{
		"too few":     {"--credentials", "-"},
		"--attacks":   {"--credentials", "-", "--attacks", "nonsense"},
		"--nats":      {"--credentials", "-", "--nats", "http://consumer:SECRET@127.0.0.1"},
		"--log-level": {"--credentials", "-", "--log-level", "loud"},
		"credentials": {},
	} {
		_, err := deviceSim(t, lines(t, 4), append([]string{"attack"}, args...)...)
		if err == nil || !strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: the error is %v", part, err)
		}
	}
}
