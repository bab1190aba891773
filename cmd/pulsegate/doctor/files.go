package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/pulsegate/pulsegate/bridge"
	"github.com/pulsegate/pulsegate/bridge/engine"
)

// secret is a file that not everybody may read.
type secret struct {
	// what says what it is, or names the setting.
	what, path string
	// forbidden are the bits that its mode must not have.
	forbidden fs.FileMode
	// made is true for what the gate makes where it is not there.
	made bool
}

const (
	// private files are refused by the gate if anybody else may use them.
	private = othersMode
	// groupReadable files may be read by a group, as web servers' keys are.
	groupReadable fs.FileMode = 0o037
)

// files looks at the modes and owners of all that is secret.
func (e *examination) files(context.Context) []finding {
	dir, err := os.Stat(e.Config.Data)
	if err != nil {
		dir = nil
	}
	var bad []finding
	looked := 0
	for _, s := range e.secrets() {
		if s.path == "" {
			continue
		}
		there, problem := s.look(dir)
		if problem != "" {
			bad = append(bad, wrong("%s", problem))
		}
		if there {
			looked++
		}
	}
	if bad != nil {
		return bad
	}
	return []finding{well("%d files with secrets can be read by nobody else", looked)}
}

func (e *examination) secrets() []secret {
	c := e.Config
	all := []secret{
		{"nats.url_file", c.NATS.URLFile, private, false},
		{"nats.nkey_file", c.NATS.NkeyFile, groupReadable, false},
		{"nats.creds_file", c.NATS.CredsFile, groupReadable, false},
		{"nats.tls.key", c.NATS.TLS.Key, groupReadable, false},
		{"mqtt.tls.key", c.MQTT.TLS.Key, groupReadable, false},
		{"http.tls.key", c.HTTP.TLS.Key, groupReadable, false},
		{"source.tls.key", c.Source.TLS.Key, groupReadable, false},
	}
	if c.Keys.Master == "" {
		all = append(all, secret{"the master key", e.masterFile(), private, true})
	}
	if e.embedded() {
		for _, user := range []string{userOperator, userConsumer, userSecurity} {
			all = append(all, secret{"the URL of the " + user, engine.URLFile(c.Data, user), private, true})
		}
	}
	return all
}

func (e *examination) masterFile() string {
	return cmp.Or(e.Config.Keys.MasterFile, filepath.Join(e.Config.Data, bridge.MasterKeyFile))
}

// look says whether the file is there, and what is wrong with it, or "". dir is
// the data directory's, nil if there is none yet.
func (s secret) look(dir fs.FileInfo) (there bool, problem string) {
	info, err := os.Stat(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		if s.made {
			return false, ""
		}
		return false, fmt.Sprintf("%s: there is no %s: put it there, or name another file", s.what, s.path)
	}
	if err != nil {
		return false, fmt.Sprintf("%s: %v: run this as the user that the gate runs as", s.what, err)
	}
	mode := info.Mode().Perm()
	switch {
	case runtime.GOOS != "windows" && mode&s.forbidden != 0:
		return true, fmt.Sprintf("%s: %s has mode %04o, so that others can use it: chmod 600 %s, and think about who could have read it", s.what, s.path, mode, s.path)
	case dir != nil && foreign(info, dir):
		return true, fmt.Sprintf("%s: %s belongs to %s, and the data directory, as whose owner the gate runs, to %s: give it to that one with chown", s.what, s.path, named(ownerOf(info)), named(ownerOf(dir)))
	}
	file, err := os.Open(s.path)
	if err != nil {
		return true, fmt.Sprintf("%s: %v: let the gate's user read it", s.what, err)
	}
	_ = file.Close()
	return true, ""
}
