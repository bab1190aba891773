package config

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// FuzzLoad: whatever a file holds is either an error or a configuration that its own YAML says again.
func FuzzLoad(f *testing.F) {
	example, err := os.ReadFile(filepath.Join("..", "..", "configs", "pulsegate.yaml"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	for _, seed := range []string{
		"", "---\n---\n", "mqtt:", "mqtt: {listen: :1, listen: :2}", "a: &x [*x]", "<<: *x", "? {a: b}\n: c", "consumers: [a, [b], {c: d}, null]",
		"data: |\n  x\n", "data: !!binary eA==", "store:\n  vitals:\n    max_bytes: 1e3\n", "nats: {sync: -1s, password: \"\\u0000\"}",
		"%YAML 1.2\n---\ndata: x\n...\n", "\ufeffdata: x", "data: \xff", "freshness: {max_age: .inf}", "data: 'x\n\n  y'", "[[[[", "- - - a",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		l := loader{config: Default(), origins: map[string]string{}}
		if l.yaml("p.yaml", data) != nil || l.validate() != nil {
			return
		}
		text, err := l.config.YAML()
		if err != nil {
			t.Fatal(err)
		}
		again := loader{config: Default(), origins: map[string]string{}}
		if err := again.yaml("again.yaml", text); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		if want := l.config.Masked(); !reflect.DeepEqual(again.config, want) {
			t.Fatalf("got  %+v\nwant %+v", again.config, want)
		}
	})
}
