package ledger_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/device-sim/ledger"
)

// measured is a reading of a device at a second, with further members.
func measured(t *testing.T, device string, second int, further string) string {
	t.Helper()
	return string(signed(t, fmt.Sprintf(`{"device_id":"w-%s","patient_id":"p-%s","timestamp":%d,"spo2":97,"heart_rate":72%s}`,
		device, device, start.Unix()+int64(second), further)))
}

func TestInversions(t *testing.T) {
	type message struct{ kind, device, payload string }
	live := func(second int, further string) message {
		return message{"live", "1", measured(t, "1", second, further)}
	}
	cases := []struct {
		name   string
		stored []message
		want   ledger.Inversions
	}{
		{"in order", []message{live(1, ""), live(2, ""), live(3, "")}, ledger.Inversions{}},
		{"two come late", []message{live(3, ""), live(1, ""), live(2, ""), live(4, "")}, ledger.Inversions{Total: 2, Devices: 1}},
		{"one moment, by seq", []message{live(1, `,"seq":2`), live(1, `,"seq":1`)}, ledger.Inversions{Total: 1, Devices: 1}},
		{"one moment, one without seq", []message{live(1, `,"seq":2`), live(1, "")}, ledger.Inversions{}},
		{"the clock before seq", []message{live(1, `,"seq":2`), live(2, `,"seq":1`)}, ledger.Inversions{}},
		{"a second copy", []message{live(1, ""), live(2, ""), live(1, "")}, ledger.Inversions{}},
		{"another device", []message{live(2, ""), {"live", "2", measured(t, "2", 1, "")}}, ledger.Inversions{}},
		{"late beside live", []message{live(2, ""), {"late", "1", measured(t, "1", 1, "")}}, ledger.Inversions{}},
		{
			"two devices, live and late",
			[]message{
				live(2, ""), live(1, ""),
				{"late", "2", measured(t, "2", 2, "")}, {"late", "2", measured(t, "2", 1, "")}, {"late", "2", measured(t, "2", 0, "")},
			},
			ledger.Inversions{Total: 3, Devices: 2},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := ledger.NewSettlement(ledger.SettleOptions{})
			for _, m := range c.stored {
				s.Enter(entry(m.device, m.payload, "", 1))
			}
			for i, m := range c.stored {
				subject := "vitals." + m.kind + ".p-" + m.device + ".w-" + m.device
				if m.kind == "late" {
					subject += ".29455384"
				}
				s.Store(ledger.StoredReading{Subject: subject, Payload: []byte(m.payload), Sequence: uint64(i + 1)})
			}
			if got := s.Account().Inversions; got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

func TestIgnoreBeforeLeavesOutOnlyStrangers(t *testing.T) {
	s := ledger.NewSettlement(ledger.SettleOptions{IgnoreBefore: start})
	s.Enter(acknowledged(entry("1", "a", "", 1)))
	s.Enter(entry("1", "x", "attack", 1))
	for _, payload := range []string{"a", "a", "x", "stranger"} {
		for _, at := range []time.Time{start.Add(-time.Nanosecond), start} {
			if payload != "stranger" && at.Equal(start) {
				continue
			}
			s.Store(ledger.StoredReading{Subject: "vitals.live.p-1.w-1", Payload: []byte(payload), Stored: at})
		}
	}
	a := s.Account()
	if a.LeftOut != 1 || a.Forged != 2 || a.Authentic.Delivered != 1 || a.Authentic.Duplicated != 1 || a.Authentic.Lost != 0 {
		t.Errorf("%+v", a)
	}
	if f := a.Findings.Forged; len(f) != 2 || f[0].Attack != "attack" || f[1].SHA256 != ledger.Hash([]byte("stranger")) {
		t.Errorf("%+v", f)
	}
}

func TestFindingsAreTheFirst(t *testing.T) {
	s := ledger.NewSettlement(ledger.SettleOptions{})
	const lost = 2 * ledger.MaxFindings
	for i := range lost {
		s.Enter(acknowledged(entry("1", fmt.Sprint(i), "", 1)))
	}
	for range 2 {
		a := s.Account()
		if a.Authentic.Lost != lost || len(a.Findings.Lost) != ledger.MaxFindings {
			t.Fatalf("%d lost, %d named", a.Authentic.Lost, len(a.Findings.Lost))
		}
		for i, f := range a.Findings.Lost {
			if f.SHA256 != ledger.Hash([]byte(fmt.Sprint(i))) || f.Device != "w-1" || f.Acknowledged.IsZero() {
				t.Errorf("%d is %+v", i, f)
			}
		}
	}
}

func TestOnlyAKilledProcessMayLeaveALine(t *testing.T) {
	const opened = `{"event":"opened","n":0}` + "\n"
	const sent = `{"event":"sent","n":0,"device":"w-1","payload":"YQ=="}` + "\n"
	for name, c := range map[string]struct {
		content string
		want    int // entries; -1: an error
	}{
		"the last, without an end": {opened + sent + `{"event":"se`, 1},
		"the last, with an end":    {opened + sent + `{"event":"se` + "\n", -1},
		"before another opening":   {opened + sent + `{"event":"se` + "\n" + opened + sent, 2},
		"an empty line":            {opened + "\n" + sent, 1},
		"no end, but whole":        {opened + strings.TrimSpace(sent), 1},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, os.WriteFile(filepath.Join(dir, "w-1.jsonl"), []byte(c.content), 0o600))
			entries, err := ledger.Read(dir)
			if c.want < 0 && err == nil || c.want >= 0 && (err != nil || len(entries) != c.want) {
				t.Errorf("%d entries, %v", len(entries), err)
			}
		})
	}
}
