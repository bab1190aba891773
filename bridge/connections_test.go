package bridge_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/pulsegate/pulsegate/bridge/certs/certstest"
	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
	"github.com/pulsegate/pulsegate/bridge/registry"
)

// ward is a gate that devices reach in every way, and who signs certificates.
type ward struct {
	*system
	servers, clients *certstest.Authority
	shown            certstest.Pair
}

func startWard(t *testing.T, client string) *ward {
	t.Helper()
	w := &ward{servers: certstest.New(t), clients: certstest.New(t)}
	w.shown = w.servers.Issue(t, "the gate")
	c := small(t)
	c.MQTT.TLS = config.MQTTTLS{Listen: "127.0.0.1:0", Cert: w.shown.Cert, Key: w.shown.Key, Client: client}
	if client != config.ClientPassword {
		c.MQTT.TLS.ClientCA = w.clients.File
	}
	c.MQTT.WebSocket.Listen, c.MQTT.WebSocket.Scheme = "127.0.0.1:0", config.SchemeSecure
	c.HTTP.TLS = config.HTTPTLS{Cert: w.shown.Cert, Key: w.shown.Key}
	must(t, c.Validate())
	w.system = start(t, c)
	return w
}

// tls is the configuration of a client that shows these certificates.
func (w *ward) tls(pairs ...certstest.Pair) *tls.Config {
	c := &tls.Config{RootCAs: w.servers.Pool}
	for _, p := range pairs {
		c.Certificates = append(c.Certificates, p.Certificate)
	}
	return c
}

// host is the address of the listener with a scheme.
func (s *system) host(t *testing.T, scheme string) string {
	t.Helper()
	for _, text := range s.Listeners() {
		if u, err := url.Parse(text); err == nil && u.Scheme == scheme {
			return u.Host
		}
	}
	t.Fatalf("nothing listens for %s: %v", scheme, s.Listeners())
	return ""
}

func (s *system) dialTLS(t *testing.T, c *tls.Config) (*mqttest.Client, *tls.Conn) {
	t.Helper()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: mqttest.Patience}, "tcp", s.host(t, "mqtts"), c)
	must(t, err)
	return mqttest.Over(t, conn, 5), conn
}

// pahoSends publishes one reading with paho.
func (s *system) pahoSends(t *testing.T, d *device, broker string, c *tls.Config) {
	t.Helper()
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(broker).SetClientID(d.DeviceID).SetTLSConfig(c).
		SetUsername(d.Username).SetPassword(d.Password).SetAutoReconnect(false).SetProtocolVersion(4))
	await(t, client.Connect())
	defer client.Disconnect(0)
	payload := d.sign(t)
	before := len(s.stored(t))
	await(t, client.Publish(d.Topic, 1, false, payload))
	stored := s.stored(t)
	if len(stored) != before+1 {
		t.Fatalf("%s: %d are stored, want %d", broker, len(stored), before+1)
	}
	checkStored(t, stored[before], d, payload)
}

func TestEveryWayIn(t *testing.T) {
	t.Parallel()
	w := startWard(t, config.ClientPassword)
	d := w.enrol(t, "w-0001", "p-0001")
	w.pahoSends(t, d, "tcp://"+w.MQTT(), nil)
	w.pahoSends(t, d, "ssl://"+w.host(t, "mqtts"), w.tls())
	w.pahoSends(t, d, "wss://"+w.host(t, "wss")+"/mqtt", w.tls())

	c := http.Client{Transport: &http.Transport{TLSClientConfig: w.tls()}, Timeout: mqttest.Patience}
	defer c.CloseIdleConnections()
	answer, err := c.Get("https://" + w.HTTP() + "/healthz")
	must(t, err)
	body, err := io.ReadAll(answer.Body)
	must(t, err)
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusOK || string(body) != "ok\n" {
		t.Errorf("/healthz: %s %q", answer.Status, body)
	}
}

func TestPlainWebSocketAlone(t *testing.T) {
	t.Parallel()
	c := small(t)
	c.MQTT.Listen, c.MQTT.WebSocket.Listen = "", "127.0.0.1:0"
	must(t, c.Validate())
	s := start(t, c)
	d := s.enrol(t, "w-0001", "p-0001")
	s.pahoSends(t, d, "ws://"+s.MQTT(), nil)
	if all := s.Listeners(); len(all) != 1 || all[0] != "ws://"+s.MQTT() {
		t.Errorf("it listens on %v", all)
	}
}

