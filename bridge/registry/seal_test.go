package registry

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

func TestSealedKeysAreBoundToTheirEntry(t *testing.T) {
	m, other := Master{ID: "1", secret: countUp(0, masterSize)}, Master{ID: "1", secret: countUp(1, masterSize)}
	key := []byte("a key of a factory")
	plain := binding{KindDevice, "w-1", countUp(0xa0, 16), 1, "1"}
	sealed, err := m.seal(key, plain)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, key) || len(sealed) != 12+len(key)+16 {
		t.Errorf("%d bytes are sealed as %d, the key itself among them: %v", len(key), len(sealed), bytes.Contains(sealed, key))
	}
	if got, err := m.open(sealed, plain); err != nil || !bytes.Equal(got, key) {
		t.Fatalf("opened as %q (%v)", got, err)
	}
	for name, b := range map[string]binding{
		"kind":              {KindGateway, plain.id, plain.enrolment, 1, "1"},
		"id":                {KindDevice, "w-2", plain.enrolment, 1, "1"},
		"enrolment":         {KindDevice, plain.id, countUp(0xa1, 16), 1, "1"},
		"generation":        {KindDevice, plain.id, plain.enrolment, 2, "1"},
		"master's id":       {KindDevice, plain.id, plain.enrolment, 1, "2"},
		"id and enrolment":  {KindDevice, "w-", append([]byte("1"), plain.enrolment...), 1, "1"},
		"nothing of it all": {},
	} {
		if _, err := m.open(sealed, b); err == nil {
			t.Errorf("opened with another %s", name)
		}
	}
	if _, err := other.open(sealed, plain); err == nil {
		t.Error("opened with another master")
	}
	for i := range sealed {
		spoiled := bytes.Clone(sealed)
		spoiled[i] ^= 1
		if _, err := m.open(spoiled, plain); err == nil {
			t.Errorf("opened with byte %d changed", i)
		}
		if _, err := m.open(sealed[:i], plain); err == nil {
			t.Errorf("opened cut to %d bytes", i)
		}
	}
	if _, err := m.open(append(bytes.Clone(sealed), 0), plain); err == nil {
		t.Error("opened with a byte more")
	}
}

func TestSealingTwiceIsNeverTheSame(t *testing.T) {
	m := Master{ID: "1", secret: countUp(0, masterSize)}
	seen := make(map[string]bool)
	for range 100 {
		sealed, err := m.seal(countUp(0, 32), binding{KindDevice, "w-1", countUp(0, 16), 1, "1"})
		if err != nil {
			t.Fatal(err)
		}
		if nonce := string(sealed[:12]); seen[nonce] {
			t.Fatal("a nonce was used twice")
		} else {
			seen[nonce] = true
		}
	}
}

func TestParseKey(t *testing.T) {
	key := countUp(0xeb, 20) // has both characters in which the base64s differ
	for name, text := range map[string]string{
		"hexadecimal":       hex.EncodeToString(key),
		"upper case":        strings.ToUpper(hex.EncodeToString(key)),
		"base64":            base64.StdEncoding.EncodeToString(key),
		"base64 unpadded":   base64.RawStdEncoding.EncodeToString(key),
		"base64 for URLs":   base64.RawURLEncoding.EncodeToString(key),
		"padded, for URLs":  base64.URLEncoding.EncodeToString(key),
		"with a line's end": hex.EncodeToString(key) + "\r\n",
		"with spaces":       " " + base64.StdEncoding.EncodeToString(key) + "\t",
	} {
		got, err := ParseKey(text)
		if err != nil || !bytes.Equal(got, key) {
			t.Errorf("%s: %x (%v), want %x", name, got, err, key)
		}
	}
	for size, good := range map[int]bool{0: false, 15: false, 16: true, 128: true, 129: false} {
		_, err := ParseKey(hex.EncodeToString(make([]byte, size)))
		if good != (err == nil) || !good && !errors.Is(err, ErrKey) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	for _, text := range []string{
		strings.Repeat("0a", 32)[1:], hex.EncodeToString(key)[1:], hex.EncodeToString(key) + "0", hex.EncodeToString(key[:10]) + "\n" + hex.EncodeToString(key[10:]),
		"hidden-not-a-key!", "abc", strings.Repeat("hidden ", 10), "\x00\xff"} {
		if _, err := ParseKey(text); !errors.Is(err, ErrKey) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
