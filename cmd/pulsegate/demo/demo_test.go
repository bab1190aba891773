package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/device-sim/attack"
	"github.com/pulsegate/pulsegate/device-sim/ledger"
)

func TestDemoSettles(t *testing.T) {
	var out bytes.Buffer
	report, err := Run(t.Context(), Options{
		Duration: 8 * time.Second, Devices: 10, Rate: 4, Attacks: "all", Seed: 1, Out: &out, Log: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if f := report.Failures(); len(f) > 0 {
		t.Fatalf("failures: %q\n%s", f, out.String())
	}
	a := report.Authentic
	if a.Sent < 100 || a.Sent != a.Acknowledged || a.Sent != a.Delivered || a.Lost != 0 || a.Duplicated != 0 {
		t.Errorf("authentic: %+v", a)
	}
	if len(report.Attacks) != len(attack.All()) {
		t.Errorf("%d attacks in the report, want %d", len(report.Attacks), len(attack.All()))
	}
	for name, one := range report.Attacks {
		if one.Sent == 0 || one.Delivered != 0 || len(one.Rejected) != 1 {
			t.Errorf("attack %s: %+v", name, one)
		}
	}
	if report.Latency.P50 <= 0 || report.Latency.P99 < report.Latency.P50 {
		t.Errorf("latency: %+v", report.Latency)
	}
	if !strings.Contains(out.String(), "UNDER ATTACK") {
		t.Errorf("the plain lines do not show the attack:\n%s", out.String())
	}
}

func TestReportHasTheFixedNames(t *testing.T) {
	report := settle(nil, nil, nil, attack.All()[:1])
	text, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"authentic":{"sent":0,"acknowledged":0,"delivered":0,"lost":0,"duplicated":0},` +
		`"attacks":{"` + attack.All()[0].Name + `":{"sent":0,"rejected":{},"delivered":0}},"latency_ms":{"p50":0,"p99":0}}`
	if string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	if f := report.Failures(); len(f) != 2 {
		t.Errorf("an empty run must fail for having sent nothing, twice: %q", f)
	}
}

// An interrupt ends the demo early, with the account.
func TestInterruptSettles(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	out := &interrupting{cancel: cancel}
	report, err := Run(ctx, Options{Devices: 3, Rate: 10, Attacks: "none", Seed: 1, Out: out, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	if f := report.Failures(); len(f) > 0 || report.Authentic.Sent == 0 {
		t.Errorf("%+v, failures %q", report, f)
	}
}

// interrupting cancels once the board shows its first line of state.
type interrupting struct{ cancel context.CancelFunc }

func (i *interrupting) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("emergencies")) {
		i.cancel()
	}
	return len(p), nil
}

func TestFailuresAreNamed(t *testing.T) {
	account := ledger.Account{
		Authentic:  ledger.Authentic{Sent: 5, Acknowledged: 4, Lost: 1, Duplicated: 2},
		Attacks:    map[string]*ledger.Attack{"replay": {}, "future": {Sent: 3, Rejected: map[string]int{"future": 2}}},
		Forged:     3,
		Misfiled:   1,
		Undeclared: map[string]int{"stale: late": 1},
	}
	got := strings.Join(failures(account), "\n")
	for _, want := range []string{
		"1 authentic readings were not acknowledged", "1 authentic readings were acknowledged and lost",
		"2 authentic readings were delivered twice", "3 forged readings were delivered", "1 readings were delivered under another",
		"attack replay sent nothing", "attack future met no outcome 1 times of 3", "attack stale: late, which it did not declare",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("missing %q in:\n%s", want, got)
		}
	}
}

// What triage would believe without the gate is not what it believes with it.
func TestBoardShowsTheFakeOnOneSideOnly(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	b := newBoard(func() time.Time { return now })
	for _, payload := range []string{
		`{"patient_id":"p-1","spo2":98,"heart_rate":70}`, `{"patient_id":"p-2","spo2":92,"heart_rate":70}`,
	} {
		b.raw("t", []byte(payload))
		b.verified([]byte(payload))
	}
	b.raw("t", []byte(`{"patient_id":"p-1","spo2":55,"heart_rate":180}`))
	b.raw("t", []byte("{\"patient_id\":\"\\u001b[2J\",\"spo2\":55}"))
	b.refused("bad_signature", 1)
	without, within, refused, _ := b.views()
	if without.emergencies != 1 || within.emergencies != 0 || refused != 1 || len(without.patients) != 2 {
		t.Errorf("without %+v, within %+v, refused %d", without, within, refused)
	}
	if without.patients[0].id != "p-1" || within.patients[0].id != "p-2" {
		t.Errorf("not ranked by urgency: without %+v, within %+v", without, within)
	}
	now = now.Add(alarmStays)
	b.raw("t", []byte(`{"patient_id":"p-1","spo2":98,"heart_rate":70}`))
	if without, _, _, _ = b.views(); without.emergencies != 0 {
		t.Errorf("the alarm stays for ever: %+v", without)
	}
}

func TestScores(t *testing.T) {
	for _, c := range []struct {
		spo2, heartRate float64
		a, b            int
	}{
		{91, 40, 3, 3}, {92, 41, 2, 1}, {93, 50, 2, 1}, {94, 51, 1, 0}, {95, 90, 1, 0}, {96, 91, 0, 1},
		{100, 110, 0, 1}, {100, 111, 0, 2}, {100, 130, 0, 2}, {100, 131, 0, 3},
	} {
		if a, b := scoreSpO2(c.spo2), scoreHeartRate(c.heartRate); a != c.a || b != c.b {
			t.Errorf("SpO2 %v: %d, want %d; heart rate %v: %d, want %d", c.spo2, a, c.a, c.heartRate, b, c.b)
		}
	}
}

func TestWrongOptions(t *testing.T) {
	for _, o := range []Options{
		{Devices: 0, Rate: 1}, {Devices: 1, Rate: 0}, {Devices: 1, Rate: 1, Duration: -1},
		{Devices: 1, Rate: 1, Attacks: "nonsense"}, {Devices: 1, Rate: 1, Replay: []string{"absent.csv"}},
	} {
		if _, err := Run(t.Context(), o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}