func TestMosquittoPubOverTLS(t *testing.T) {
	t.Parallel()
	need(t, "mosquitto_pub")
	w := startWard(t, config.ClientBoth)
	d := w.enrol(t, "w-0001", "p-0001")
	triage := w.subscribe(t, "consumer", "vitals.live.>")
	pair := w.clients.Issue(t, d.DeviceID)
	host, port, err := net.SplitHostPort(w.host(t, "mqtts"))
	must(t, err)
	publish := func(payload []byte, more ...string) ([]byte, error) {
		cmd := exec.CommandContext(t.Context(), "mosquitto_pub", append([]string{
			"-h", host, "-p", port, "-V", "mqttv5", "-q", "1", "--cafile", w.servers.File,
			"-i", d.DeviceID, "-u", d.Username, "-P", d.Password, "-t", d.Topic, "-s",
		}, more...)...)
		cmd.Stdin = bytes.NewReader(payload)
		return cmd.CombinedOutput()
	}
	payload := d.sign(t)
	if out, err := publish(payload, "--cert", pair.Cert, "--key", pair.Key); err != nil {
		t.Errorf("mosquitto_pub: %v: %s", err, out)
	}
	if m := receive(t, triage); !bytes.Equal(m.Data, payload) {
		t.Errorf("arrived as %s", m.Data)
	}
	if out, err := publish(d.sign(t)); err == nil {
		t.Errorf("without a certificate it is let in: %s", out)
	}
}

// refusal is an event of the audit about a login.
type refusal struct {
	ClientID string `json:"client_id"`
	Reason   string `json:"reason"`
}

// login is an attempt, and what comes of it.
type login struct {
	shows, id string
	options   []mqttest.Option
	code      byte
	reason    string
}

func (w *ward) try(t *testing.T, attempts map[string]login) {
	t.Helper()
	audit := w.subscribe(t, "security", "audit.login.>")
	for name, run := range attempts {
		c, _ := w.dialTLS(t, w.tls(w.clients.Issue(t, run.shows)))
		ack := c.Connect(run.id, run.options...)
		if ack.ReasonCode != run.code {
			t.Errorf("%s: CONNACK %#x, want %#x", name, ack.ReasonCode, run.code)
		}
		if run.code == 0 {
			c.Close()
			continue
		}
		c.ExpectEnd()
		var event refusal
		must(t, json.Unmarshal(receive(t, audit).Data, &event))
		if event.ClientID != run.id || !strings.Contains(event.Reason, run.reason) {
			t.Errorf("%s: the audit says %+v, want %q", name, event, run.reason)
		}
	}
}

func TestCertificateInPlaceOfPassword(t *testing.T) {
	t.Parallel()
	w := startWard(t, config.ClientCertificate)
	d := w.enrol(t, "w-0001", "p-0001")
	w.enrol(t, "w-0002", "p-0002")
	w.enrol(t, "w-0003", "p-0003")
	_, err := w.Registry().Revoke(t.Context(), registry.KindDevice, "w-0003", "a test")
	must(t, err)
	_, err = w.Registry().Add(t.Context(), registry.New{Kind: registry.KindGateway, ID: "g-1", Prefixes: []string{"w-"}, By: "a test"})
	must(t, err)
	password := mqttest.Login("w-0001", d.Password)
	w.try(t, map[string]login{
		"its own":                   {"w-0001", "w-0001", nil, 0, ""},
		"its own, a wrong password": {"w-0001", "w-0001", []mqttest.Option{mqttest.Login("w-0001", "wrong")}, 0, ""},
		"a gateway's":               {"g-1", "g-1", nil, 0, ""},
		"another's":                 {"w-0002", "w-0001", nil, 0x87, "client identifier"},
		"another's, and a password": {"w-0002", "w-0001", []mqttest.Option{password}, 0x87, "client identifier"},
		"a revoked one's":           {"w-0003", "w-0003", nil, 0x86, `"w-0003", which is not enrolled, or revoked`},
		"a stranger's":              {"w-0004", "w-0004", nil, 0x86, `"w-0004", which is not enrolled`},
		"nobody's":                  {"", "w-0001", nil, 0x86, `"", which is not enrolled`},
		"nobody's for nobody":       {"", "", nil, 0x86, `"", which is not enrolled`},
	})
	w.pahoSends(t, &device{Credentials: registry.Credentials{
		DeviceID: d.DeviceID, PatientID: d.PatientID, Topic: d.Topic, Key: d.Key,
	}}, "wss://"+w.host(t, "wss"), w.tls(w.clients.Issue(t, "w-0001")))

	// A connection that a certificate opened ends with its device's revocation.
	c, _ := w.dialTLS(t, w.tls(w.clients.Issue(t, "w-0002")))
	c.Connect("w-0002")
	_, err = w.Registry().Revoke(t.Context(), registry.KindDevice, "w-0002", "a test")
	must(t, err)
	if bye, err := c.Next(); err != nil || bye.ReasonCode != 0x98 {
		t.Errorf("%x (%v), want DISCONNECT 0x98", bye.Raw, err)
	}
}

