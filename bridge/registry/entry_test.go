package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
)

var noted = time.Date(2025, 11, 21, 23, 0, 0, 0, time.UTC)

// soundEntry is of a device that was imported, rotated and moved.
func soundEntry() Entry {
	return Entry{
		Kind: KindDevice, ID: "w-1", State: Active, Enrolment: strings.Repeat("ab", 16), Master: "1",
		Keys: []KeyEntry{
			{Generation: 2, Master: "1", From: noted},
			{Generation: 1, Master: "1", From: noted, Until: noted.Add(time.Hour), Sealed: make([]byte, 60)},
		},
		Assignments: []Assignment{{PatientID: "p-2", From: noted}, {PatientID: "p-1", From: noted, Until: noted}},
		Added:       noted, Changed: noted, ChangedBy: "ann",
	}
}

func offline(masters string) *Registry {
	m, err := ParseMasters([]byte(masters))
	if err != nil {
		panic(err)
	}
	return &Registry{masters: m, options: Options{
		Topic: func(id string) string { return id }, KeepHistory: 72 * time.Hour,
		Now: func() time.Time { return noted }, Log: zerolog.Nop(),
	}}
}

func text(t testing.TB, e Entry) []byte {
	t.Helper()
	value, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

const spilled = "spilled-content"

// badEntries are values of the key w-1 that cannot be used.
func badEntries(t testing.TB) map[string][]byte {
	changed := func(change func(*Entry)) []byte {
		e := soundEntry()
		change(&e)
		return text(t, e)
	}
	return map[string][]byte{
		"no JSON":                []byte(spilled),
		"two values":             append(text(t, soundEntry()), spilled...),
		"another type":           []byte(`{"id":"w-1","kind":["` + spilled + `"]}`),
		"no time":                bytes.Replace(text(t, soundEntry()), []byte("2025"), []byte(spilled), 1),
		"nothing":                nil,
		"null":                   []byte("null"),
		"an empty object":        []byte("{}"),
		"another id":             changed(func(e *Entry) { e.ID = spilled }),
		"another kind":           changed(func(e *Entry) { e.Kind = spilled }),
		"another state":          changed(func(e *Entry) { e.State = spilled }),
		"no master":              changed(func(e *Entry) { e.Master = "" }),
		"a master that is no id": changed(func(e *Entry) { e.Master = spilled + "." }),
		"no key":                 changed(func(e *Entry) { e.Keys = nil }),
		"no patient":             changed(func(e *Entry) { e.Assignments = nil }),
		"a patient of two":       changed(func(e *Entry) { e.Assignments[1].PatientID = spilled + ".x" }),
		"short enrolment":        changed(func(e *Entry) { e.Enrolment = "abcd" }),
		"enrolment in words":     changed(func(e *Entry) { e.Enrolment = spilled }),
		"generation 0":           changed(func(e *Entry) { e.Keys[1].Generation = 0 }),
		"generations reversed":   changed(func(e *Entry) { e.Keys[0].Generation = 1 }),
		"an old key for ever":    changed(func(e *Entry) { e.Keys[1].Until = time.Time{} }),
		"a key of no master":     changed(func(e *Entry) { e.Keys[1].Master = "" }),
	}
}

func TestEntriesThatCannotBeUsed(t *testing.T) {
	if _, err := parseEntry("w-1", text(t, soundEntry())); err != nil {
		t.Fatal(err)
	}
	for name, value := range badEntries(t) {
		if _, err := parseEntry("w-1", value); err == nil || strings.Contains(err.Error(), spilled) {
			t.Errorf("%s: %v, want an error that quotes nothing", name, err)
		}
	}
	for _, key := range []string{"w-2", "W-1", "", "_"} {
		e := soundEntry()
		if key == "_" || key == "" {
			e.ID = key
		}
		if _, err := parseEntry(key, text(t, e)); err == nil {
			t.Errorf("an entry under the key %q is taken", key)
		}
	}
}

// TestAnEntryNeedsItsMasters takes masters away.
func TestAnEntryNeedsItsMasters(t *testing.T) {
	r := offline("other " + digits + "\nfresh " + others + "\n")
	for name, c := range map[string]struct {
		change func(*Entry)
		says   string
	}{
		"all there":             {func(*Entry) {}, ""},
		"of the newest key":     {func(e *Entry) { e.Keys[0].Master = "gone" }, `generation 2 needs the master key "gone"`},
		"of a key in force":     {func(e *Entry) { e.Keys[1].Master = "gone" }, `generation 1 needs the master key "gone"`},
		"of a key that is over": {func(e *Entry) { e.Keys[1].Master, e.Keys[1].Until = "gone", noted }, ""},
		"of the password":       {func(e *Entry) { e.Master = "gone" }, `password needs the master key "gone"`},
	} {
		e := soundEntry()
		e.Master, e.Keys[0].Master, e.Keys[1].Master = "fresh", "fresh", "other"
		c.change(&e)
		if _, err := r.memberOf(&e); (c.says == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("the master %s is missing: %v, want %q", name, err, c.says)
		}
	}
}

func TestTrimForgetsWhatEndedLongAgo(t *testing.T) {
	e := Entry{}
	for i := range 5 {
		until := noted.Add(-time.Duration(i) * time.Hour)
		e.Keys = append(e.Keys, KeyEntry{Generation: uint32(5 - i), Until: until})
		e.Assignments = append(e.Assignments, Assignment{PatientID: fmt.Sprint(i), Until: until})
	}
	e.Keys[0].Until, e.Assignments[0].Until = time.Time{}, time.Time{}
	for before, want := range map[time.Duration]int{-5 * time.Hour: 5, -3 * time.Hour: 4, -time.Hour: 2, time.Hour: 1} {
		c := e.clone()
		c.trim(noted.Add(before))
		if len(c.Keys) != want || len(c.Assignments) != want || c.Generation() != 5 || c.Patient() != "0" {
			t.Errorf("%d keys and %d assignments are left after %v, want %d", len(c.Keys), len(c.Assignments), before, want)
		}
	}
}

func TestPending(t *testing.T) {
	e := soundEntry()
	for after, want := range map[time.Duration]bool{0: true, time.Hour - 1: true, time.Hour: false} {
		if got := e.Pending(noted.Add(after)); got != want {
			t.Errorf("%v after: pending is %v, want %v", after, got, want)
		}
	}
	e.Keys[0].Used = noted
	if e.Pending(noted) {
		t.Error("pending although the new key is in use")
	}
	e.Keys = e.Keys[:1]
	e.Keys[0].Used = time.Time{}
	if e.Pending(noted) {
		t.Error("a device that was never rotated is pending")
	}
}

// TestTimesOfKeys go through what a member keeps of them.
func TestTimesOfKeys(t *testing.T) {
	for _, until := range []time.Time{
		{}, noted, noted.Add(time.Microsecond), time.Unix(0, 0).UTC(), time.Date(1, 1, 1, 0, 0, 1, 0, time.UTC), time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC),
	} {
		k := held{until: microseconds(until)}
		if got := k.end(); got.Sub(until).Abs() > time.Microsecond || got.IsZero() != until.IsZero() {
			t.Errorf("%v is kept as %v", until, got)
		}
	}
}

