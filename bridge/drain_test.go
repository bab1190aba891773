package bridge_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
)

// until waits for something that no event tells.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(3 * mqttest.Patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it never is so: " + what)
		}
	}
}

// page gets one of the service's pages.
func (s *system) page(t *testing.T, path string) (int, string) {
	t.Helper()
	c := http.Client{Timeout: mqttest.Patience, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := c.Get("http://" + s.HTTP() + path)
	must(t, err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	must(t, err)
	return answer.StatusCode, string(body)
}

// close begins to, and returns when nobody is accepted any more.
func (s *system) close(t *testing.T, limit time.Duration) <-chan error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	ended := make(chan error, 1)
	go func() { ended <- s.Close(ctx) }()
	until(t, "nobody is accepted", func() bool {
		conn, err := net.Dial("tcp", s.MQTT())
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	return ended
}

func awaitEnd(t *testing.T, ended <-chan error) error {
	t.Helper()
	select {
	case err := <-ended:
		return err
	case <-time.After(3 * mqttest.Patience):
		t.Fatal("closing does not end")
		return nil
	}
}

// The gate is told to stop while the store holds a hundred readings up. The
// store returns, and all are acknowledged before the connection closes.
func TestCloseLetsWhatIsInFlightFinish(t *testing.T) {
	t.Parallel()
	const readings = 100
	for _, version := range []byte{4, 5} {
		n := newCluster(t)
		s := startAt(t, n, func(c *config.Config) {
			c.Store.Deadline = config.Duration(50 * time.Second)
			c.MQTT.ReceiveMaximum = readings
		})
		d := s.enrol(t, "w-0001", "p-0001")
		c := s.dial(t, d, version)
		n.vitals(t, 1) // holds them up
		sent := make([][]byte, readings)
		for i := range sent {
			sent[i] = d.sign(t)
			c.Send(mqttest.Publish(uint16(i+1), 1, d.Topic, sent[i]))
		}
		c.Ping() // all are in the gate, none is acknowledged
		if _, text := s.page(t, "/metrics"); !strings.Contains(text, "\npulsegate_in_flight_readings 100\n") || strings.Contains(text, "\npulsegate_in_flight_bytes 0\n") {
			t.Errorf("the metrics do not show what is in flight:\n%s", text)
		}
		ended := s.close(t, time.Minute)
		if status, text := s.page(t, "/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(text, "stopping") {
			t.Errorf("/readyz answers %d %q", status, text)
		}
		c.Ping()
		n.vitals(t, 1<<20)
		for i := range sent {
			c.ExpectBytes(0x40, 2, 0, byte(i+1))
		}
		if version == 5 {
			if bye := c.Expect(packets.Disconnect); bye.ReasonCode != 0x9C {
				t.Errorf("DISCONNECT %#x, want 0x9c", bye.ReasonCode)
			}
		}
		c.ExpectEnd()
		must(t, awaitEnd(t, ended))
		stored := s.stored(t)
		if len(stored) != readings {
			t.Fatalf("%d are stored, want %d", len(stored), readings)
		}
		left := make(map[string]bool)
		for _, payload := range sent {
			left[string(payload)] = true
		}
		for _, m := range stored {
			delete(left, string(m.Data))
		}
		if len(left) > 0 {
			t.Errorf("%d are missing", len(left))
		}
	}
}

// A gate whose store stays away ends all the same when its time is over, and
// has acknowledged nothing.
func TestCloseWhileTheStoreIsAway(t *testing.T) {
	t.Parallel()
	for _, version := range []byte{4, 5} {
		n := newCluster(t)
		s := startAt(t, n, nil)
		d := s.enrol(t, "w-0001", "p-0001")
		silent, c := mqttest.Dial(t, s.MQTT(), 4), s.dial(t, d, version)
		n.stop()
		c.Send(mqttest.Publish(1, 1, d.Topic, d.sign(t)), mqttest.Publish(2, 2, d.Topic, d.sign(t)))
		c.Ping()
		must(t, awaitEnd(t, s.close(t, 300*time.Millisecond)))
		if version == 5 {
			if bye := c.Expect(packets.Disconnect); bye.ReasonCode != 0x9C {
				t.Errorf("DISCONNECT %#x, want 0x9c", bye.ReasonCode)
			}
		}
		c.ExpectEnd()
		silent.ExpectEnd()
	}
}

// While the store is away for longer than is configured, nobody is let in and
// the gate is not ready; both end by themselves.
func TestConnectAndReadinessFollowTheStore(t *testing.T) {
	t.Parallel()
	n := newCluster(t)
	s := startAt(t, n, func(c *config.Config) { c.Store.UnavailableAfter = config.Duration(200 * time.Millisecond) })
	d := s.enrol(t, "w-0001", "p-0001")
	admission := func(version byte) byte {
		c := mqttest.Dial(t, s.MQTT(), version)
		defer c.Close()
		return c.Connect(d.DeviceID, mqttest.Login(d.Username, d.Password)).ReasonCode
	}
	readiness := func() int {
		status, _ := s.page(t, "/readyz")
		return status
	}
	for name, outage := range map[string]struct{ begin, end func() }{
		"NATS is away":       {n.stop, func() { n.run(t) }},
		"the stream is full": {func() { n.vitals(t, 1) }, func() { n.vitals(t, 1<<20) }},
	} {
		until(t, "ready before "+name, func() bool { return readiness() == http.StatusOK && admission(4) == 0 })
		outage.begin()
		until(t, "refused while "+name, func() bool { return admission(4) == 3 && admission(5) == 0x88 })
		if status := readiness(); status != http.StatusServiceUnavailable {
			t.Errorf("%s: /readyz answers %d", name, status)
		}
		outage.end()
		until(t, "let in after "+name, func() bool { return admission(4) == 0 && admission(5) == 0 })
		until(t, "ready after "+name, func() bool { return readiness() == http.StatusOK })
	}
	c := s.dial(t, d, 5)
	c.Send(mqttest.Publish(1, 1, d.Topic, d.sign(t)))
	c.ExpectBytes(0x40, 2, 0, 1)
	if _, text := s.page(t, "/metrics"); strings.Contains(text, "\npulsegate_connections_refused_total{reason=\"unavailable\"} 0\n") {
		t.Error("the metrics do not show who was refused")
	}
}
