// Package certstest makes certificates for tests.
package certstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority signs certificates.
type Authority struct {
	// File is its certificate.
	File string
	// Pool holds it alone.
	Pool *x509.CertPool

	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Pair is a certificate with its key.
type Pair struct {
	tls.Certificate
	// Cert and Key are PEM files.
	Cert, Key string
}

// Option changes what is asked of an authority.
type Option func(*x509.Certificate)

// Until sets the end of a certificate's validity.
func Until(t time.Time) Option { return func(c *x509.Certificate) { c.NotAfter = t } }

// ForServers makes it one that a client cannot use.
func ForServers(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }

// AndNamed gives its subject one more common name.
func AndNamed(name string) Option {
	return func(c *x509.Certificate) {
		oid := []int{2, 5, 4, 3}
		c.Subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: oid, Value: c.Subject.CommonName}, {Type: oid, Value: name}}
	}
}

// New makes an authority.
func New(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{File: filepath.Join(t.TempDir(), "ca.pem"), Pool: x509.NewCertPool(), key: newKey(t)}
	template := blank(t, "an authority")
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	a.cert = sign(t, template, template, a.key, a.key)
	a.Pool.AddCert(a.cert)
	write(t, a.File, "CERTIFICATE", a.cert.Raw)
	return a
}

// Issue signs a certificate for a client, and for a server on 127.0.0.1 and
// localhost.
func (a *Authority) Issue(t testing.TB, name string, options ...Option) Pair {
	t.Helper()
	template := blank(t, name)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	template.DNSNames, template.IPAddresses = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
	for _, o := range options {
		o(template)
	}
	key := newKey(t)
	cert := sign(t, template, a.cert, key, a.key)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p := Pair{
		Certificate: tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert},
		Cert:        filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"),
	}
	write(t, p.Cert, "CERTIFICATE", cert.Raw)
	write(t, p.Key, "PRIVATE KEY", pkcs8)
	return p
}

// Replace puts another pair into p's files.
func (p Pair) Replace(t testing.TB, by Pair) {
	t.Helper()
	for from, to := range map[string]string{by.Cert: p.Cert, by.Key: p.Key} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func blank(t testing.TB, name string) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
}

func sign(t testing.TB, template, by *x509.Certificate, key, signer *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, by, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func write(t testing.TB, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
