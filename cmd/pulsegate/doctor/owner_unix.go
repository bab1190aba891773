//go:build unix

package doctor

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// anybody is an owner that is not known.
const anybody = -1

func ownerOf(info fs.FileInfo) int {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Uid)
	}
	return anybody
}

// named is the user of an id, by name where it has one.
func named(id int) string {
	if u, err := user.LookupId(strconv.Itoa(id)); err == nil {
		return u.Username
	}
	return "user " + strconv.Itoa(id)
}

// writable says why the gate's user could not write in a directory, or "". That
// user is the one who runs this, or the directory's owner where that is root.
func writable(dir string, info fs.FileInfo) string {
	owner, me := ownerOf(info), os.Geteuid()
	if owner != me && me != 0 {
		return fmt.Sprintf("%s belongs to %s, and this is run by %s: run it, and the gate, as the owner, or give the directory to the gate's user with chown", dir, named(owner), named(me))
	}
	if err := unix.Access(dir, unix.W_OK); err != nil {
		return fmt.Sprintf("%s cannot be written: %v; mend its mode, or the file system that it is on", dir, err)
	}
	return ""
}

// foreign says whether a file belongs to another than the owner of the data
// directory, as whom the gate runs, and only its own user and group may read it.
func foreign(file, dir fs.FileInfo) bool {
	owner, gate := ownerOf(file), ownerOf(dir)
	const groupOrOthersRead = 0o044
	return owner != gate && gate != 0 && owner != anybody && file.Mode().Perm()&groupOrOthersRead == 0
}
