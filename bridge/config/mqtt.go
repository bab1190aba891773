package config

import "net"

// listeners wants one of them, and of what TLS is given no half.
func listeners(c Config) *Error {
	m := c.MQTT
	secure := m.TLS.Listen != "" || m.WebSocket.Listen != "" && m.WebSocket.Scheme == SchemeSecure
	switch {
	case c.Source.URL == "" && m.Listen == "" && m.TLS.Listen == "" && m.WebSocket.Listen == "":
		return &Error{Key: "mqtt.listen", Problem: "empty, and so are mqtt.tls.listen, mqtt.websocket.listen and source.url, so that no reading could come; set one of them"}
	case m.TLS.Listen != "" && m.TLS.Cert == "":
		return &Error{Key: "mqtt.tls.listen", Problem: "needs mqtt.tls.cert and mqtt.tls.key"}
	case m.WebSocket.Listen != "" && secure && m.TLS.Cert == "":
		return &Error{Key: "mqtt.websocket.scheme", Problem: "wss needs mqtt.tls.cert and mqtt.tls.key"}
	case m.TLS.Cert != "" && !secure:
		return &Error{Key: "mqtt.tls.cert", Problem: "has no effect without mqtt.tls.listen, or mqtt.websocket.listen with the scheme wss; set one of them, or leave it out"}
	}
	return nil
}

// clients wants an authority where certificates are asked for, and only there.
func clients(c Config) *Error {
	demanded := c.MQTT.TLS.Client != ClientPassword
	switch {
	case demanded && c.MQTT.TLS.ClientCA == "":
		return &Error{Key: "mqtt.tls.client", Problem: "needs mqtt.tls.client_ca, the authorities that sign the clients' certificates"}
	case demanded && c.MQTT.TLS.Cert == "":
		return &Error{Key: "mqtt.tls.client", Problem: "has no effect without mqtt.tls.cert; what is not over TLS shows no certificate"}
	case !demanded && c.MQTT.TLS.ClientCA != "":
		return &Error{Key: "mqtt.tls.client_ca", Problem: "has no effect while mqtt.tls.client is password; set that to certificate or both, or leave it out"}
	}
	return nil
}

// webSocket refuses what has no effect without its listener.
func webSocket(c Config) *Error {
	w := c.MQTT.WebSocket
	if w.Listen == "" && (w.Scheme != SchemePlain || len(w.Origins) > 0) {
		key := "mqtt.websocket.origins"
		if w.Scheme != SchemePlain {
			key = "mqtt.websocket.scheme"
		}
		return &Error{Key: key, Problem: "has no effect without mqtt.websocket.listen; set it, or leave this out"}
	}
	return nil
}

// anonymous keeps a gate without passwords to this machine.
func anonymous(c Config) *Error {
	if c.MQTT.Anonymous != AnonymousLoopback {
		return nil
	}
	for _, l := range []struct{ key, address, demanded string }{
		{"mqtt.listen", c.MQTT.Listen, ClientPassword},
		{"mqtt.tls.listen", c.MQTT.TLS.Listen, c.MQTT.TLS.Client},
		{"mqtt.websocket.listen", c.MQTT.WebSocket.Listen, c.MQTT.webSocketClient()},
	} {
		if l.address != "" && l.demanded == ClientPassword && !loopback(l.address) {
			return &Error{
				Key:     "mqtt.anonymous",
				Problem: "would let everybody who reaches " + l.key + " in as any device without a password, and " + l.address + " is not loopback; listen on 127.0.0.1, or say force (--mqtt-anonymous=force)",
			}
		}
	}
	return nil
}

func (m MQTT) webSocketClient() string {
	if m.WebSocket.Scheme == SchemeSecure {
		return m.TLS.Client
	}
	return ClientPassword
}

// loopback takes no name but localhost at its word: what others stand for can change.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}