func TestPasswordAndCertificate(t *testing.T) {
	t.Parallel()
	w := startWard(t, config.ClientBoth)
	d, other := w.enrol(t, "w-0001", "p-0001"), w.enrol(t, "w-0002", "p-0002")
	own, others := mqttest.Login(d.Username, d.Password), mqttest.Login(other.Username, other.Password)
	w.try(t, map[string]login{
		"both":                    {"w-0001", "w-0001", []mqttest.Option{own}, 0, ""},
		"no password":             {"w-0001", "w-0001", nil, 0x86, "the password does not match"},
		"a wrong password":        {"w-0001", "w-0001", []mqttest.Option{mqttest.Login("w-0001", other.Password)}, 0x86, "the password does not match"},
		"another's certificate":   {"w-0002", "w-0001", []mqttest.Option{own}, 0x86, `another's: "w-0002"`},
		"another's password":      {"w-0001", "w-0001", []mqttest.Option{others}, 0x86, `another's: "w-0001"`},
		"another's client id":     {"w-0001", "w-0002", []mqttest.Option{own}, 0x87, "client identifier"},
		"a certificate of nobody": {"", "w-0001", []mqttest.Option{own}, 0x86, "the password does not match"},
	})
}

// Nobody takes over a session with another's client id, whatever he holds of his
// own.
func TestNoTakeoverWithAnothersClientID(t *testing.T) {
	t.Parallel()
	w := startWard(t, config.ClientCertificate)
	d, thief := w.enrol(t, "w-0001", "p-0001"), w.enrol(t, "w-0002", "p-0002")
	victim := w.dial(t, d, 5)
	secure, _ := w.dialTLS(t, w.tls(w.clients.Issue(t, thief.DeviceID)))
	plain := mqttest.Dial(t, w.MQTT(), 5)
	for _, c := range []*mqttest.Client{secure, plain} {
		if ack := c.Connect(d.DeviceID, mqttest.Login(thief.Username, thief.Password)); ack.ReasonCode != 0x87 {
			t.Errorf("CONNACK %#x, want 0x87", ack.ReasonCode)
		}
		c.ExpectEnd()
	}
	victim.Ping()
	victim.Send(mqttest.Publish(1, 1, d.Topic, d.sign(t)))
	victim.ExpectBytes(0x40, 2, 0, 1)
}

func TestNewCertificatesWhileConnectionsStayOpen(t *testing.T) {
	t.Parallel()
	w := startWard(t, config.ClientPassword)
	d := w.enrol(t, "w-0001", "p-0001")
	old, conn := w.dialTLS(t, w.tls())
	if ack := old.Connect(d.DeviceID, mqttest.Login(d.Username, d.Password)); ack.ReasonCode != 0 {
		t.Fatalf("CONNACK %#x", ack.ReasonCode)
	}
	next := w.servers.Issue(t, "the gate, renewed")
	w.shown.Replace(t, next)
	deadline := time.Now().Add(mqttest.Patience)
	for {
		_, fresh := w.dialTLS(t, w.tls())
		_ = fresh.Close()
		if fresh.ConnectionState().PeerCertificates[0].Equal(next.Leaf) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("new connections still see the old certificate")
		}
	}
	if !conn.ConnectionState().PeerCertificates[0].Equal(w.shown.Leaf) {
		t.Error("the open connection did not begin with the old certificate")
	}
	old.Send(mqttest.Publish(1, 1, d.Topic, d.sign(t)))
	old.ExpectBytes(0x40, 2, 0, 1)
}

// TestAFailedHandshakeIsAudited shows a certificate of an authority that the
// gate does not trust: the login fails before MQTT begins.
func TestAFailedHandshakeIsAudited(t *testing.T) {
	t.Parallel()
	w := startWard(t, config.ClientCertificate)
	audit := w.subscribe(t, "security", "audit.login.>")
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: mqttest.Patience}, "tcp", w.host(t, "mqtts"), w.tls(certstest.New(t).Issue(t, "w-0001")))
	if err == nil { // in TLS 1.3 the client hears of it when it reads
		defer conn.Close()
	}
	if m := receive(t, audit); m.Subject != "audit.login.refused" || !strings.Contains(string(m.Data), "TLS handshake") {
		t.Errorf("%s: %s", m.Subject, m.Data)
	}
}
