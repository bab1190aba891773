package ledger_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/bridge/reading"
	"github.com/pulsegate/pulsegate/device-sim/ledger"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 6_000_000, time.UTC)

func open(t *testing.T, dir string) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func book(t *testing.T, l *ledger.Ledger, sender string) *ledger.Book {
	t.Helper()
	b, err := l.Book(sender)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func send(t *testing.T, b *ledger.Book, m ledger.Message, at time.Time) ledger.Ref {
	t.Helper()
	ref, err := b.Sent(m, at)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func signed(t *testing.T, text string) []byte {
	t.Helper()
	payload, err := reading.Sign([]byte("a key"), []byte(text))
	must(t, err)
	return payload
}

func TestEntriesFoldWhatWasNoted(t *testing.T) {
	for name, dir := range map[string]string{"memory": "", "files": t.TempDir()} {
		t.Run(name, func(t *testing.T) {
			l := open(t, dir)
			payload := signed(t, `{"a":1}`)
			b := book(t, l, "w-1")
			first := send(t, b, ledger.Message{Device: "w-1", Patient: "p-1", Topic: "x", Payload: payload, QoS: 1, Expected: []string{"accepted"}}, start)
			send(t, book(t, l, "attacker.w-9"), ledger.Message{Device: "w-1", Payload: []byte("\xff\x00"), Attack: "forged"}, start.Add(time.Second))
			must(t, b.Again(first, start.Add(2*time.Second)))
			must(t, b.Acknowledged(first, start.Add(3*time.Second)))

			entries, err := l.Entries()
			must(t, err)
			if len(entries) != 2 {
				t.Fatalf("%d entries, want 2", len(entries))
			}
			e := entries[0]
			envelope, err := reading.Split(payload)
			must(t, err)
			switch {
			case e.Sender != "w-1" || string(e.Payload) != string(payload) || e.Topic != "x" || e.QoS != 1 || !e.Honest():
				t.Errorf("the message came back as %+v", e)
			case e.Identity != envelope.Signature.String() || e.SHA256 != ledger.Hash(payload):
				t.Errorf("identity %s, hash %s", e.Identity, e.SHA256)
			case e.Attempts != 2 || !e.Sent.Equal(start) || !e.LastSent.Equal(start.Add(2*time.Second)):
				t.Errorf("attempts %d from %v to %v", e.Attempts, e.Sent, e.LastSent)
			case !e.Acknowledged.Equal(start.Add(3 * time.Second)):
				t.Errorf("acknowledged %v", e.Acknowledged)
			}
			if f := entries[1]; f.Honest() || string(f.Payload) != "\xff\x00" || f.Identity != "" || !f.Acknowledged.IsZero() {
				t.Errorf("the attack's message came back as %+v", f)
			}
		})
	}
}

func TestBookSurvivesAKilledProcess(t *testing.T) {
	dir := t.TempDir()
	first := open(t, dir)
	send(t, book(t, first, "w-1"), ledger.Message{Device: "w-1", Payload: []byte("one")}, start)
	must(t, first.Close())
	path := filepath.Join(dir, "w-1.jsonl")
	torn, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = torn.WriteString(`{"event":"sent","n":1,"pay`)
	must(t, err)
	must(t, torn.Close())

	entries, err := ledger.Read(dir)
	must(t, err)
	if len(entries) != 1 {
		t.Fatalf("%d entries after the kill, want 1", len(entries))
	}

	second := open(t, dir)
	b := book(t, second, "w-1")
	ref := send(t, b, ledger.Message{Device: "w-1", Payload: []byte("two")}, start.Add(time.Second))
	must(t, b.Acknowledged(ref, start.Add(2*time.Second)))
	entries, err = second.Entries()
	must(t, err)
	if len(entries) != 2 || !entries[0].Acknowledged.IsZero() || entries[1].Acknowledged.IsZero() {
		t.Fatalf("after the second run: %+v", entries)
	}
}

func TestReadNamesFileAndLineOfRubbish(t *testing.T) {
	for name, line := range map[string]string{
		"not JSON":      `rubbish`,
		"unknown event": `{"event":"forgotten","n":0}`,
		"no such entry": `{"event":"again","n":0}`,
		"out of order":  `{"event":"sent","n":3,"device":"d"}`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			// What follows shows that no killed process left the line so.
			content := `{"event":"opened","n":0}` + "\n" + line + "\n" + `{"event":"again","n":0}` + "\n"
			must(t, os.WriteFile(filepath.Join(dir, "w-1.jsonl"), []byte(content), 0o600))
			_, err := ledger.Read(dir)
			if err == nil || !strings.Contains(err.Error(), "w-1.jsonl line 2") {
				t.Errorf("the error is %v", err)
			}
		})
	}
	if _, err := ledger.Read(t.TempDir()); err == nil {
		t.Error("an empty directory is a ledger")
	}
}

func TestBookNames(t *testing.T) {
	l := open(t, "")
	for _, name := range []string{"", "../w-1", "a/b", ".hidden", "ä"} {
		if _, err := l.Book(name); err == nil {
			t.Errorf("%q names a book", name)
		}
	}
	first, second := book(t, l, "w-1"), book(t, l, "w-1")
	if first != second {
		t.Error("one sender has two books")
	}
	if err := first.Acknowledged(0, start); err == nil {
		t.Error("an entry that is not there was acknowledged")
	}
}
