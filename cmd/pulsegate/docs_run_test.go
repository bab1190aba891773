package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// examplesLimit bounds what the examples of one page may take.
const examplesLimit = 2 * time.Minute

// here says what is different where the test runs an example. Nothing else is
// changed in it. The functions are those of testdata/docs/page.sh.
func here() [][2]string {
	return [][2]string{
		// This is such a run; TestCommandsThatAreNamed looks for the package and what it is to run.
		{`(?m)^go test .*`, `:`},
		// The go command needs the repository, everything else gets an empty directory.
		{`(?m)^go `, `go -C "$$REPOSITORY" `},
		// 45 seconds, shortened.
		{`(?m)^(go .* demo)$`, `$1 --duration 6s --rate 4 --attacks forged-signature,replay`},
		// What runs until it is interrupted is left running, or seen to work.
		{`(?m)^((?:[A-Z_]+=\S+ )*pulsegate serve)`, `serve env $1`},
		{`(?m)^pulsegate watch`, `watch $0`},
		// All attacks together take a minute, and are tried by the tests of bridge; a later --attacks counts.
		{`(?m)^device-sim attack `, `${0}--broker "$$MQTT" --attacks forged-signature,replay --quiet 500ms `},
		{`--duration 30m`, `--duration 2s`},
		// The default port may be in use.
		{`127\.0\.0\.1:1883`, `"$$MQTT"`},
		// Names that are the reader's.
		{`/etc/pulsegate/pulsegate\.yaml`, `"$$REPOSITORY/configs/pulsegate.yaml"`},
		{`mqtts://broker-1:8883`, `"mqtt://$$BROKER"`},
		{`-h broker-1`, `-h "$${BROKER%:*}" -p "$${BROKER#*:}"`},
	}
}

// importCommand is how docs/keys.md takes the file that it shows.
const importCommand = "pulsegate device import devices.csv --out credentials.jsonl"

// TestExamplesRun runs the examples of each page in a shell, in their order, beside
// a gate of their own.
func TestExamplesRun(t *testing.T) {
	root, err := filepath.Abs(repository)
	must(t, err)
	bin := t.TempDir()
	install := exec.Command("go", "-C", root, "install", "./cmd/pulsegate", "./device-sim")
	install.Env = append(os.Environ(), "GOBIN="+bin)
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	ran := 0
	// In a group, so that bin is there until the last has ended.
	t.Run("pages", func(t *testing.T) {
		for _, p := range pages(t) {
			if len(p.of("sh"))+len(p.of("go")) == 0 {
				continue
			}
			ran++
			t.Run(p.name, func(t *testing.T) {
				t.Parallel()
				reader{t: t, page: p, dir: t.TempDir(), root: root, bin: bin}.all()
			})
		}
	})
	if ran < 7 {
		t.Errorf("only %d pages have examples", ran)
	}
}

// reader does what one page says.
type reader struct {
	t              *testing.T
	page           page
	dir, root, bin string
}

func (r reader) all() {
	prelude, err := os.ReadFile("testdata/docs/page.sh")
	must(r.t, err)
	broker, script := freeAddress(r.t), ""
	for i, e := range r.page.examples {
		if text := r.translated(i, e, broker); e.language == "conf" {
			script = text + script // what other examples speak to
		} else {
			script += text
		}
	}
	for _, tool := range []string{"mosquitto", "mosquitto_sub", "openssl"} {
		if regexp.MustCompile(`\b` + tool + ` `).MatchString(script) {
			r.need(tool)
		}
	}
	script = string(prelude) + "serve pulsegate serve\n" + script + "ended \"$gate\"\necho 'all done'\n"
	ctx, cancel := context.WithTimeout(r.t.Context(), examplesLimit)
	defer cancel()
	shell := exec.CommandContext(ctx, "sh", "-c", script)
	shell.Dir = r.dir
	shell.Env = r.environ(broker)
	// Whatever it started is in its group, and ends with it.
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	shell.Cancel = func() error { return syscall.Kill(-shell.Process.Pid, syscall.SIGTERM) }
	shell.WaitDelay = 10 * time.Second
	out, err := shell.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "\nall done\n") {
		r.t.Errorf("%v\n%s", err, out)
	}
}

