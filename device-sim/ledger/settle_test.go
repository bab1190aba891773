package ledger_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/device-sim/ledger"
)

func entry(device, payload, attack string, attempts int) ledger.Entry {
	return ledger.Entry{
		Message: ledger.Message{
			Device: "w-" + device, Patient: "p-" + device, Payload: []byte(payload), Attack: attack,
			Expected: []string{"bad_signature"},
		},
		SHA256: ledger.Hash([]byte(payload)), Attempts: attempts,
	}
}

func acknowledged(e ledger.Entry) ledger.Entry {
	e.Acknowledged = start.Add(time.Second)
	return e
}

func stored(device string, payloads ...string) []ledger.StoredReading {
	var all []ledger.StoredReading
	for _, p := range payloads {
		all = append(all, ledger.StoredReading{Subject: "vitals.live.p-" + device + ".w-" + device, Payload: []byte(p)})
	}
	return all
}

func late(device string, payloads ...string) []ledger.StoredReading {
	all := stored(device, payloads...)
	for i := range all {
		all[i].Subject = "vitals.late.p-" + device + ".w-" + device + ".29455384"
	}
	return all
}

func TestSettle(t *testing.T) {
	honest := []ledger.Entry{
		acknowledged(entry("1", "a", "", 1)), acknowledged(entry("1", "b", "", 2)), entry("1", "c", "", 1),
	}
	cases := []struct {
		name             string
		entries          []ledger.Entry
		stored           []ledger.StoredReading
		want             ledger.Authentic
		forged, misfiled int
		attack           ledger.Attack
	}{
		{
			name: "all well", entries: honest, stored: stored("1", "a", "b"),
			want: ledger.Authentic{Sent: 3, Acknowledged: 2, Delivered: 2, Live: 2},
		},
		{
			name: "stored without an acknowledgement", entries: honest, stored: stored("1", "c", "b", "a"),
			want: ledger.Authentic{Sent: 3, Acknowledged: 2, Delivered: 3, Live: 3},
		},
		{
			name: "lost", entries: honest, stored: stored("1", "b"),
			want: ledger.Authentic{Sent: 3, Acknowledged: 2, Delivered: 1, Live: 1, Lost: 1},
		},
		{
			name: "duplicated", entries: honest, stored: stored("1", "a", "b", "b", "b"),
			want: ledger.Authentic{Sent: 3, Acknowledged: 2, Delivered: 2, Live: 2, Duplicated: 2},
		},
		{
			name: "forged by an attack, and by nobody known", entries: append(honest, entry("1", "x", "attack", 1)),
			stored: stored("1", "a", "b", "x", "y"),
			want:   ledger.Authentic{Sent: 3, Acknowledged: 2, Delivered: 2, Live: 2}, forged: 2,
			attack: ledger.Attack{Sent: 1, Delivered: 1},
		},
		{
			name: "an attack that changed one byte", entries: append(honest, entry("1", "A", "attack", 1)),
			stored: stored("1", "A", "b"),
			want:   ledger.Authentic{Sent: 3, Acknowledged: 2, Delivered: 1, Live: 1, Lost: 1}, forged: 1,
			attack: ledger.Attack{Sent: 1, Delivered: 1},
		},
		{
			name: "a replay that failed", entries: append(honest, entry("1", "a", "attack", 3)),
			stored: stored("1", "a", "b"),
			want:   ledger.Authentic{Sent: 3, Acknowledged: 2, Delivered: 2, Live: 2}, attack: ledger.Attack{Sent: 3},
		},
		{
			name: "a replay that got through", entries: append(honest, entry("1", "a", "attack", 1)),
			stored: stored("1", "a", "b", "a"),
			want:   ledger.Authentic{Sent: 3, Acknowledged: 2, Delivered: 2, Live: 2, Duplicated: 1},
			attack: ledger.Attack{Sent: 1, Delivered: 1},
		},
		{
			name: "stored late", entries: honest, stored: append(stored("1", "b"), late("1", "a", "c")...),
			want: ledger.Authentic{Sent: 3, Acknowledged: 2, Delivered: 3, Live: 1, Late: 2},
		},
		{
			name: "once live and once late", entries: honest, stored: append(stored("1", "a", "b"), late("1", "a")...),
			want: ledger.Authentic{Sent: 3, Acknowledged: 2, Delivered: 2, Live: 2, Duplicated: 1},
		},
		{
			name: "once late and once live", entries: honest, stored: append(late("1", "a", "a"), stored("1", "a", "b")...),
			want: ledger.Authentic{Sent: 3, Acknowledged: 2, Delivered: 2, Live: 1, Late: 1, Duplicated: 2},
		},
		{
			name: "under a subject of no kind", entries: honest,
			stored: append(stored("1", "a", "b"), ledger.StoredReading{Subject: "vitals.other.p-1.w-1", Payload: []byte("c")}),
			want:   ledger.Authentic{Sent: 3, Acknowledged: 2, Delivered: 2, Live: 2}, misfiled: 1,
		},
		{
			name: "under another patient's subject", entries: honest, stored: append(stored("2", "a"), stored("1", "b")...),
			want: ledger.Authentic{Sent: 3, Acknowledged: 2, Delivered: 1, Live: 1, Lost: 1}, misfiled: 1,
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			account := ledger.Settle(c.entries, c.stored)
			if account.Authentic != c.want || account.Forged != c.forged || account.Misfiled != c.misfiled {
				t.Errorf("authentic %+v, forged %d, misfiled %d", account.Authentic, account.Forged, account.Misfiled)
			}
			got := ledger.Attack{}
			if a := account.Attacks["attack"]; a != nil {
				got = *a
			}
			if got.Sent != c.attack.Sent || got.Delivered != c.attack.Delivered {
				t.Errorf("the attack: %+v", got)
			}
		})
	}
}

func TestAttributeCountsOutcomesByAttack(t *testing.T) {
	entries := []ledger.Entry{entry("1", "a", "", 1), entry("1", "x", "forger", 2), entry("1", "y", "forger", 1)}
	account := ledger.Settle(entries, nil)
	account.Attribute(entries, []ledger.Rejection{
		{Outcome: "bad_signature", LeftOut: 3}, {Outcome: "malformed", LeftOut: 4},
		{Outcome: "bad_signature", SHA256: ledger.Hash([]byte("x"))},
		{Outcome: "bad_signature", SHA256: ledger.Hash([]byte("x"))},
		{Outcome: "stale", SHA256: ledger.Hash([]byte("y"))},
		{Outcome: "duplicate", SHA256: ledger.Hash([]byte("a"))},
		{Outcome: "malformed", SHA256: ledger.Hash([]byte("of nobody"))},
	})
	report, err := json.Marshal(account)
	must(t, err)
	const want = `{"authentic":{"sent":1,"acknowledged":0,"delivered":0,"lost":0,"duplicated":0},` +
		`"attacks":{"forger":{"sent":3,"rejected":{"bad_signature":2,"stale":1},"delivered":0}}}`
	if string(report) != want {
		t.Errorf("the report is\n%s, want\n%s", report, want)
	}
	if account.Unattributed != 7 {
		t.Errorf("%d rejections are in summaries, want 7", account.Unattributed)
	}
	if len(account.Undeclared) != 1 || account.Undeclared["forger: stale"] != 1 {
		t.Errorf("undeclared: %v", account.Undeclared)
	}
}
