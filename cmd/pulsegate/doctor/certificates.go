package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"time"
)

const (
	day = 24 * time.Hour
	// soonExpired is how long before a certificate's end it is warned of.
	soonExpired = 30 * day
)

// certificates looks at every certificate that the configuration names.
func (e *examination) certificates(context.Context) []finding {
	c := e.Config
	var all []finding
	for _, pair := range []struct{ section, cert, key string }{
		{"mqtt.tls", c.MQTT.TLS.Cert, c.MQTT.TLS.Key},
		{"http.tls", c.HTTP.TLS.Cert, c.HTTP.TLS.Key},
		{"nats.tls", c.NATS.TLS.Cert, c.NATS.TLS.Key},
		{"source.tls", c.Source.TLS.Cert, c.Source.TLS.Key},
	} {
		if pair.cert == "" {
			continue
		}
		if _, err := tls.LoadX509KeyPair(pair.cert, pair.key); err != nil {
			all = append(all, wrong("%s: %s with %s: %v; give a certificate and the key that it was made for", pair.section, pair.cert, pair.key, err))
			continue
		}
		all = append(all, e.validity(pair.section+".cert", pair.cert))
	}
	for _, authority := range []struct{ setting, file string }{
		{"mqtt.tls.client_ca", c.MQTT.TLS.ClientCA},
		{"nats.tls.ca", c.NATS.TLS.CA},
		{"source.tls.ca", c.Source.TLS.CA},
	} {
		if authority.file != "" {
			all = append(all, e.validity(authority.setting, authority.file))
		}
	}
	if all == nil {
		return []finding{well("none is configured")}
	}
	return all
}

// validity is that of the certificate in a file that ends first.
func (e *examination) validity(setting, file string) finding {
	found, err := readCertificates(file)
	if err != nil {
		return wrong("%s: %v; give a file with certificates in PEM form", setting, err)
	}
	return e.lasting(fmt.Sprintf("%s: %s", setting, file), found)
}

// lasting says for how long all of some certificates are valid.
func (e *examination) lasting(what string, all []*x509.Certificate) finding {
	first := all[0]
	for _, one := range all {
		if one.NotAfter.Before(first.NotAfter) {
			first = one
		}
		if now := e.Now(); now.Before(one.NotBefore) {
			return wrong("%s is valid only from %s on: give another, or set the clock that is wrong", what, one.NotBefore.Format(time.DateTime))
		}
	}
	left := first.NotAfter.Sub(e.Now())
	until := first.NotAfter.Format(time.DateOnly)
	switch {
	case left <= 0:
		return wrong("%s has expired on %s, %d days ago: put a new certificate there", what, until, -left/day)
	case left < soonExpired:
		return doubtful("%s is valid for %d days more, until %s: renew it", what, left/day, until)
	}
	return well("%s is valid for %d days more, until %s", what, left/day, until)
}

func readCertificates(file string) ([]*x509.Certificate, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var all []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		one, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: certificate %d cannot be parsed", file, len(all)+1)
		}
		all = append(all, one)
	}
	if all == nil {
		return nil, fmt.Errorf("%s holds no certificate", file)
	}
	return all, nil
}