// update is what the watch of the bucket brings.
type update struct {
	jetstream.KeyValueEntry
	key   string
	value []byte
}

func (u update) Key() string                     { return u.key }
func (u update) Value() []byte                   { return u.value }
func (u update) Revision() uint64                { return 1 }
func (u update) Operation() jetstream.KeyValueOp { return jetstream.KeyValuePut }

// FuzzEntry takes what may stand in the bucket through all that is done with it: it
// is served or counted as disabled, and no log line quotes it; written again it
// says the same.
func FuzzEntry(f *testing.F) {
	f.Add("w-1", text(f, soundEntry()))
	e := soundEntry()
	e.Keys, e.Kind = nil, KindGateway
	e.Carries, e.Prefixes, e.Labels = []string{"w-1"}, []string{"x-"}, map[string]string{"maker": "\u2028<&"}
	f.Add("w-1", text(f, e))
	for _, value := range badEntries(f) {
		f.Add("w-1", value)
	}
	r := offline("1 " + digits)
	r.members, r.disabled, r.changed = make(map[string]*member), make(map[string]struct{}), make(chan struct{})
	var log bytes.Buffer
	r.options.Log = zerolog.New(&log)
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		log.Reset()
		r.apply(update{key: key, value: value})
		m := r.find(key)
		if (m == nil) != (r.Disabled() == 1 || key == keyProofs) || bytes.Contains(log.Bytes(), []byte(spilled)) {
			t.Errorf("%q: served is %v, disabled are %d, and the log says %s", value, m, r.Disabled(), log.Bytes())
		}
		r.apply(update{key: key, value: nil})
		delete(r.disabled, key)
		e, err := parseEntry(key, value)
		if err != nil {
			return
		}
		useEntry(t, r, e)
		again, err := parseEntry(key, text(t, e))
		if err != nil || !bytes.Equal(text(t, again), text(t, e)) {
			t.Errorf("%q says another time %q, %v", text(t, e), text(t, again), err)
		}
	})
}

