package bridge_test

import (
	"net"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge"
	"github.com/pulsegate/pulsegate/bridge/certs/certstest"
	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
	"github.com/pulsegate/pulsegate/bridge/registry"
)

func TestCertificatesThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	pair, other := certstest.New(t).Issue(t, "the gate"), certstest.New(t).Issue(t, "another")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = taken.Close() }()
	good := config.MQTTTLS{Listen: "127.0.0.1:0", Cert: pair.Cert, Key: pair.Key, Client: config.ClientPassword}
	for want, change := range map[string]func(*config.Config){
		"mqtt.tls: certificate: open /none":       func(c *config.Config) { c.MQTT.TLS.Cert = "/none" },
		"mqtt.tls: " + pair.Cert:                  func(c *config.Config) { c.MQTT.TLS.Key = other.Key },
		"block 1 is no certificate":               func(c *config.Config) { c.MQTT.TLS.Client, c.MQTT.TLS.ClientCA = config.ClientBoth, pair.Key },
		"http.tls: private key: open /none":       func(c *config.Config) { c.HTTP.TLS = config.HTTPTLS{Cert: pair.Cert, Key: "/none"} },
		"mqtt.tls.listen chooses another address": func(c *config.Config) { c.MQTT.TLS.Listen = taken.Addr().String() },
		"mqtt.websocket.listen chooses another":   func(c *config.Config) { c.MQTT.WebSocket.Listen = taken.Addr().String() },
	} {
		c := small(t)
		c.MQTT.TLS = good
		change(&c)
		b, err := bridge.Start(t.Context(), c, bridge.Options{Log: zerolog.Nop()})
		if err == nil {
			_ = b.Close(t.Context())
			t.Fatalf("it starts; want %q", want)
		}
		if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v: want one line with %q", err, want)
		}
	}
}

func TestAnonymous(t *testing.T) {
	t.Parallel()
	c := small(t)
	c.MQTT.Listen = "0.0.0.0:0"
	c.MQTT.Anonymous = config.AnonymousLoopback
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "--mqtt-anonymous=force") {
		t.Errorf("off loopback: %v", err)
	}
	c.MQTT.Anonymous = config.AnonymousForce
	must(t, c.Validate())
	s := start(t, c)
	d := s.enrol(t, "w-0001", "p-0001")
	s.enrol(t, "w-0002", "p-0002")
	_, err := s.Registry().Revoke(t.Context(), registry.KindDevice, "w-0002", "a test")
	must(t, err)
	_, port, err := net.SplitHostPort(s.MQTT())
	must(t, err)
	for id, code := range map[string]byte{"w-0001": 0, "w-0002": 0x86, "w-0003": 0x86, "": 0x86} {
		client := mqttest.Dial(t, net.JoinHostPort("127.0.0.1", port), 5)
		if ack := client.Connect(id); ack.ReasonCode != code {
			t.Errorf("%q: CONNACK %#x, want %#x", id, ack.ReasonCode, code)
		}
		if id != "w-0001" {
			continue
		}
		client.Send(mqttest.Publish(1, 1, d.Topic, d.sign(t)), mqttest.Publish(2, 1, d.Topic, tampered(d.sign(t))))
		client.ExpectBytes(0x40, 2, 0, 1)
		client.ExpectBytes(0x40, 3, 0, 2, 0x87)
	}
	s.journal.mu.Lock()
	text := s.journal.text.String()
	s.journal.mu.Unlock()
	if !strings.Contains(text, `"level":"warn"`) || !strings.Contains(text, "ANYBODY") {
		t.Error("the log does not warn")
	}
	reader, err := egress.NewReader(s.user(t, "security"), egress.StreamAudit, "audit.listener.anonymous")
	must(t, err)
	events := 0
	_, err = reader.Read(t.Context(), 1, func(m egress.Stored) error {
		events++
		if !strings.Contains(string(m.Data), `"listener":"mqtt://`) {
			t.Errorf("the event says %s", m.Data)
		}
		return nil
	})
	must(t, err)
	if events != 1 {
		t.Errorf("%d events, want one", events)
	}
}
