package bridge_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/pulsegate/pulsegate/"

// listed is what a package imports, itself and by way of others; its tests are
// left out.
type listed struct{ direct, all []string }

func listPackages(t *testing.T) map[string]listed {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil && os.Getenv("CI") != "true" {
		t.Skip("SKIPPED: the go command is absent, so nobody checks who imports whom")
	}
	list := exec.Command("go", "list", "-f", `{{.ImportPath}}|{{join .Imports " "}}|{{join .Deps " "}}`, "./...")
	list.Dir = ".."
	var errors strings.Builder
	list.Stderr = &errors
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, errors.String())
	}
	packages := make(map[string]listed)
	for line := range strings.Lines(string(out)) {
		fields := strings.Split(strings.TrimSpace(line), "|")
		packages[strings.TrimPrefix(fields[0], module)] = listed{strings.Fields(fields[1]), strings.Fields(fields[2])}
	}
	return packages
}

// within says whether a package is one of those below a path.
func within(path, below string) bool { return path == below || strings.HasPrefix(path, below+"/") }

// TestWhoKnowsWhom keeps the walls between the parts, whatever way round.
func TestWhoKnowsWhom(t *testing.T) {
	transports := []string{
		"net", "github.com/nats-io", "github.com/mochi-mqtt", "github.com/eclipse", "github.com/synadia-io", "github.com/gorilla",
	}
	packages := listPackages(t)
	for name, forbidden := range map[string][]string{
		"bridge/reading": append([]string{module + "bridge"}, transports...),
		"bridge/verify": append([]string{
			module + "bridge/registry", module + "bridge/ingress", module + "bridge/egress",
			module + "bridge/engine", module + "bridge/monitor", module + "bridge/config",
		}, transports...),
		"bridge/registry": {module + "bridge/ingress", module + "bridge/egress", module + "bridge/engine", module + "bridge/monitor"},
		"bridge/ingress":  {module + "bridge/egress", module + "bridge/registry", module + "bridge/engine", "github.com/nats-io"},
		"bridge/ingress/source": {
			module + "bridge/egress", module + "bridge/registry", module + "bridge/engine", module + "bridge/monitor",
			module + "bridge/config", "github.com/nats-io",
		},
		"bridge/egress": {module + "bridge/ingress", module + "bridge/registry", "github.com/mochi-mqtt"},
		"bridge/engine": {module + "bridge"},
		"bridge/presence": {
			module + "bridge/ingress", module + "bridge/egress", module + "bridge/registry", module + "bridge/engine",
			module + "bridge/monitor", module + "bridge/config", "github.com/mochi-mqtt",
		},
		"bridge/limits": append([]string{module + "bridge"}, transports[1:]...), // net/netip is no transport
		"bridge/clock":  append([]string{module + "bridge"}, transports[1:]...), // zerolog knows net.IP
		"bridge/config": {module + "bridge/ingress", module + "bridge/egress", module + "bridge/registry"},
	} {
		if len(packages[name].all) == 0 {
			t.Errorf("%s is not there, so that its rule checks nothing", name)
		}
		for _, imported := range packages[name].all {
			for _, path := range forbidden {
				if within(imported, path) {
					t.Errorf("%s depends on %s, which it must not know", name, imported)
				}
			}
		}
	}
}

// TestWhoMayImport names the only packages that import another directly.
func TestWhoMayImport(t *testing.T) {
	packages := listPackages(t)
	for path, allowed := range map[string]func(name string) bool{
		module + "bridge/config":         func(name string) bool { return name == "bridge" || within(name, "cmd") },
		module + "bridge":                func(name string) bool { return within(name, "cmd") },
		module + "cmd/pulsegate/doctor":  func(name string) bool { return name == "cmd/pulsegate" },
		"github.com/prometheus":          func(name string) bool { return name == "bridge/monitor" },
		"github.com/mochi-mqtt":          func(name string) bool { return within(name, "bridge/ingress") },
		"github.com/eclipse":             func(name string) bool { return name == "bridge/ingress/source" || within(name, "device-sim") },
		"github.com/nats-io/nats-server": func(name string) bool { return name == "bridge/engine" },
	} {
		importers := 0
		for name, p := range packages {
			for _, imported := range p.direct {
				if imported != path && (strings.HasPrefix(path, module) || !within(imported, path)) {
					continue
				}
				importers++
				if !allowed(name) {
					t.Errorf("%s imports %s, which only others may", name, imported)
				}
			}
		}
		if importers == 0 {
			t.Errorf("nobody imports %s, so that its rule checks nothing", path)
		}
	}
}
