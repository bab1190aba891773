package registry

import (
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
	"strings"
)

// masterSize is the size of the master secret in bytes.
const masterSize = 32

// Master is the one secret from which every device's secrets are derived. The
// registry itself holds none.
type Master struct{ secret []byte }

// LoadMaster reads the master secret from a file of 64 hexadecimal digits, or
// makes one where there is no such file. Its mode must let nobody but the owner
// read or write.
func LoadMaster(file string) (Master, error) {
	m, err := readMaster(file)
	if !errors.Is(err, fs.ErrNotExist) {
		return m, err
	}
	if err := createMaster(file); err != nil && !errors.Is(err, fs.ErrExist) {
		return Master{}, fmt.Errorf("making the master key: %w; give a data directory that this user may write", err)
	}
	return readMaster(file)
}

func readMaster(file string) (Master, error) {
	info, err := os.Stat(file)
	if err != nil {
		return Master{}, fmt.Errorf("master key: %w", err)
	}
	// Windows keeps no such bits; access there follows the directory's list.
	if mode := info.Mode().Perm(); runtime.GOOS != "windows" && mode&0o077 != 0 {
		return Master{}, fmt.Errorf("master key: %s has mode %04o, so that others can use it; run: chmod 600 %s, and think about who could have read it", file, mode, file)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return Master{}, fmt.Errorf("master key: %w", err)
	}
	secret, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(secret) != masterSize {
		return Master{}, fmt.Errorf("master key: %s must hold 64 hexadecimal digits and nothing else; restore it from a backup, since a new key makes every device's secrets invalid", file)
	}
	return Master{secret: secret}, nil
}

// createMaster makes the file whole or not at all: half a key would lock every
// device out after a crash.
func createMaster(file string) error {
	var secret [masterSize]byte
	_, _ = rand.Read(secret[:]) // never fails, see crypto/rand
	temporary, err := os.CreateTemp(filepath.Dir(file), ".master-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temporary.Name()) }()
	_, err = temporary.WriteString(hex.EncodeToString(secret[:]) + "\n")
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

// purpose keeps secrets for different uses apart.
type purpose string

const (
	forSigning  purpose = "pulsegate signing key v1"
	forPassword purpose = "pulsegate mqtt password v1"
)

// derive is HKDF-SHA256 (RFC 5869) over an injective encoding of what the
// secret is for: each part is preceded by its length. The result is 32 bytes.
func (m Master) derive(use purpose, id string, enrolment []byte, generation uint32) []byte {
	var info []byte
	for _, part := range [][]byte{[]byte(use), []byte("device"), []byte(id), enrolment, binary.BigEndian.AppendUint32(nil, generation)} {
		info = binary.BigEndian.AppendUint32(info, uint32(len(part)))
		info = append(info, part...)
	}
	key, err := hkdf.Key(sha256.New, m.secret, nil, string(info), sha256.Size)
	if err != nil {
		// Only a wanted length of more than 255 hashes is an error.
		panic("registry: " + err.Error())
	}
	return key
}