// translated is what the shell is to do for the example.
func (r reader) translated(i int, e example, broker string) string {
	says := fmt.Sprintf("echo '== %s, block %d, in %s'\n", r.page.name, i+1, e.language)
	switch e.language {
	case "sh":
		for _, change := range here() {
			e.text = regexp.MustCompile(change[0]).ReplaceAllString(e.text, change[1])
		}
		return says + e.text
	case "go":
		return says + r.program(i, e.text)
	case "csv":
		if !strings.Contains(r.page.prose, "`"+importCommand+"`") {
			r.t.Errorf("%s does not say `%s` of its file", r.page.name, importCommand)
		}
		must(r.t, os.WriteFile(filepath.Join(r.dir, "devices.csv"), []byte(e.text), 0o600))
		return says + importCommand + "\n"
	case "conf":
		_, port, err := net.SplitHostPort(broker)
		must(r.t, err)
		// As root it would otherwise be the user mosquitto, who cannot write in this directory.
		text := strings.ReplaceAll(e.text, "/var/lib/mosquitto/", r.dir+"/") +
			"user root\nallow_anonymous true\nlistener " + port + " 127.0.0.1\n"
		must(r.t, os.WriteFile(filepath.Join(r.dir, "mosquitto.conf"), []byte(text), 0o600))
		return says + "broker mosquitto.conf\n"
	}
	return ""
}

// program runs lines of Go as a consumer, up to the first reading.
func (r reader) program(i int, lines string) string {
	source := fmt.Sprintf(`package main

import (
	"context"
	"fmt"
	"os"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func main() {
	ctx := context.Background()
	nc, err := nats.Connect(os.Args[1])
	if err != nil {
		panic(err)
	}
	processed := make(chan string)
	process := func(m jetstream.Msg) { processed <- m.Subject() }
	%s
	fmt.Println(<-processed)
}
`, lines)
	file := filepath.Join(r.dir, fmt.Sprintf("example%d.go", i))
	must(r.t, os.WriteFile(file, []byte(source), 0o600))
	// It is compiled as if it were in the repository, with its versions of modules.
	name := fmt.Sprintf("cmd/example%d", i)
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(r.root, name, "main.go"): file}})
	must(r.t, err)
	must(r.t, os.WriteFile(filepath.Join(r.dir, "overlay.json"), overlay, 0o600))
	return fmt.Sprintf(`reading
go -C "$REPOSITORY" run -overlay "$PWD/overlay.json" ./%s "$(cat ~/.local/state/pulsegate/consumer.url)" > processed
grep -F vitals.live.sim-p-1.sim-1 processed
`, name)
}

// environ has a home of its own, in which the data directory and the programs that
// the README installs are where it says, and none of the settings outside.
func (r reader) environ(broker string) []string {
	own := filepath.Join(r.dir, "bin")
	env := []string{
		"HOME=" + r.dir, "GOBIN=" + own, "REPOSITORY=" + r.root, "BROKER=" + broker,
		"PATH=" + strings.Join([]string{own, r.bin, os.Getenv("PATH"), "/usr/sbin"}, ":"), // there Debian has mosquitto
	}
	// The go command would look for these in the home.
	names := []string{"GOCACHE", "GOMODCACHE", "GOPATH", "GOROOT", "GOPROXY", "GOFLAGS", "GOTOOLCHAIN"}
	out, err := exec.Command("go", append([]string{"env"}, names...)...).Output()
	must(r.t, err)
	for i, value := range strings.Split(strings.TrimSuffix(string(out), "\n"), "\n") {
		env = append(env, names[i]+"="+value)
	}
	return env
}

func (r reader) need(tool string) {
	r.t.Helper()
	look := exec.Command("sh", "-c", "command -v "+tool)
	look.Env = r.environ("")
	if look.Run() == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		r.t.Fatalf("%s is not installed", tool)
	}
	r.t.Skipf("SKIPPED: %s is not installed, so that nobody ran the examples of %s", tool, r.page.name)
}

// freeAddress is for a broker, which cannot choose a port itself.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().String()
}
