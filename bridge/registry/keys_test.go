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
	first, err := LoadMaster(file)
	if err != nil || len(first.secret) != masterSize || bytes.Equal(first.secret, make([]byte, masterSize)) {
		t.Fatalf("a new master of %d bytes: %v", len(first.secret), err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v (%v), want 0600", info.Mode(), err)
	}
	second, err := LoadMaster(file)
	if err != nil || !bytes.Equal(first.secret, second.secret) {
		t.Errorf("the second start has another master (%v)", err)
	}
	left, err := os.ReadDir(filepath.Dir(file))
	if err != nil || len(left) != 1 {
		t.Errorf("%d files are left in the directory (%v), want the key alone", len(left), err)
	}
	other, err := LoadMaster(filepath.Join(t.TempDir(), "master.key"))
	if err != nil || bytes.Equal(first.secret, other.secret) {
		t.Errorf("two new masters are the same (%v)", err)
	}
}

func TestStartsAtTheSameInstantShareOneMaster(t *testing.T) {
	file := filepath.Join(t.TempDir(), "master.key")
	var masters [8]Master
	var starts sync.WaitGroup
	for i := range masters {
		starts.Go(func() {
			var err error
			if masters[i], err = LoadMaster(file); err != nil {
				t.Error(err)
			}
		})
	}
	starts.Wait()
	for _, m := range masters[1:] {
		if !bytes.Equal(m.secret, masters[0].secret) {
			t.Fatal("two starts made two masters")
		}
	}
}

func TestMasterFilesThatAreRefused(t *testing.T) {
	good := strings.Repeat("0f", masterSize)
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		says []string
	}{
		"readable by the group": {good, 0o640, []string{"mode 0640", "chmod 600 "}},
		"readable by all":       {good, 0o604, []string{"mode 0604", "chmod 600 "}},
		"writable by the group": {good, 0o620, []string{"mode 0620", "chmod 600 "}},
		"empty":                 {"", 0o600, []string{"64 hexadecimal digits"}},
		"short":                 {good[2:], 0o600, []string{"64 hexadecimal digits", "backup"}},
		"long":                  {good + "00", 0o600, []string{"64 hexadecimal digits"}},
		"no digits":             {strings.Repeat("zq", masterSize), 0o600, []string{"64 hexadecimal digits"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "master.key")
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(file, c.mode); err != nil {
				t.Fatal(err)
			}
			_, err := LoadMaster(file)
			for _, part := range append(c.says, file) {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("the error is %v, want it to say %q", err, part)
				}
			}
			if err != nil && len(c.text) > 0 && strings.Contains(err.Error(), c.text[:8]) {
				t.Error("the error quotes the key")
			}
			if text, err := os.ReadFile(file); err != nil || string(text) != c.text {
				t.Errorf("the file was changed (%v)", err)
			}
		})
	}
}

func TestMasterTakesAFinalNewLine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "master.key")
	if err := os.WriteFile(file, []byte(strings.Repeat("0F", masterSize)+"\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if m, err := LoadMaster(file); err != nil || m.secret[0] != 0x0f {
		t.Errorf("refused: %v", err)
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
			_, err := LoadMaster(file)
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
	enrolment := countUp(0xa0, 16)
	for want, got := range map[string][]byte{
		"f9fb125890bfcaae6cce52711811f56fd734c4115ff63742b19b360c75b2a75c": m.derive(forSigning, "w-0001", enrolment, 1),
		"cc1ba29591028a3eb082a2ce9d74ffac686d0f5b3107e0dbf0552982cfbd153a": m.derive(forSigning, "w-0001", enrolment, 2),
		"573323b861205387178bd7eb46fbb28095c8729807bff35565d51d9f289a14e8": m.derive(forPassword, "w-0001", enrolment, 0),
	} {
		if hex.EncodeToString(got) != want {
			t.Errorf("derived %x, want %s", got, want)
		}
	}
}

// TestDerivationKeepsSecretsApart changes one part at a time, and moves bytes
// from one part to its neighbour.
func TestDerivationKeepsSecretsApart(t *testing.T) {
	m, other := Master{secret: countUp(0, masterSize)}, Master{secret: countUp(1, masterSize)}
	enrolment := []byte("0123456789abcdef")
	seen := make(map[string]string)
	for name, key := range map[string][]byte{
		"plain":                          m.derive(forSigning, "w-1", enrolment, 1),
		"another master":                 other.derive(forSigning, "w-1", enrolment, 1),
		"another purpose":                m.derive(forPassword, "w-1", enrolment, 1),
		"another id":                     m.derive(forSigning, "w-2", enrolment, 1),
		"an id of another case":          m.derive(forSigning, "W-1", enrolment, 1),
		"another enrolment":              m.derive(forSigning, "w-1", []byte("0123456789abcdeF"), 1),
		"another generation":             m.derive(forSigning, "w-1", enrolment, 2),
		"generation 256":                 m.derive(forSigning, "w-1", enrolment, 256),
		"id takes the enrolment's first": m.derive(forSigning, "w-10", enrolment[1:], 1),
		"enrolment takes the id's last":  m.derive(forSigning, "w-", append([]byte("1"), enrolment...), 1),
		"purpose takes the id's first":   m.derive(forSigning+"w", "-1", enrolment, 1),
		"no id":                          m.derive(forSigning, "", append([]byte("w-1"), enrolment...), 1),
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
