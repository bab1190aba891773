package registry

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestMasterIsMadeOnceAndKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "master.key")
	first, err := LoadMasters(file)
	if err != nil || len(first.all) != 1 || len(first.all[0].secret) != masterSize || bytes.Equal(first.all[0].secret, make([]byte, masterSize)) {
		t.Fatalf("new masters %v: %v", first.IDs(), err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v (%v), want 0600", info.Mode(), err)
	}
	second, err := LoadMasters(file)
	if err != nil || !bytes.Equal(first.Newest().secret, second.Newest().secret) {
		t.Errorf("the second start has another master (%v)", err)
	}
	left, err := os.ReadDir(filepath.Dir(file))
	if err != nil || len(left) != 1 {
		t.Errorf("%d files are left in the directory (%v), want the key alone", len(left), err)
	}
	other, err := LoadMasters(filepath.Join(t.TempDir(), "master.key"))
	if err != nil || bytes.Equal(first.Newest().secret, other.Newest().secret) {
		t.Errorf("two new masters are the same (%v)", err)
	}
}

func TestStartsAtTheSameInstantShareOneMaster(t *testing.T) {
	file := filepath.Join(t.TempDir(), "master.key")
	var masters [8]Masters
	var starts sync.WaitGroup
	for i := range masters {
		starts.Go(func() {
			var err error
			if masters[i], err = LoadMasters(file); err != nil {
				t.Error(err)
			}
		})
	}
	starts.Wait()
	for _, m := range masters[1:] {
		if !bytes.Equal(m.Newest().secret, masters[0].Newest().secret) {
			t.Fatal("two starts made two masters")
		}
	}
}

const (
	digits = "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f"
	others = "1A1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1A"
)

func TestMastersOfAFile(t *testing.T) {
	for name, c := range map[string]struct {
		text, ids string
		newest    byte
	}{
		"alone":          {digits, "1", 0x0f},
		"a final line":   {strings.ToUpper(digits) + "\r\n", "1", 0x0f},
		"with an id":     {"ward-7 " + digits + "\n", "ward-7", 0x0f},
		"several":        {"1 " + digits + "\n2025 " + others + "\n", "1 2025", 0x1a},
		"first without":  {digits + "\n2 " + others, "1 2", 0x1a},
		"spaces":         {"  b   " + digits + "  \n\n\ta " + others + "\n\n", "b a", 0x1a},
		"comments":       {"# the first\n" + digits + "\n#2 " + others + "\n", "1", 0x0f},
		"the same twice": {"1 " + digits + "\n2 " + digits, "1 2", 0x0f},
	} {
		m, err := ParseMasters([]byte(c.text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := strings.Join(m.IDs(), " "); got != c.ids || m.Newest().secret[0] != c.newest {
			t.Errorf("%s: masters %q, want %q", name, got, c.ids)
		}
		for _, id := range m.IDs() {
			if one, ok := m.Find(id); !ok || one.ID != id {
				t.Errorf("%s: %q is not found", name, id)
			}
		}
		if _, ok := m.Find("absent"); ok {
			t.Errorf("%s: one is found that is not there", name)
		}
	}
}

func TestMasterFilesThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		says []string
	}{
		"readable by the group": {digits, 0o640, []string{"mode 0640", "chmod 600 "}},
		"readable by all":       {digits, 0o604, []string{"mode 0604", "chmod 600 "}},
		"writable by the group": {digits, 0o620, []string{"mode 0620", "chmod 600 "}},
		"empty":                 {"", 0o600, []string{"64 hexadecimal digits"}},
		"comments only":         {"# nothing\n\n", 0o600, []string{"64 hexadecimal digits"}},
		"short":                 {digits[2:], 0o600, []string{"line 1", "64 hexadecimal digits", "backup"}},
		"long":                  {digits + "00", 0o600, []string{"line 1", "64 hexadecimal digits"}},
		"no digits":             {strings.Repeat("zq", masterSize), 0o600, []string{"64 hexadecimal digits"}},
		"an id alone":           {digits + "\n\nhidden", 0o600, []string{"line 3", "64 hexadecimal digits"}},
		"turned round":          {digits + " 0f0f0f0f", 0o600, []string{"line 1", "64 hexadecimal digits"}},
		"three words":           {"0f0f0f0f " + digits + " " + digits, 0o600, []string{"line 1"}},
		"no id":                 {"a\n" + "0f.0f0f " + digits, 0o600, []string{"line 1"}},
		"an id with a dot":      {"# one\n0f.0f0f0f " + digits, 0o600, []string{"line 2", "A-Za-z0-9_-"}},
		"the same id":           {"0f0f0f0f " + digits + "\n0f0f0f0f " + others, 0o600, []string{"line 2", "second master with the same id"}},
		"twice without":         {digits + "\n" + others, 0o600, []string{"line 2", "second master with the same id"}},
		"1 and without":         {"1 " + digits + "\n" + others, 0o600, []string{"line 2", "second master with the same id"}},
		"an endless line":       {strings.Repeat("0f0f0f0f", 1<<14), 0o600, []string{"token too long"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "master.key")
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(file, c.mode); err != nil {
				t.Fatal(err)
			}
			_, err := LoadMasters(file)
			for _, part := range append(c.says, file) {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("the error is %v, want it to say %q", err, part)
				}
			}
			for _, part := range []string{"0f0f0f0f", "1a1a1a1a", "zqzqzqzq", "hidden"} {
				if err != nil && strings.Contains(strings.ToLower(err.Error()), part) {
					t.Errorf("the error quotes the file: %v", err)
				}
			}
			if text, err := os.ReadFile(file); err != nil || string(text) != c.text {
				t.Errorf("the file was changed (%v)", err)
			}
		})
	}
}

