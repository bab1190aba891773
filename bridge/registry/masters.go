package registry

import (
	"bufio"
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/pulsegate/pulsegate/bridge/reading"
)

const (
	// masterSize is the size of a master secret in bytes.
	masterSize = 32
	// firstMaster is the id of a master that was written down without one.
	firstMaster = "1"
)

// Master is a secret from which devices' secrets are derived.
type Master struct {
	// ID names it in the registry's entries.
	ID     string
	secret []byte
}

// Masters are the master secrets by age. New keys come from the newest; older
// ones stay for the devices that were enrolled under them.
type Masters struct{ all []Master }

// Newest is the master that new keys are derived from.
func (m Masters) Newest() Master { return m.all[len(m.all)-1] }

// Find returns the master of an id.
func (m Masters) Find(id string) (Master, bool) {
	i := slices.IndexFunc(m.all, func(one Master) bool { return one.ID == id })
	if i < 0 {
		return Master{}, false
	}
	return m.all[i], true
}

// LoadMasters reads the master secrets from a file, or makes one secret where
// there is no such file. Each line is "ID HEX", 64 hexadecimal digits, the
// newest last; a line without an id has the id 1. The file's mode must let
// nobody but the owner read or write.
func LoadMasters(file string) (Masters, error) {
	m, err := ReadMasters(file)
	if !errors.Is(err, fs.ErrNotExist) {
		return m, err
	}
	if err := createMaster(file); err != nil && !errors.Is(err, fs.ErrExist) {
		return Masters{}, fmt.Errorf("making the master key: %w; give a data directory that this user may write", err)
	}
	return ReadMasters(file)
}

// ReadMasters is LoadMasters without making a secret where there is no file,
// which is an error that wraps fs.ErrNotExist.
func ReadMasters(file string) (Masters, error) {
	info, err := os.Stat(file)
	if err != nil {
		return Masters{}, fmt.Errorf("master key: %w", err)
	}
	// Windows keeps no such bits; access there follows the directory's list.
	if mode := info.Mode().Perm(); runtime.GOOS != "windows" && mode&0o077 != 0 {
		return Masters{}, fmt.Errorf("master key: %s has mode %04o, so that others can use it; run: chmod 600 %s, and think about who could have read it", file, mode, file)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return Masters{}, fmt.Errorf("master key: %w", err)
	}
	m, err := ParseMasters(text)
	if err != nil {
		return Masters{}, fmt.Errorf("master key: %s: %w; restore it from a backup, since a new key makes every device's secrets invalid", file, err)
	}
	return m, nil
}

// ParseMasters reads the text of a master file, see LoadMasters. Its error
// names the line and quotes nothing.
func ParseMasters(text []byte) (Masters, error) {
	var m Masters
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		id, digits, found := strings.Cut(line, " ")
		if !found {
			id, digits = firstMaster, line
		}
		secret, err := hex.DecodeString(strings.TrimSpace(digits))
		_, again := m.Find(id)
		switch {
		case err != nil || len(secret) != masterSize:
			return Masters{}, fmt.Errorf("line %d must hold 64 hexadecimal digits, with or without an id before them", n)
		case !reading.ValidID(id):
			return Masters{}, fmt.Errorf("line %d: the master's id must match [A-Za-z0-9_-]{1,64}", n)
		case again:
			return Masters{}, fmt.Errorf("line %d: a second master with the same id", n)
		}
		m.all = append(m.all, Master{ID: id, secret: secret})
	}
	if err := lines.Err(); err != nil {
		return Masters{}, err
	}
	if len(m.all) == 0 {
		return Masters{}, errors.New("it holds no key: a line of 64 hexadecimal digits is missing")
	}
	return m, nil
}

// IDs are the masters' ids by age, the newest last.
func (m Masters) IDs() []string {
	ids := make([]string, 0, len(m.all))
	for _, one := range m.all {
		ids = append(ids, one.ID)
	}
	return ids
}

// AddMaster writes a new secret as the newest into a file of masters that is
// there, with an id that no other has; an empty id chooses the next number. It
// returns the masters as they are then. The file is replaced as a whole or not
// at all, and keeps its owner. A service reads it only when it starts.
func AddMaster(file, id string) (Masters, error) {
	// The name is also the lock against another call: the second cannot make it.
	next := file + ".new"
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		return Masters{}, fmt.Errorf("%s is there: a master key is being added, or adding one was interrupted; if nobody is at it, remove that file and try again", next)
	case err != nil:
		return Masters{}, fmt.Errorf("adding a master key: %w", err)
	}
	masters, err := fillMasters(f, file, id)
	if err == nil {
		err = os.Rename(next, file)
	}
	if err != nil {
		return Masters{}, errors.Join(err, os.Remove(next))
	}
	return masters, syncDir(filepath.Dir(file))
}

