package source_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/pulsegate/pulsegate/bridge/ingress"
	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
	"github.com/pulsegate/pulsegate/bridge/ingress/source"
	"github.com/pulsegate/pulsegate/bridge/ingress/source/mosquittest"
)

// Each message is handled once, though several filters match it, and comes with
// its own topic.
func TestSeveralFilters(t *testing.T) {
	t.Parallel()
	b := mosquittest.Start(t)
	g := open(t, b, func(o *source.Options) {
		o.Filters = []string{"wearables/+/vitals", "wearables/#", "wards/7/+/vitals", "wards/7/+/vitals"}
	})
	device := b.Publisher(t, "w-1")
	for _, to := range []string{topic, "wearables/w-1/other", "wards/8/w-1/vitals", "wards/7/w-1/vitals"} {
		device.Publish(to, []byte(to))
	}
	for _, want := range []string{topic, "wearables/w-1/other", "wards/7/w-1/vitals"} {
		c := g.next(t)
		if c.Topic != want || string(c.Payload) != want || c.Form != ingress.Published || c.broker != b.Address {
			t.Errorf("got %+v, want %s", c, want)
		}
		c.done(accepted)
	}
	g.quiet(t)
}

// A retained message is known as such; at QoS 0 what is not stored is lost and
// counted, and does not end the connection.
func TestRetainedAndQoS0(t *testing.T) {
	t.Parallel()
	b := mosquittest.Start(t)
	device := b.Publisher(t, "w-1")
	kept := mqttest.Publish(1, 1, topic, []byte("retained"))
	kept.FixedHeader.Retain = true
	device.Send(kept)
	device.Expect(packets.Puback)
	g := open(t, b)
	c := g.take(t, "retained")[0]
	if c.Form != ingress.Retained {
		t.Errorf("form %d", c.Form)
	}
	c.done(accepted)
	device.Send(mqttest.Publish(0, 0, topic, []byte("at most once")))
	g.take(t, "at most once")[0].done(failed)
	g.until(t, "counted as lost", func() bool { return g.Lost() == 1 })
	device.Publish(topic, []byte("next"))
	g.settle(t, "next")
	if g.Reconnects() != 0 {
		t.Errorf("%d reconnects", g.Reconnects())
	}
}

// A message that no reading can be is passed over without being read, and does
// not come again.
func TestOversize(t *testing.T) {
	t.Parallel()
	b := mosquittest.Start(t)
	g := open(t, b)
	device := b.Publisher(t, "w-1")
	for _, size := range []int{16 << 10, 80 << 10, 3 << 20} {
		device.Publish(topic, make([]byte, size))
		c := g.next(t)
		if c.Form != ingress.Oversize || c.Topic != "" || c.Payload != nil {
			t.Errorf("%d bytes: got form %d, %d bytes on %q", size, c.Form, len(c.Payload), c.Topic)
		}
		c.done(ingress.Disposition{})
	}
	most := strings.Repeat("x", 16<<10-len(topic))
	device.Publish(topic, []byte(most))
	g.settle(t, most)
	if g.Reconnects() != 0 {
		t.Errorf("%d reconnects", g.Reconnects())
	}
	g.close(t)
	b.Await(t, "Received PUBACK from gate", 4)
}

// permits is a configuration of Mosquitto's dynamic security in which everybody
// may subscribe to some filters. With acl_file Mosquitto grants every
// subscription, and delivers nothing.
func permits(t *testing.T, dir string, filters ...string) string {
	t.Helper()
	plugins, _ := filepath.Glob("/usr/lib/*/mosquitto_dynamic_security.so")
	if len(plugins) == 0 {
		absent(t, "Mosquitto's dynamic security")
	}
	var acls []string
	for _, f := range filters {
		acls = append(acls, fmt.Sprintf(`{"acltype":"subscribeLiteral","topic":%q,"allow":true}`, f))
	}
	file := filepath.Join(dir, "security.json")
	must(t, os.WriteFile(file, fmt.Appendf(nil, `{"defaultACLAccess":{"publishClientSend":true,"publishClientReceive":true,"subscribe":false,"unsubscribe":true},
		"anonymousGroup":"all","groups":[{"groupname":"all","roles":[{"rolename":"reader"}]}],"clients":[],
		"roles":[{"rolename":"reader","acls":[%s]}]}`, strings.Join(acls, ",")), 0o600))
	return "plugin " + plugins[0] + "\nplugin_opt_config_file " + file
}

// A refused subscription is no silence: it is said, and tried again.
func TestARefusedSubscription(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := mosquittest.StartIn(t, dir, permits(t, dir, "wearables/+/vitals"))
	g := start(t, func(o *source.Options) {
		o.Brokers, o.Filters = []string{b.URL()}, []string{"wearables/+/vitals", "wards/+/vitals"}
	})
	g.broken(t, `refused the subscription to "wards/+/vitals"`, "allow it", b.Address)
	if text := g.Err().Error(); strings.Contains(text, "wearables") || strings.Contains(text, "\n") {
		t.Errorf("Err says %q", text)
	}
	g.until(t, "logged as an error", func() bool { return strings.Contains(g.log.String(), `"level":"error"`) })
	b.Stop()
	permits(t, dir, "wearables/+/vitals", "wards/+/vitals")
	b.Run(t)
	g.connected(t)
	b.Publisher(t, "w-1").Publish("wards/7/vitals", []byte("1"))
	g.settle(t, "1")
}

