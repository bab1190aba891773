package bridge_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// provide sees to it that the engine has an image: one that is there, the
// registry's, or, where there is no registry, a stand-in under the same name,
// deleted afterwards, since it must not be taken for the real one.
func provide(t *testing.T, image string, standIn func(*testing.T, string)) {
	t.Helper()
	if had(image) {
		return
	}
	t.Logf("there is no %s to be had here: a stand-in that this test makes takes its place", image)
	standIn(t, image)
	t.Cleanup(func() { _ = exec.Command("docker", "rmi", "--force", image).Run() })
}

// had tells whether the engine has an image or gets it from the registry.
func had(image string) bool {
	return exec.Command("docker", "image", "inspect", image).Run() == nil ||
		exec.Command("docker", "pull", "--quiet", image).Run() == nil
}

// natsStandIn has the layout of the public image nats: the static server in the
// root directory and nothing else.
func natsStandIn(t *testing.T, image string) {
	dir := t.TempDir()
	build := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(dir, "nats-server"), "github.com/nats-io/nats-server/v2")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	output(t, build)
	importImage(t, image, []string{"-C", dir, "nats-server"},
		`ENTRYPOINT ["/nats-server"]`, `CMD ["--config", "nats-server.conf"]`)
}

// golangStandIn has what the Dockerfile uses of the public image golang: this
// machine's toolchain, a shell, mkdir and the certificates of authorities.
func golangStandIn(t *testing.T, image string) {
	root := strings.TrimSpace(output(t, exec.Command("go", "env", "GOROOT")))
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "tmp"), 0o777))
	files := []string{"bin/sh", "bin/mkdir", "etc/ssl/certs/ca-certificates.crt"}
	for _, program := range []string{"/bin/sh", "/bin/mkdir"} {
		files = append(files, libraries(t, program)...)
	}
	for _, part := range []string{"bin", "src", "pkg", "lib", "VERSION", "go.env"} {
		files = append(files, strings.TrimPrefix(filepath.Join(root, part), "/"))
	}
	// The engine refuses an archive that names a file twice, and programs share libraries.
	slices.Sort(files)
	importImage(t, image, append([]string{"-C", dir, "tmp", "-C", "/"}, slices.Compact(files)...),
		"ENV GOPATH=/go GOTOOLCHAIN=local PATH=/go/bin:"+root+"/bin:/bin")
}

// prometheusStandIn has Debian's Prometheus where the public image has its own.
func prometheusStandIn(t *testing.T, image string) {
	root := t.TempDir()
	must(t, os.Mkdir(filepath.Join(root, "prometheus"), 0o700))
	debian(t, root, "prometheus", map[string]string{"usr/bin/prometheus": "bin/prometheus", "usr/bin/promtool": "bin/promtool"})
	importImage(t, image, []string{"--owner=65534", "--group=65534", "-C", root, "."},
		`ENTRYPOINT ["/bin/prometheus"]`, "ENV PATH=/bin", "USER 65534")
}

// haproxyStandIn has Debian's HAProxy where the public image has its own.
func haproxyStandIn(t *testing.T, image string) {
	root := t.TempDir()
	debian(t, root, "haproxy", map[string]string{"usr/sbin/haproxy": "usr/local/sbin/haproxy"})
	importImage(t, image, []string{"-C", root, "."}, "ENV PATH=/usr/local/sbin", "USER 99")
}

// debian puts programs of one of Debian's packages below a root directory, each
// where the map says, and the libraries that they need.
func debian(t *testing.T, root, name string, programs map[string]string) {
	t.Helper()
	if _, err := exec.LookPath("apt-get"); err != nil {
		t.Skipf("SKIPPED: no registry has the image of %s, and without apt-get there is no stand-in: %v", name, err)
	}
	archives, packages := t.TempDir(), t.TempDir()
	must(t, os.Mkdir(filepath.Join(archives, "partial"), 0o700))
	// What is installed here already is not brought but for the package itself.
	output(t, exec.Command("apt-get", "install", "--quiet", "--yes", "--download-only", "--reinstall", "--no-install-recommends",
		"-o", "Dir::Cache::archives="+archives, "-o", "APT::Sandbox::User=root", name))
	brought, err := filepath.Glob(filepath.Join(archives, "*.deb"))
	must(t, err)
	for _, archive := range brought {
		output(t, exec.Command("dpkg", "--extract", archive, packages))
	}
	directories, err := filepath.Glob(filepath.Join(packages, "usr/lib/*-linux-gnu*"))
	must(t, err)
	for from, to := range programs {
		program := filepath.Join(packages, from)
		place(t, program, filepath.Join(root, to))
		for _, library := range libraries(t, program, "LD_LIBRARY_PATH="+strings.Join(directories, ":")) {
			place(t, "/"+library, filepath.Join(root, strings.TrimPrefix("/"+library, packages)))
		}
	}
}

func place(t *testing.T, from, to string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(to), 0o755))
	output(t, exec.Command("cp", "--dereference", from, to))
}

// libraries lists the shared libraries of a program, relative to the root, as
// it finds them with more in its environment.
func libraries(t *testing.T, program string, environment ...string) []string {
	t.Helper()
	ldd := exec.Command("ldd", program)
	ldd.Env = append(os.Environ(), environment...)
	var all []string
	for _, found := range regexp.MustCompile(`/(\S+) \(0x`).FindAllStringSubmatch(output(t, ldd), -1) {
		all = append(all, found[1])
	}
	return all
}

// importImage makes an image of files, which are arguments of tar, and of
// instructions of a Dockerfile.
func importImage(t *testing.T, image string, files []string, instructions ...string) {
	t.Helper()
	args := []string{"import"}
	for _, i := range instructions {
		args = append(args, "--change", i)
	}
	archive := exec.Command("tar", append([]string{"--create", "--dereference", "--hard-dereference", "--file", "-"}, files...)...)
	load := exec.Command("docker", append(args, "-", image)...)
	pipe, err := archive.StdoutPipe()
	must(t, err)
	load.Stdin = pipe
	var complaint bytes.Buffer
	archive.Stderr = &complaint
	must(t, archive.Start())
	output(t, load)
	if err := archive.Wait(); err != nil {
		t.Fatalf("tar: %v: %s", err, complaint.String())
	}
}

// output runs a command and returns what it prints on its standard output.
func output(t *testing.T, c *exec.Cmd) string {
	t.Helper()
	var out, complaint bytes.Buffer
	c.Stdout, c.Stderr = &out, &complaint
	if err := c.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(c.Args, " "), err, out.String(), complaint.String())
	}
	return out.String()
}
