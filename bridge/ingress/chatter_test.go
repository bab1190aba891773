package ingress_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/pulsegate/pulsegate/bridge/ingress"
	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
)

// what may be said at once, and more than that by half a second's worth.
const (
	chatterBurst = 1000
	beyond       = 25
	leastTime    = 400 * time.Millisecond
)

// TestChatterIsSlowed says more than a connection may beside publishing: it is
// answered, but not at once, and others are not held up.
func TestChatterIsSlowed(t *testing.T) {
	t.Parallel()
	ping := []byte{0xC0, 0}
	subscribe := mqttest.Bytes(t, 5, mqttest.Subscribe(1, strings.Split(strings.Repeat("a/b ", 124)+"a/b", " ")...))
	for name, run := range map[string]struct {
		sends   []byte
		answers int
	}{
		"pings":          {bytes.Repeat(ping, chatterBurst+beyond), chatterBurst + beyond},
		"filters":        {append(bytes.Repeat(subscribe, chatterBurst/125), bytes.Repeat(ping, beyond)...), chatterBurst/125 + beyond},
		"PUBREL of none": {bytes.Repeat(mqttest.Bytes(t, 5, mqttest.Pubrel(7)), chatterBurst+beyond), chatterBurst + beyond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := open(t, nil)
			c := b.connect(t, 5, "w-1")
			start := time.Now()
			go func() { _ = c.TryRaw(run.sends) }()
			for range run.answers {
				if _, err := c.Next(); err != nil {
					t.Fatal(err)
				}
			}
			if took := time.Since(start); took < leastTime {
				t.Errorf("all is answered within %v", took)
			}
		})
	}
}

// TestReleasesAreNoChatter: at QoS 2 every message has a PUBREL.
func TestReleasesAreNoChatter(t *testing.T) {
	t.Parallel()
	b := open(t, nil)
	b.settle = func(c call) { c.done(accepted) }
	c := b.connect(t, 4, "w-1")
	for range chatterBurst {
		c.Send(publish(1, 2), mqttest.Pubrel(1))
	}
	for range 2 * chatterBurst {
		if _, err := c.Next(); err != nil {
			t.Fatal(err)
		}
	}
	// Were the burst used up, this would take its rate twenty seconds.
	start := time.Now()
	c.SendRaw(bytes.Repeat([]byte{0xC0, 0}, chatterBurst))
	for range chatterBurst {
		c.Expect(packets.Pingresp)
	}
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestPingsOfWebSocketAreChatter too.
func TestPingsOfWebSocketAreChatter(t *testing.T) {
	t.Parallel()
	b := openAt(t, nil, ingress.Listener{WebSocket: &ingress.WebSocket{}})
	ws, _, err := (&websocket.Dialer{Subprotocols: []string{"mqtt"}}).Dial(b.URLs()[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ws.Close() }()
	pongs := make(chan struct{}, chatterBurst+beyond)
	ws.SetPongHandler(func(string) error { pongs <- struct{}{}; return nil })
	go func() { _, _, _ = ws.ReadMessage() }()
	start := time.Now()
	for range chatterBurst + beyond {
		if err := ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(mqttest.Patience)); err != nil {
			t.Fatal(err)
		}
	}
	for range chatterBurst + beyond {
		select {
		case <-pongs:
		case <-time.After(mqttest.Patience):
			t.Fatal("a ping is not answered")
		}
	}
	if took := time.Since(start); took < leastTime {
		t.Errorf("all is answered within %v", took)
	}
}
