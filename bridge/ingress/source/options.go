package source

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/ingress"
)

// Options say how a Source is to work. All but TLS, Share, User and Password
// must be set; the zero logger logs nothing.
type Options struct {
	// Brokers are the URLs of one broker, or of several of one cluster, which
	// are tried in their order: mqtt, mqtts, ws or wss. Without a port it is
	// 1883, 8883, 80 or 443.
	Brokers []string
	// TLS is asked for a client's configuration at each connection by mqtts or
	// wss, so that changed certificates are taken up; nil is the system's
	// authorities and no client certificate.
	TLS func() (*tls.Config, error)
	// ClientID is the MQTT client identifier. Broker and gate find their session
	// again by it, so it is the same after a restart, and no other client's.
	ClientID string
	// User and Password log in; User may be alone.
	User, Password string
	// Filters are the topic filters to subscribe to, without $share.
	Filters []string
	// Share is the group of the shared subscription; empty is none.
	Share string
	// InFlight bounds the messages that have been taken and not yet
	// acknowledged, InFlightBytes the size of their topics and payloads; at
	// either bound the socket is not read.
	InFlight      int
	InFlightBytes int64
	// Handler returns who takes the messages of one connection to the broker at
	// an address, host:port.
	Handler func(broker string) ingress.Handler
	// Now is the clock.
	Now func() time.Time
	Log zerolog.Logger
}

// broker is one that can be connected to.
type broker struct {
	url *url.URL
	// address is host:port.
	address string
}

func (b broker) secure() bool { return b.url.Scheme == "mqtts" || b.url.Scheme == "wss" }

// String is for logs: what follows the address may be a secret too.
func (b broker) String() string { return b.url.Scheme + "://" + b.address }

// parse checks the options and returns their brokers. The error says which
// option cannot be used.
func (o Options) parse() ([]broker, error) {
	switch {
	case len(o.Brokers) == 0:
		return nil, errors.New("there is no broker")
	case o.ClientID == "":
		return nil, errors.New("there is no client id: without one the broker keeps no session [MQTT-3.1.3-8]")
	case len(o.Filters) == 0:
		return nil, errors.New("there is no topic filter")
	case o.InFlight < 1 || o.InFlightBytes < 1:
		return nil, fmt.Errorf("in flight are %d messages and %d bytes; at least 1 of each is needed", o.InFlight, o.InFlightBytes)
	case o.Handler == nil || o.Now == nil:
		return nil, errors.New("a handler and a clock are needed")
	case o.Password != "" && o.User == "":
		return nil, errors.New("there is a password, but no user [MQTT-3.1.2-22]")
	}
	var all []broker
	for _, text := range o.Brokers {
		b, err := parseBroker(text)
		if err != nil {
			return nil, err
		}
		all = append(all, b)
		if !b.secure() || o.TLS == nil {
			continue
		}
		if _, err := o.TLS(); err != nil {
			return nil, fmt.Errorf("TLS: %w", err)
		}
	}
	return all, nil
}

// parseBroker quotes no URL that could hold a password.
func parseBroker(text string) (broker, error) {
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil || u.Hostname() == "" {
		return broker{}, errors.New("a broker's URL cannot be read: it is such as mqtts://broker-1:8883")
	}
	port, known := map[string]string{"mqtt": "1883", "mqtts": "8883", "ws": "80", "wss": "443"}[u.Scheme]
	switch {
	case u.User != nil:
		return broker{}, errors.New("a broker's URL has credentials in it, which logs would show: give them apart")
	case !known:
		return broker{}, fmt.Errorf("broker %s: the scheme is none of mqtt, mqtts, ws and wss", u)
	}
	if u.Port() != "" {
		port = u.Port()
	}
	b := broker{u, net.JoinHostPort(u.Hostname(), port)}
	b.url.Host = b.address
	return b, nil
}

// filters are what SUBSCRIBE names, each once.
func (o Options) filters() []string {
	var all []string
	for _, f := range o.Filters {
		if o.Share != "" {
			f = "$share/" + o.Share + "/" + f
		}
		if !slices.Contains(all, f) {
			all = append(all, f)
		}
	}
	return all
}
