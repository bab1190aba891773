package doctor

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"runtime"

	"github.com/pulsegate/pulsegate/bridge/engine"
)

// Bits of a file's mode.
const (
	othersMode      fs.FileMode = 0o077
	othersWriteMode fs.FileMode = 0o022
)

// directory looks at whose the data directory is, and who uses it.
func (e *examination) directory(context.Context) []finding {
	dir := e.Config.Data
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return []finding{doubtful("%s is not there yet: the first start makes it; start the gate, or name the right directory with --data", dir)}
	case err != nil:
		return []finding{wrong("%v: name a directory that this user may read", err)}
	case !info.IsDir():
		return []finding{wrong("%s is no directory: name another", dir)}
	}
	if problem := writable(dir, info); problem != "" {
		return []finding{wrong("%s", problem)}
	}
	held, who, err := engine.Holder(dir)
	if err != nil {
		return []finding{wrong("%v: run this as the user that the gate runs as", err)}
	}
	use := "no gate uses it now"
	if held {
		e.known.hold(nameOf(who))
		use = "in use by " + nameOf(who)
	}
	mode := info.Mode().Perm()
	switch {
	case runtime.GOOS == "windows":
	case mode&othersWriteMode != 0:
		return []finding{wrong("%s (%s) has mode %04o, so that others can replace what is in it: chmod 700 %s", dir, use, mode, dir)}
	case mode&othersMode != 0:
		return []finding{doubtful("%s (%s) has mode %04o, so that others can look into it: chmod 700 %s", dir, use, mode, dir)}
	}
	return []finding{well("%s, %s", dir, use)}
}

func nameOf(who string) string {
	if who == "" {
		return "a running pulsegate"
	}
	return "a running pulsegate, " + who
}
