package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/pulsegate/pulsegate/bridge/registry"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"pulsegate": main})
}

// The scripts drive the real program in processes of its own. Besides the usual
// commands they have:
//
//	serve DIR [FLAG...]    start the service, wait for its ready line, set
//	                       PULSEGATE_DATA, MQTT_PORT, MQTT, NATS and HTTP
//	stop                   interrupt it and expect that it ends cleanly
//	natsserver DIR         start a NATS server of its own with the accounts of
//	                       credentials in DIR, set GATE_URL and PULSEGATE_OPERATOR_URL
//	lagging NAME           report there as a live replica that applies no change
//	http STATUS PATH       get a page of the service
//	reading FILE DEV PAT   write the text of a reading measured now
//	publish CREDS PAYLOAD  publish at QoS 1 as the device of CREDS
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("XDG_STATE_HOME", filepath.Join(e.WorkDir, "state"))
			e.Values[serviceKey{}] = &service{environ: e.Vars}
			return nil
		},
		Condition: condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"natsserver": startNATS, "lagging": addLagging,
			// Not "stop", which is testscript's own and ends the script as passed.
			"serve": startService, "halt": stopService, "http": getPage, "reading": writeReading, "publish": publishFile,
		},
	})
}

// condition knows [mosquitto]: Debian's mosquitto_pub is there.
func condition(name string) (bool, error) {
	if name != "mosquitto" {
		return false, fmt.Errorf("unknown condition %q", name)
	}
	_, err := exec.LookPath("mosquitto_pub")
	if err != nil && os.Getenv("CI") == "true" {
		return false, errors.New("mosquitto_pub is not installed")
	}
	return err == nil, nil
}

type serviceKey struct{}

// service is the one that a script has started.
type service struct {
	environ []string
	command *exec.Cmd
	stderr  bytes.Buffer
}

func serviceOf(ts *testscript.TestScript) *service { return ts.Value(serviceKey{}).(*service) }

func readyLine() *regexp.Regexp {
	return regexp.MustCompile(`^pulsegate \S+ is ready: MQTT on (\S+), NATS on (\S+), HTTP on (\S+); try: pulsegate device add .*; pulsegate watch`)
}

func startService(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: serve DIR [FLAG...]")
	}
	s, dir := serviceOf(ts), ts.MkAbs(args[0])
	free := "127.0.0.1:0"
	s.command = exec.Command("pulsegate", append([]string{"serve", "--data", dir, "--mqtt-listen", free, "--nats-listen", free, "--http-listen", free}, args[1:]...)...)
	s.command.Env, s.command.Stderr = s.environ, &s.stderr
	out, err := s.command.StdoutPipe()
	ts.Check(err)
	ts.Check(s.command.Start())
	ts.Defer(func() { s.end(ts) })
	line, err := bufio.NewReader(out).ReadString('\n')
	found := readyLine().FindStringSubmatch(line)
	if found == nil {
		ts.Fatalf("no ready line but %q, %v", line, err)
	}
	ts.Setenv("PULSEGATE_DATA", dir)
	ts.Setenv("MQTT", found[1])
	ts.Setenv("MQTT_PORT", found[1][strings.LastIndexByte(found[1], ':')+1:])
	ts.Setenv("NATS", found[2])
	ts.Setenv("HTTP", found[3])
}

// end makes sure that nothing is left running, whatever the script did.
func (s *service) end(ts *testscript.TestScript) {
	if s.command == nil {
		return
	}
	_ = s.command.Process.Kill()
	_ = s.command.Wait() // only then is all of its log there
	s.command = nil
	ts.Logf("the service's log:\n%s", s.stderr.String())
}

func stopService(ts *testscript.TestScript, _ bool, _ []string) {
	s := serviceOf(ts)
	ts.Check(s.command.Process.Signal(os.Interrupt))
	if err := s.command.Wait(); err != nil {
		ts.Fatalf("the service ended with %v; stderr:\n%s", err, s.stderr.String())
	}
	s.command = nil
}

func getPage(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: http STATUS PATH")
	}
	response, err := http.Get("http://" + ts.Getenv("HTTP") + args[1])
	ts.Check(err)
	defer response.Body.Close()
	_, err = io.Copy(ts.Stdout(), response.Body)
	ts.Check(err)
	if got := fmt.Sprint(response.StatusCode); got != args[0] {
		ts.Fatalf("%s answers %s, want %s", args[1], got, args[0])
	}
}

func writeReading(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 && len(args) != 4 {
		ts.Fatalf("usage: reading FILE DEVICE PATIENT [AGE]")
	}
	at := time.Now()
	if len(args) == 4 {
		age, err := time.ParseDuration(args[3])
		ts.Check(err)
		at = at.Add(-age)
	}
	text := fmt.Sprintf(`{"device_id":%q,"patient_id":%q,"timestamp":%.3f,"seq":7,"spo2":97.5,"heart_rate":72}`,
		args[1], args[2], float64(at.UnixMilli())/1000)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

func publishFile(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: publish CREDENTIALS PAYLOAD")
	}
	all, err := registry.ReadCredentials(strings.NewReader(ts.ReadFile(args[0])))
	ts.Check(err)
	c := all[0]
	err = ts.Exec("mosquitto_pub", "-h", "127.0.0.1", "-p", ts.Getenv("MQTT_PORT"), "-i", c.DeviceID, "-u", c.Username, "-P", c.Password,
		"-t", c.Topic, "-q", "1", "-f", ts.MkAbs(args[1]))
	if neg != (err != nil) {
		ts.Fatalf("mosquitto_pub: %v", err)
	}
}
