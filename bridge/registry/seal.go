package registry

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

const (
	// minKey is the shortest imported key in bytes: NIST SP 800-107 asks for at
	// least 112 bits, and nobody counts in half bytes.
	minKey = 16
	// maxKey is the longest imported key in bytes.
	maxKey = 128
)

// ErrKey says that an imported key cannot be used.
var ErrKey = errors.New("not a usable key")

// ParseKey reads an imported signing key: hexadecimal digits, or base64 of either
// alphabet (RFC 4648) with or without padding; white space around it does not
// matter. Its error wraps ErrKey and does not quote it.
func ParseKey(text string) ([]byte, error) {
	key, err := decodeKey(strings.TrimSpace(text))
	if err != nil {
		return nil, err
	}
	if err := checkKey(key); err != nil {
		return nil, err
	}
	return key, nil
}

// decodeKey takes hexadecimal digits for nothing else: with one lost they would
// be good base64, of another key.
func decodeKey(text string) ([]byte, error) {
	if strings.Trim(text, "0123456789abcdefABCDEF") == "" {
		key, err := hex.DecodeString(text)
		if err != nil {
			return nil, fmt.Errorf("%w: an odd number of hexadecimal digits", ErrKey)
		}
		return key, nil
	}
	if !strings.ContainsAny(text, "\r\n") { // which base64 would ignore
		for _, encoding := range []*base64.Encoding{
			base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding,
		} {
			if key, err := encoding.Strict().DecodeString(text); err == nil {
				return key, nil
			}
		}
	}
	return nil, fmt.Errorf("%w: neither hexadecimal nor base64", ErrKey)
}

func checkKey(key []byte) error {
	switch {
	case len(key) < minKey:
		return fmt.Errorf("%w: %d bytes, at least %d are needed", ErrKey, len(key), minKey)
	case len(key) > maxKey:
		return fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrKey, len(key), maxKey)
	}
	return nil
}

// seal encrypts an imported key with AES-256-GCM (NIST SP 800-38D) under a key
// of the master's, with a fresh random nonce, bound to what it is the key of.
func (m Master) seal(key []byte, b binding) ([]byte, error) {
	aead, err := m.aead()
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails, see crypto/rand
	return aead.Seal(nonce, nonce, key, b.encode()), nil
}

// open decrypts what seal made, if the binding is the same.
func (m Master) open(sealed []byte, b binding) ([]byte, error) {
	aead, err := m.aead()
	if err != nil {
		return nil, err
	}
	if len(sealed) < aead.NonceSize() {
		return nil, errors.New("the sealed key is cut short")
	}
	key, err := aead.Open(nil, sealed[:aead.NonceSize()], sealed[aead.NonceSize():], b.encode())
	if err != nil {
		return nil, errors.New("the sealed key was sealed for another entry, enrolment, generation or master, or has been changed")
	}
	return key, nil
}

func (m Master) aead() (cipher.AEAD, error) {
	block, err := aes.NewCipher(m.derive(forSealing, binding{}))
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