// A broker that grants QoS 0 would lose what it is not asked to keep.
func TestASubscriptionAtQoS0(t *testing.T) {
	t.Parallel()
	listener := listeners.NewTCP(listeners.Config{ID: "tcp", Address: "127.0.0.1:0"})
	startMochi(t, listener, 0)
	g := start(t, func(o *source.Options) { o.Brokers = []string{"mqtt://" + listener.Address()} })
	g.broken(t, "granted QoS 0", "wearables/+/vitals")
}

// welcoming lets everybody do everything at a Mochi broker.
type welcoming struct{ mochi.HookBase }

func (*welcoming) Provides(event byte) bool {
	return event == mochi.OnConnectAuthenticate || event == mochi.OnACLCheck
}
func (*welcoming) OnConnectAuthenticate(*mochi.Client, packets.Packet) bool { return true }
func (*welcoming) OnACLCheck(*mochi.Client, string, bool) bool              { return true }

func startMochi(t *testing.T, l listeners.Listener, maximumQoS byte) {
	t.Helper()
	can := mochi.NewDefaultServerCapabilities()
	can.MaximumQos = maximumQoS
	server := mochi.New(&mochi.Options{Capabilities: can, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	must(t, server.AddHook(new(welcoming), nil))
	must(t, server.AddListener(l))
	must(t, server.Serve())
	t.Cleanup(func() { _ = server.Close() })
}

func TestALoginIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "passwords")
	if out, err := exec.Command("mosquitto_passwd", "-b", "-c", file, "pulsegate", secret).CombinedOutput(); err != nil {
		absent(t, fmt.Sprintf("mosquitto_passwd (%v: %s)", err, out))
	}
	b := mosquittest.StartIn(t, dir, "allow_anonymous false", "password_file "+file)
	wrong := start(t, func(o *source.Options) {
		o.Brokers, o.User, o.Password = []string{b.URL()}, "pulsegate", secret+"-not"
	})
	wrong.broken(t, "refused the connection", "check user, password", b.Address)
	if strings.Contains(wrong.Err().Error(), secret) {
		t.Error(wrong.Err())
	}
	open(t, b, named("right"), func(o *source.Options) { o.User, o.Password = "pulsegate", secret })
}

// Of several brokers the first that answers is taken.
func TestABrokerThatIsAway(t *testing.T) {
	t.Parallel()
	b := mosquittest.Start(t)
	dead := mosquittest.Start(t)
	dead.Kill()
	g := open(t, b, func(o *source.Options) { o.Brokers = []string{dead.URL(), b.URL()} })
	b.Publisher(t, "w-1").Publish(topic, []byte("1"))
	g.settle(t, "1")
	b.Kill()
	g.broken(t, dead.Address, b.Address, "connection refused")
	b.Run(t)
	g.connected(t)
}

// A broker that forgets its sessions loses what waited in them.
func TestAForgottenSession(t *testing.T) {
	t.Parallel()
	b := mosquittest.Start(t, "persistence false")
	g := open(t, b)
	b.Kill()
	g.broken(t, b.Address)
	b.Run(t)
	g.connected(t)
	if !strings.Contains(g.log.String(), "has forgotten the session") {
		t.Errorf("the log does not say it: %s", g.log)
	}
}

// Two clients with one id end each other's connection.
func TestTwoWithOneClientID(t *testing.T) {
	t.Parallel()
	b := mosquittest.Start(t)
	one, other := open(t, b), open(t, b)
	for _, g := range []*gate{one, other} {
		g.until(t, "hinted at the client id", func() bool { return strings.Contains(g.log.String(), "give every replica its own") })
	}
}

func TestOptionsThatCannotBe(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*source.Options){
		"there is no broker":       func(o *source.Options) { o.Brokers = nil },
		"cannot be read":           func(o *source.Options) { o.Brokers = []string{"mqtt://"} },
		"the scheme is none of":    func(o *source.Options) { o.Brokers = []string{"tcp://localhost:1883"} },
		"has credentials in it":    func(o *source.Options) { o.Brokers = []string{"mqtt://user:" + secret + "@localhost"} },
		"there is no client id":    func(o *source.Options) { o.ClientID = "" },
		"there is no topic filter": func(o *source.Options) { o.Filters = nil },
		"in flight are 0 messages": func(o *source.Options) { o.InFlight = 0 },
		"and 0 bytes":              func(o *source.Options) { o.InFlightBytes = 0 },
		"a password, but no user":  func(o *source.Options) { o.Password = secret },
		"a handler and a clock":    func(o *source.Options) { o.Handler = nil },
		"TLS: open /none: no such file": func(o *source.Options) {
			o.Brokers = []string{"mqtts://localhost"}
			o.TLS = func() (*tls.Config, error) { _, err := os.ReadFile("/none"); return nil, err }
		},
	} {
		o := source.Options{
			Brokers: []string{"mqtt://localhost"}, ClientID: "gate", Filters: []string{"#"}, InFlight: 1, InFlightBytes: 1,
			Handler: func(string) ingress.Handler { return nil }, Now: time.Now,
		}
		change(&o)
		s, err := source.Open(o)
		if err == nil {
			s.Close(t.Context())
			t.Fatalf("it opens; want %q", want)
		}
		if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), secret) {
			t.Errorf("%v: want %q", err, want)
		}
	}
}
