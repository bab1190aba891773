package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge"
	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/reading"
	"github.com/pulsegate/pulsegate/bridge/registry"
)

// startGate runs the whole gate in a fresh directory with one device enrolled.
func startGate(t *testing.T) (*bridge.Bridge, string, registry.Credentials) {
	t.Helper()
	c := config.Default()
	c.Data = t.TempDir()
	c.MQTT.Listen, c.NATS.Listen, c.HTTP.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	b, err := bridge.Start(t.Context(), c, bridge.Options{Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	credentials, err := b.Enrol(t.Context(), "w-1", "p-1")
	if err != nil {
		t.Fatal(err)
	}
	return b, c.Data, credentials
}

// send publishes a reading and returns when it is acknowledged, hence stored.
func send(t *testing.T, b *bridge.Bridge, c registry.Credentials, seq int) {
	t.Helper()
	key, err := parseKey(c.Key, "key")
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{
		"device_id": c.DeviceID, "patient_id": c.PatientID, "timestamp": time.Now().UTC().Format(time.RFC3339Nano),
		"seq": seq, "spo2": 97, "heart_rate": 72,
	})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := reading.Sign(key, text)
	if err != nil {
		t.Fatal(err)
	}
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + b.MQTT()).SetClientID(c.DeviceID).
		SetUsername(c.Username).SetPassword(c.Password).SetAutoReconnect(false))
	for _, step := range []func() mqtt.Token{client.Connect, func() mqtt.Token { return client.Publish(c.Topic, 1, false, payload) }} {
		token := step()
		if token.Wait(); token.Error() != nil {
			t.Fatal(token.Error())
		}
	}
	client.Disconnect(0)
}

// Without --all only what is stored from then on is shown, and an interrupt is
// no error.
func TestWatchShowsWhatIsNewUntilInterrupted(t *testing.T) {
	b, data, credentials := startGate(t)
	send(t, b, credentials, 1)

	ctx, interrupt := context.WithCancel(t.Context())
	outReader, out := io.Pipe()
	errReader, errOut := io.Pipe()
	root := newRoot()
	root.SetArgs([]string{"watch", "--json", "--data", data})
	root.SetOut(out)
	root.SetErr(errOut)
	ended := make(chan error, 1)
	go func() { ended <- root.ExecuteContext(ctx) }()

	if line, err := bufio.NewReader(errReader).ReadString('\n'); err != nil || !strings.Contains(line, "watching") {
		t.Fatalf("%q, %v", line, err)
	}
	lines := bufio.NewReader(outReader)
	for seq := 2; seq <= 4; seq++ {
		send(t, b, credentials, seq)
		line, err := lines.ReadBytes('\n')
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Subject string
			Headers map[string]string
			Data    struct{ Seq int }
		}
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatal(err)
		}
		if got.Subject != "vitals.live.p-1.w-1" || got.Data.Seq != seq || len(got.Headers["Nats-Msg-Id"]) != 64 {
			t.Errorf("got %s, want seq %d", line, seq)
		}
	}
	interrupt()
	if err := <-ended; err != nil {
		t.Errorf("an interrupt is an error: %v", err)
	}
}

func TestJSONLineKeepsTheValueAndDrivesNoTerminal(t *testing.T) {
	for name, c := range map[string]struct{ data, want string }{
		"numbers as they are":  {`{"a":1.50,"b":12345678901234567890,"c":1e400}`, `"data":{"a":1.50,"b":12345678901234567890,"c":1e400}`},
		"one line":             {"{\n\t\"a\" :\r\n1 }", `"data":{"a":1}`},
		"escapes as they are":  {`{"a":"\u001b[2J \/ <&>"}`, `"data":{"a":"\u001b[2J \/ <&>"}`},
		"C1 and DEL":           {"{\"a\":\"\u009b2J\u007f\"}", `"data":{"a":"\u009b2J\u007f"}`},
		"reordering":           {"{\"a\":\"\u202eabc\"}", `"data":{"a":"\u202eabc"}`},
		"beyond the BMP":       {"{\"a\":\"\U000e0001 \U0001f600\"}", `"data":{"a":"\udb40\udc01 ` + "\U0001f600" + `"}`},
		"letters as they are":  {`{"a":"é"}`, `"data":{"a":"é"}`},
		"no JSON":              {"\x1b]0;x\a", `"data_base64":"G10wO3gH"`},
		"headers":              {`{}`, `"One":"\u0085","Two":["a","b"]`},
		"place in the stream":  {`{}`, `"Nats-Sequence":"7","Nats-Time-Stamp":"2025-11-21T23:00:00Z"`},
		"subject":              {`{}`, `{"subject":"vitals.live.p.d",`},
		"duplicates are shown": {`{"a":1,"a":2}`, `"data":{"a":1,"a":2}`},
	} {
		t.Run(name, func(t *testing.T) {
			line, err := (*lines)(nil).json(egress.Stored{
				Sequence: 7, Time: time.Unix(1763766000, 0), Subject: "vitals.live.p.d", Data: []byte(c.data),
				Header: nats.Header{"One": {"\u0085"}, "Two": {"a", "b"}},
			})
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(line), c.want) || !json.Valid(line) {
				t.Errorf("got %s, want in it %s", line, c.want)
			}
			if i := bytes.IndexFunc(line, func(r rune) bool { return r < ' ' || 0x7f <= r && r < 0xa0 }); i >= 0 {
				t.Errorf("byte %d of %q drives a terminal", i, line)
			}
		})
	}
}

func TestPlainLinesQuoteWhatComesFromOutside(t *testing.T) {
	var out bytes.Buffer
	cmd := newWatch()
	cmd.SetOut(&out)
	l := newLines(cmd, egress.StreamRejections)
	for _, data := range []string{
		`{"outcome":"bad_signature","connection":"x\u001b[2J y","remote":"127.0.0.1:1","time":"2025-11-21T23:00:00Z","reason":"\u001b]0;x\u0007"}`,
		"\x1b[2J",
		`{"outcome":"bad_signature","device_id":"w-0001","remote":"192.0.2.7","from":"2025-11-21T23:00:00Z","until":"2025-11-21T23:00:09.5Z","left_out":2980}`,
		`{"outcome":"malformed","from":"2025-11-21T23:00:00Z","until":"2025-11-21T23:00:09.5Z","left_out":1}`,
	} {
		if err := l.show(egress.Stored{Time: time.Unix(0, 0), Subject: "rejected.x._", Data: []byte(data)}); err != nil {
			t.Fatal(err)
		}
	}
	want := `2025-11-21T23:00:00.000Z  bad_signature  _  by "x\x1b[2J y"  from 127.0.0.1:1  "\x1b]0;x\a"` + "\n" +
		`1970-01-01T00:00:00.000Z  rejected.x._  "\x1b[2J"` + "\n" +
		`2025-11-21T23:00:09.500Z  bad_signature  w-0001  from 192.0.2.7  and 2980 more like it since 2025-11-21T23:00:00.000Z, only counted` + "\n" +
		`2025-11-21T23:00:09.500Z  malformed  _  and 1 more like it since 2025-11-21T23:00:00.000Z, only counted` + "\n"
	if out.String() != want {
		t.Errorf("got  %q\nwant %q", out.String(), want)
	}
}
