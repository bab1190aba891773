package siege_test

import (
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/device-sim/attack/siege"
)

func credentials(n int) []registry.Credentials {
	var all []registry.Credentials
	for i := range n {
		id := fmt.Sprintf("w-%02d", i)
		key := make([]byte, 32)
		key[0] = byte(i + 1)
		all = append(all, registry.Credentials{
			DeviceID: id, PatientID: fmt.Sprintf("p-%02d", i), Topic: "wearables/" + id + "/vitals",
			Username: id, Password: "secret-" + id, Key: hex.EncodeToString(key),
		})
	}
	return all
}

// quick are options for brokers that let attacks wait for what does not come.
func quick(broker string) siege.Options {
	return siege.Options{
		Broker: broker, Credentials: credentials(8), Attacks: siege.OverMQTT(siege.All()),
		Quiet: 200 * time.Millisecond, Patience: 500 * time.Millisecond, CloseWithin: time.Second, Limit: 700 * time.Millisecond,
	}
}

func otherwise(r siege.Report) []string {
	var all []string
	for _, row := range r.Rows {
		if row.Otherwise > 0 {
			all = append(all, row.Attack)
		}
	}
	return all
}

// openNATS is a server where everybody may do everything, with the stream that the
// gate would have, but for its memory of duplicates.
func openNATS(t *testing.T) (url string, nc *nats.Conn) {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if nc, err = nats.Connect(s.ClientURL()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	config := jetstream.StreamConfig{Name: "VITALS", Subjects: []string{"vitals.>"}, AllowDirect: true}
	if _, err := js.CreateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	return s.ClientURL(), nc
}

// TestEveryExpectationCanFail: nothing that agrees to everything passes any attack.
// Replays are acknowledged by a right gate too; they come out in the end.
func TestEveryExpectationCanFail(t *testing.T) {
	url, nc := openNATS(t)
	o := quick(startYesMan(t, nc))
	o.Attacks, o.NATS = siege.All(), []string{url}
	report, err := siege.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", report.Text())
	found := otherwise(report)
	for _, a := range o.Attacks {
		if a.Name != "replay" && a.Name != "replay-flood" && !slices.Contains(found, a.Name) {
			t.Errorf("%s found nothing", a.Name)
		}
	}
	text := report.Text()
	for _, finding := range []string{
		"a reading is stored that nobody signed", "a reading is stored more than once", "something injected is stored in a header",
		"a reader saw readings that nobody signed", "a reader saw something injected",
	} {
		if !strings.Contains(text, finding) {
			t.Errorf("it was not found that %s", finding)
		}
	}
	if report.Err() == nil {
		t.Error("the report is no error")
	}
	for _, c := range o.Credentials {
		if strings.Contains(text, c.Password) || strings.Contains(text, c.Key) {
			t.Errorf("the report holds secrets of %s", c.DeviceID)
		}
	}
}

// lax lets everybody do everything.
type lax struct{ mochi.HookBase }

func (*lax) Provides(event byte) bool {
	return event == mochi.OnConnectAuthenticate || event == mochi.OnACLCheck
}

func (*lax) OnConnectAuthenticate(*mochi.Client, packets.Packet) bool { return true }

func (*lax) OnACLCheck(*mochi.Client, string, bool) bool { return true }

// startMochi is a Mochi as it comes, but that a panic ends only its connection.
func startMochi(t *testing.T) (address string, panics func() int) {
	t.Helper()
	broker := mochi.New(&mochi.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err := broker.AddHook(new(lax), nil); err != nil {
		t.Fatal(err)
	}
	if err := broker.Serve(); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	n := 0
	var serving sync.WaitGroup
	var conns []net.Conn
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			serving.Go(func() {
				defer c.Close()
				defer func() {
					if recover() != nil {
						mu.Lock()
						n++
						mu.Unlock()
					}
				}()
				_ = broker.EstablishConnection("tcp", c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		serving.Wait()
		_ = broker.Close()
	})
	return l.Addr().String(), func() int { mu.Lock(); defer mu.Unlock(); return n }
}

// TestLaxBroker: the kit finds what an unguarded broker does, and that it goes on
// serving those who are honest.
func TestLaxBroker(t *testing.T) {
	address, panics := startMochi(t)
	report, err := siege.Run(t.Context(), quick(address))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", report.Text())
	found := otherwise(report)
	for _, name := range []string{
		"forged-signature", "will", "retained", "session-takeover", "subscribe-others", "subscribe-wildcard", "subscribe-sys",
		"subscribe-share", "will-abuse", "retained-abuse", "keepalive-extremes", "header-injection", "half-open", "slow-writer",
		"forged-flood", "login-guessing", "oversized", "topic-alias",
	} {
		if !slices.Contains(found, name) {
			t.Errorf("%s found nothing", name)
		}
	}
	if panics() == 0 {
		t.Error("no packet made the broker panic")
	}
	if report.Honest.Attacked == 0 {
		t.Errorf("latencies: %+v", report.Honest)
	}
}

func TestSelect(t *testing.T) {
	all := siege.All()
	for list, want := range map[string]int{"all": len(all), "replay": 1, " oversized , truncated,oversized": 2} {
		if got, err := siege.Select(list); err != nil || len(got) != want {
			t.Errorf("%q selects %d: %v", list, len(got), err)
		}
	}
	for _, list := range []string{"", "truncatde", "all,truncated"} {
		if _, err := siege.Select(list); err == nil || !strings.Contains(err.Error(), "topic-alias") {
			t.Errorf("%q: the error is %v", list, err)
		}
	}
	seen := make(map[string]bool)
	for _, a := range all {
		if a.Name == "" || a.Description == "" || a.Expected == "" || seen[a.Name] {
			t.Errorf("attack %+v is incomplete or there twice", a)
		}
		seen[a.Name] = true
	}
}

func TestRunRefuses(t *testing.T) {
	for part, change := range map[string]func(*siege.Options){
		"broker":   func(o *siege.Options) { o.Broker = "" },
		"attacks":  func(o *siege.Options) { o.Attacks = nil },
		"too few":  func(o *siege.Options) { o.Credentials = credentials(4) },
		"strength": func(o *siege.Options) { o.Strength = -1 },
		"twice":    func(o *siege.Options) { o.Credentials = append(o.Credentials, o.Credentials[0]) },
		"NATS":     func(o *siege.Options) { o.Attacks = siege.All() },
		"key":      func(o *siege.Options) { o.Credentials[3].Key = "zz" },
		"honest":   func(*siege.Options) {}, // nobody is there
	} {
		o := quick("127.0.0.1:1")
		change(&o)
		if _, err := siege.Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: the error is %v", part, err)
		}
	}
}

// TestDocumentation: the page says of every attack what the code does.
func TestDocumentation(t *testing.T) {
	page, err := os.ReadFile("../../../docs/attacks.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, "| `") && strings.Count(line, "|") == 4 {
			rows++
		}
	}
	for _, a := range siege.All() {
		if line := fmt.Sprintf("| `%s` | %s | %s |\n", a.Name, a.Description, a.Expected); !strings.Contains(string(page), line) {
			t.Errorf("docs/attacks.md lacks the line\n%s", line)
		}
	}
	if rows != len(siege.All()) {
		t.Errorf("docs/attacks.md has %d rows for %d attacks", rows, len(siege.All()))
	}
}
