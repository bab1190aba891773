package ingress

import (
	"crypto/x509"
	"encoding/asn1"
)

// Demand is what a listener wants to be shown by those who connect.
type Demand uint8

const (
	// Password demands user name and password.
	Password Demand = iota
	// Certificate demands a client's certificate in the TLS handshake.
	Certificate
	// PasswordAndCertificate demands both.
	PasswordAndCertificate
	// Nothing lets in who names himself.
	Nothing
)

var oidCommonName = asn1.ObjectIdentifier{2, 5, 4, 3}

// commonName is the one common name of a certificate's subject (RFC 5280,
// 4.1.2.6). Of several none is taken: different readers would take different
// ones. Nor are alternative names, which a public authority gives to servers.
func commonName(c *x509.Certificate) string {
	n := 0
	for _, name := range c.Subject.Names {
		if name.Type.Equal(oidCommonName) {
			n++
		}
	}
	if n != 1 {
		return ""
	}
	return c.Subject.CommonName
}