func useEntry(t *testing.T, r *Registry, e Entry) {
	t.Helper()
	c := e.clone()
	m, err := r.memberOf(&c)
	if err != nil {
		return
	}
	keys := r.signing(m)
	m.passwordMasters(noted)
	_, _ = r.credentials(m)
	if m.id != e.ID || e.Kind == KindDevice && (len(keys) > len(e.Keys) || m.patient == "") {
		t.Errorf("%+v became %+v with %d keys", e, m, len(keys))
	}
	if e.Pending(noted) && len(e.Keys) < 2 {
		t.Errorf("%+v is pending", e)
	}
}

// TestMemoryOfADevice measures what a device costs beside the watch.
func TestMemoryOfADevice(t *testing.T) {
	if Racing {
		t.Skip("the race detector takes memory of its own")
	}
	const most = 300
	for name, c := range map[string]struct {
		devices int
		change  func(*Entry)
	}{
		"derived":  {100_000, func(e *Entry) { e.Keys = e.Keys[:1] }},
		"imported": {50_000, func(e *Entry) { e.Keys = []KeyEntry{{Generation: 1, Master: "1", Sealed: make([]byte, 60)}} }},
		"rotated":  {50_000, func(e *Entry) { e.Keys[1].Sealed = nil }},
	} {
		e := soundEntry()
		c.change(&e)
		e.ID, e.Assignments = "w-0000001", []Assignment{{PatientID: "p-0000001", From: noted}}
		pattern := text(t, e)
		r := offline("1 " + digits + "\n")
		r.members = make(map[string]*member)
		before := heap()
		for i := range c.devices {
			number := fmt.Appendf(nil, "-%07d", i)
			e, err := parseEntry("w"+string(number), bytes.ReplaceAll(pattern, []byte("-0000001"), number))
			if err != nil {
				t.Fatal(err)
			}
			m, err := r.memberOf(&e)
			if err != nil {
				t.Fatal(err)
			}
			r.members[m.id] = m
		}
		cost := (float64(heap()) - float64(before)) / float64(c.devices)
		runtime.KeepAlive(r)
		t.Logf("%s: %.0f bytes a device", name, cost)
		if len(r.members) != c.devices || cost > most {
			t.Errorf("%s: %d devices cost %.0f bytes each, more than %d", name, len(r.members), cost, most)
		}
	}
}

// heap collects twice: the first time may leave what finalizers still hold.
func heap() uint64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