// fillMasters writes what file holds, and one secret more, into its successor,
// and closes that.
func fillMasters(f *os.File, file, id string) (Masters, error) {
	text, masters, err := withMaster(file, id)
	if err == nil {
		err = keepOwner(file, f)
	}
	if err == nil {
		_, err = f.Write(text)
	}
	return masters, errors.Join(err, f.Sync(), f.Close())
}

func withMaster(file, id string) ([]byte, Masters, error) {
	before, err := ReadMasters(file)
	if err != nil {
		return nil, before, err
	}
	if id == "" {
		id = before.unused()
	}
	if !reading.ValidID(id) {
		return nil, before, fmt.Errorf("master id %q: it must match [A-Za-z0-9_-]{1,64} and not be a single _", id)
	}
	if _, taken := before.Find(id); taken {
		return nil, before, fmt.Errorf("there is a master key %s already: choose another id", id)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, before, fmt.Errorf("master key: %w", err)
	}
	text = append(bytes.TrimRight(text, "\n"), "\n"+id+" "+newSecret()+"\n"...)
	after, err := ParseMasters(text)
	return text, after, err
}

// unused is the lowest number beyond the count of masters that is no id yet.
func (m Masters) unused() string {
	for n := len(m.all) + 1; ; n++ {
		if _, taken := m.Find(strconv.Itoa(n)); !taken {
			return strconv.Itoa(n)
		}
	}
}

// createMaster makes the file whole or not at all: half a key would lock every
// device out after a crash.
func createMaster(file string) error {
	temporary, err := os.CreateTemp(filepath.Dir(file), ".master-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temporary.Name()) }()
	_, err = temporary.WriteString(newSecret() + "\n")
	if err := errors.Join(err, temporary.Sync(), temporary.Close()); err != nil {
		return err
	}
	if err := os.Link(temporary.Name(), file); err != nil { // unlike a rename, never replaces
		return err
	}
	return syncDir(filepath.Dir(file))
}

// syncDir makes a new name in a directory outlast a crash: devices enrolled
// under a master that is gone afterwards would be locked out for good.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // a directory cannot be opened for that there
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func newSecret() string {
	var secret [masterSize]byte
	_, _ = rand.Read(secret[:]) // never fails, see crypto/rand
	return hex.EncodeToString(secret[:])
}

// purpose keeps secrets for different uses apart.
type purpose string

const (
	forSigning  purpose = "pulsegate signing key v1"
	forPassword purpose = "pulsegate mqtt password v1"
	forSealing  purpose = "pulsegate sealing key v1"
	forProof    purpose = "pulsegate master proof v1"
)

// binding is what a secret belongs to.
type binding struct {
	kind       Kind
	id         string
	enrolment  []byte
	generation uint32
	master     string
}

// encode is injective: each part is preceded by its length.
func (b binding) encode() []byte {
	return lengthPrefixed([]byte(b.kind), []byte(b.id), b.enrolment, binary.BigEndian.AppendUint32(nil, b.generation), []byte(b.master))
}

func lengthPrefixed(parts ...[]byte) []byte {
	var out []byte
	for _, part := range parts {
		out = binary.BigEndian.AppendUint32(out, uint32(len(part)))
		out = append(out, part...)
	}
	return out
}

// derive is HKDF-SHA256 (RFC 5869) over an injective encoding of what the
// secret is for. The result is 32 bytes. The master's own id takes no part: the
// secret says who it is.
func (m Master) derive(use purpose, b binding) []byte {
	info := lengthPrefixed([]byte(use), []byte(b.kind), []byte(b.id), b.enrolment, binary.BigEndian.AppendUint32(nil, b.generation))
	key, err := hkdf.Key(sha256.New, m.secret, nil, string(info), sha256.Size)
	if err != nil {
		// Only a wanted length of more than 255 hashes is an error.
		panic("registry: " + err.Error())
	}
	return key
}

// proof lets a registry recognise a master without knowing it.
func (m Master) proof() string { return hex.EncodeToString(m.derive(forProof, binding{})[:16]) }
