package engine_test

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

	"github.com/nats-io/nats-server/v2/server"

	"github.com/pulsegate/pulsegate/bridge/engine"
)

// authority is a certificate authority made for one test.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	dir         string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	certificate, err := x509.ParseCertificate(der)
	must(t, err)
	a := &authority{certificate: certificate, key: key, dir: t.TempDir()}
	writePEM(t, a.path(), "CERTIFICATE", der)
	return a
}

func (a *authority) path() string { return filepath.Join(a.dir, "ca.pem") }

// issue writes a certificate for 127.0.0.1 and its key.
func (a *authority) issue(t *testing.T, name string) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.certificate, &private.PublicKey, a.key)
	must(t, err)
	text, err := x509.MarshalECPrivateKey(private)
	must(t, err)
	certificate, key = filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+"-key.pem")
	writePEM(t, certificate, "CERTIFICATE", der)
	writePEM(t, key, "EC PRIVATE KEY", text)
	return certificate, key
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	must(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

func TestRemoteByTLS(t *testing.T) {
	a := newAuthority(t)
	certificate, key := a.issue(t, "server")
	pair, err := tls.LoadX509KeyPair(certificate, key)
	must(t, err)
	trusted := x509.NewCertPool()
	trusted.AddCert(a.certificate)
	url := serve(t, &server.Options{JetStream: true, TLS: true, TLSVerify: true, TLSTimeout: 5, TLSConfig: &tls.Config{
		Certificates: []tls.Certificate{pair}, ClientCAs: trusted, ClientAuth: tls.RequireAndVerifyClientCert,
	}})
	mine, mineKey := a.issue(t, "gate")
	e := connects(t, engine.Remote{URL: url, TLS: engine.TLS{CA: a.path(), Cert: mine, Key: mineKey}})
	if _, err := e.Conn().TLSConnectionState(); err != nil {
		t.Error(err)
	}
	other := newAuthority(t)
	fails(t, remote(t, engine.Remote{URL: url, TLS: engine.TLS{CA: other.path(), Cert: mine, Key: mineKey}}), "does not verify", "authority")
	fails(t, remote(t, engine.Remote{URL: url, TLS: engine.TLS{CA: a.path()}}), url, "client certificate")
	fails(t, remote(t, engine.Remote{URL: url, TLS: engine.TLS{CA: a.path(), Cert: mine}}), "both or neither")
	missing := filepath.Join(t.TempDir(), "ca.pem")
	fails(t, remote(t, engine.Remote{URL: url, TLS: engine.TLS{CA: missing}}), missing, "no such file")
	// A server without TLS must not be talked to in the clear when TLS is asked for.
	fails(t, remote(t, engine.Remote{URL: serve(t, &server.Options{JetStream: true}), TLS: engine.TLS{CA: a.path()}}), "TLS")
}
