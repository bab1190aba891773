package bridge_test

import (
	"debug/elf"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestComposeUp brings docker-compose.yml up as it stands, twice, with an
// attacker beside the fleet, and settles what was sent against what a consumer
// reads from the stream.
func TestComposeUp(t *testing.T) {
	c := newComposition(t, "single", "1")
	c.build(t)
	c.up(t)
	c.checkPorts(t)
	c.checkContained(t)
	c.checkReady(t)
	c.checkGrafana(t)
	c.run(t, "exec", "-T", "prometheus", "promtool", "check", "config", "/etc/prometheus/prometheus.yml")
	consumer := c.secret(t, "consumer.url")
	c.awaitReadings(t, 400)
	if shown := c.run(t, "logs", "--no-color", "watch"); !strings.Contains(shown, "p-0001") {
		t.Errorf("watch has shown nothing of patient p-0001:\n%s", shown)
	}
	c.stopAndSettle(t)

	// Containers made anew go on with the secrets and the devices of the volumes.
	c.run(t, "down")
	c.up(t)
	c.checkReady(t)
	if c.secret(t, "consumer.url") != consumer {
		t.Error("the second start made new passwords")
	}
	c.awaitReadings(t, 100)
	c.stopAndSettle(t)

	c.run(t, "down", "--volumes")
	if left := output(t, exec.Command("docker", "volume", "ls", "--quiet", "--filter", "label=com.docker.compose.project="+c.project)); left != "" {
		t.Errorf("volumes are left: %s", left)
	}
}

// TestComposeImageForArm builds the image's programs for the other architecture
// that it is made for.
func TestComposeImageForArm(t *testing.T) {
	needEngine(t)
	provide(t, "golang:1.26", golangStandIn)
	const image = "pulsegate-test-arm64"
	t.Cleanup(func() { _ = exec.Command("docker", "rmi", "--force", image).Run() })
	output(t, exec.Command("docker", "build", "--quiet", "--build-arg", "TARGETARCH=arm64", "--tag", image, ".."))
	id := strings.TrimSpace(output(t, exec.Command("docker", "create", image)))
	t.Cleanup(func() { _ = exec.Command("docker", "rm", "--force", id).Run() })
	for _, name := range []string{"pulsegate", "device-sim"} {
		path := filepath.Join(t.TempDir(), name)
		output(t, exec.Command("docker", "cp", id+":/"+name, path))
		program, err := elf.Open(path)
		must(t, err)
		defer program.Close()
		if program.Machine != elf.EM_AARCH64 {
			t.Errorf("%s is for %v", name, program.Machine)
		}
		if libraries, err := program.ImportedLibraries(); err != nil || len(libraries) > 0 {
			t.Errorf("%s is not static: it needs %v, %v", name, libraries, err)
		}
	}
}