func TestMasterInADirectoryThatTakesNoFile(t *testing.T) {
	for name, dir := range map[string]func(t *testing.T) string{
		"absent": func(t *testing.T) string { return filepath.Join(t.TempDir(), "absent") },
		"not writable": func(t *testing.T) string {
			if os.Geteuid() == 0 {
				t.Skip("root may write anywhere")
			}
			dir := t.TempDir()
			if err := os.Chmod(dir, 0o500); err != nil {
				t.Fatal(err)
			}
			return dir
		},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(dir(t), "master.key")
			_, err := LoadMasters(file)
			if err == nil || !strings.Contains(err.Error(), "making the master key") || !strings.Contains(err.Error(), "may write") {
				t.Errorf("the error is %v, want one that says what to do", err)
			}
		})
	}
}

func countUp(from byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = from + byte(i)
	}
	return b
}

// TestDerivationNeverChanges holds an upgrade to the keys that are burnt into
// devices. The answers were computed with another implementation of RFC 5869.
func TestDerivationNeverChanges(t *testing.T) {
	m := Master{secret: countUp(0, masterSize)}
	b := func(generation uint32) binding {
		return binding{kind: KindDevice, id: "w-0001", enrolment: countUp(0xa0, 16), generation: generation}
	}
	for want, got := range map[string][]byte{
		"f9fb125890bfcaae6cce52711811f56fd734c4115ff63742b19b360c75b2a75c": m.derive(forSigning, b(1)),
		"cc1ba29591028a3eb082a2ce9d74ffac686d0f5b3107e0dbf0552982cfbd153a": m.derive(forSigning, b(2)),
		"573323b861205387178bd7eb46fbb28095c8729807bff35565d51d9f289a14e8": m.derive(forPassword, b(0)),
	} {
		if hex.EncodeToString(got) != want {
			t.Errorf("derived %x, want %s", got, want)
		}
	}
}

// TestDerivationKeepsSecretsApart changes one part at a time, and moves bytes
// from one part to its neighbour.
func TestDerivationKeepsSecretsApart(t *testing.T) {
	m, other := Master{ID: "1", secret: countUp(0, masterSize)}, Master{ID: "1", secret: countUp(1, masterSize)}
	enrolment := []byte("0123456789abcdef")
	plain := binding{KindDevice, "w-1", enrolment, 1, "1"}
	but := func(change func(b *binding)) binding {
		b := plain
		change(&b)
		return b
	}
	seen := make(map[string]string)
	for name, key := range map[string][]byte{
		"plain":                          m.derive(forSigning, plain),
		"another master":                 other.derive(forSigning, plain),
		"for passwords":                  m.derive(forPassword, plain),
		"for sealing":                    m.derive(forSealing, plain),
		"for proofs":                     m.derive(forProof, plain),
		"another kind":                   m.derive(forSigning, but(func(b *binding) { b.kind = KindGateway })),
		"another id":                     m.derive(forSigning, but(func(b *binding) { b.id = "w-2" })),
		"an id of another case":          m.derive(forSigning, but(func(b *binding) { b.id = "W-1" })),
		"another enrolment":              m.derive(forSigning, but(func(b *binding) { b.enrolment = []byte("0123456789abcdeF") })),
		"another generation":             m.derive(forSigning, but(func(b *binding) { b.generation = 2 })),
		"generation 256":                 m.derive(forSigning, but(func(b *binding) { b.generation = 256 })),
		"id takes the enrolment's first": m.derive(forSigning, but(func(b *binding) { b.id, b.enrolment = "w-10", enrolment[1:] })),
		"enrolment takes the id's last":  m.derive(forSigning, but(func(b *binding) { b.id, b.enrolment = "w-", append([]byte("1"), enrolment...) })),
		"kind takes the id's first":      m.derive(forSigning, but(func(b *binding) { b.kind, b.id = KindDevice+"w", "-1" })),
		"purpose takes the kind's first": m.derive(forSigning+"d", but(func(b *binding) { b.kind = "evice" })),
		"no id":                          m.derive(forSigning, but(func(b *binding) { b.id, b.enrolment = "", append([]byte("w-1"), enrolment...) })),
	} {
		if len(key) != 32 {
			t.Errorf("%s: %d bytes, want 32", name, len(key))
		}
		if twin, again := seen[fmt.Sprint(key)]; again {
			t.Errorf("%q and %q have the same key", name, twin)
		}
		seen[fmt.Sprint(key)] = name
	}
}
