// Package certs serves TLS from PEM files, and takes up changed files without
// touching the connections that are open.
package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// lookEvery is how long the files are taken as they were read, so that many
// handshakes do not read them many times.
const lookEvery = time.Second

// Files names PEM files.
type Files struct {
	// Cert is the server's certificate, followed by intermediate ones.
	Cert string
	// Key is its private key, unencrypted.
	Key string
	// ClientCA holds the authorities of which one must have signed a client's
	// certificate; empty is that clients show none.
	ClientCA string
}

// Options say how a Source is to work.
type Options struct {
	Now func() time.Time
	Log zerolog.Logger
}

// Source is a set of files, and what they said when they were last in order. It
// is safe for concurrent use.
type Source struct {
	files   Files
	options Options
	current atomic.Pointer[tls.Config]

	// mu is held by the one handshake that looks at the files.
	mu     sync.Mutex
	looked time.Time
	seen   contents
}

// contents are the files' bytes. They are compared themselves, because a
// file's time and size do not tell of every change.
type contents struct{ cert, key, clientCA []byte }

func (c contents) equal(other contents) bool {
	return bytes.Equal(c.cert, other.cert) && bytes.Equal(c.key, other.key) && bytes.Equal(c.clientCA, other.clientCA)
}

// Open reads the files. Its error names the one that is wrong, and quotes none.
// A certificate that has expired is warned of and used: devices that do not look
// at the date go on, and so do listeners without TLS.
func Open(f Files, o Options) (*Source, error) {
	s := &Source{files: f, options: o, looked: o.Now()}
	var err error
	if s.seen, err = f.read(); err != nil {
		return nil, err
	}
	config, err := s.parse(s.seen)
	if err != nil {
		return nil, err
	}
	s.use(config)
	return s, nil
}

// Config is a server's: TLS 1.2 or later (RFC 8996), each handshake by what the
// files hold then, or held when they were last in order. Where ClientCA is
// named, a client must show a certificate.
func (s *Source) Config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			s.look()
			return s.current.Load(), nil
		},
	}
}

// Expires is until when the server's certificate is valid, by what the files hold
// now, or held when they were last in order.
func (s *Source) Expires() time.Time {
	s.look()
	return s.current.Load().Certificates[0].Leaf.NotAfter
}

// look takes up changed files. Handshakes that come meanwhile do not wait.
func (s *Source) look() {
	if !s.mu.TryLock() {
		return
	}
	defer s.mu.Unlock()
	now := s.options.Now()
	if now.Sub(s.looked) < lookEvery {
		return
	}
	s.looked = now
	if err := s.reload(); err != nil {
		s.options.Log.Error().Err(err).Msg("the changed TLS files cannot be used; those from before stay in use: mend the files before they expire")
	}
}

func (s *Source) reload() error {
	found, err := s.files.read()
	if err != nil {
		// What cannot be read counts as seen and empty: it is said once.
		found = contents{}
	}
	if found.equal(s.seen) {
		return nil
	}
	s.seen = found
	if err != nil {
		return err
	}
	config, err := s.parse(found)
	if err != nil {
		return err
	}
	s.use(config)
	s.options.Log.Info().Str("cert", s.files.Cert).Time("expires", config.Certificates[0].Leaf.NotAfter).Msg("changed TLS files are in use")
	return nil
}

func (s *Source) use(config *tls.Config) {
	leaf := config.Certificates[0].Leaf
	if now := s.options.Now(); now.After(leaf.NotAfter) || now.Before(leaf.NotBefore) {
		s.options.Log.Warn().Str("cert", s.files.Cert).Time("from", leaf.NotBefore).Time("until", leaf.NotAfter).
			Msg("the server's certificate is not valid now, so that clients that check it cannot connect: put a new one there")
	}
	s.current.Store(config)
}

func (f Files) read() (c contents, err error) {
	if c.cert, err = os.ReadFile(f.Cert); err != nil {
		return contents{}, fmt.Errorf("certificate: %w", err)
	}
	if c.key, err = os.ReadFile(f.Key); err != nil {
		return contents{}, fmt.Errorf("private key: %w", err)
	}
	if f.ClientCA == "" {
		return c, nil
	}
	if c.clientCA, err = os.ReadFile(f.ClientCA); err != nil {
		return contents{}, fmt.Errorf("clients' authorities: %w", err)
	}
	return c, nil
}

func (s *Source) parse(c contents) (*tls.Config, error) {
	pair, err := tls.X509KeyPair(c.cert, c.key)
	if err != nil {
		return nil, fmt.Errorf("%s with %s: %w", s.files.Cert, s.files.Key, err)
	}
	if pair.Leaf == nil {
		return nil, fmt.Errorf("%s: it cannot be parsed", s.files.Cert)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, Time: s.options.Now, Certificates: []tls.Certificate{pair}}
	if s.files.ClientCA == "" {
		return config, nil
	}
	if config.ClientCAs, err = authorities(c.clientCA); err != nil {
		return nil, fmt.Errorf("clients' authorities: %s: %w", s.files.ClientCA, err)
	}
	config.ClientAuth = tls.RequireAndVerifyClientCert
	return config, nil
}

// authorities is stricter than x509's AppendCertsFromPEM, which passes over what
// it cannot parse: an authority that is missing shuts its devices out.
func authorities(text []byte) (*x509.CertPool, error) {
	pool, n := x509.NewCertPool(), 0
	block, rest := pem.Decode(text)
	for ; block != nil; block, rest = pem.Decode(rest) {
		authority, err := x509.ParseCertificate(block.Bytes)
		if block.Type != "CERTIFICATE" || err != nil {
			return nil, fmt.Errorf("block %d is no certificate", n+1)
		}
		pool.AddCert(authority)
		n++
	}
	if n == 0 || bytes.Contains(rest, []byte("-----BEGIN")) {
		return nil, fmt.Errorf("after %d certificates in PEM form the next is missing or cut off", n)
	}
	return pool, nil
}
