//go:build linux || darwin || freebsd

package engine

import (
	"math"

	"golang.org/x/sys/unix"
)

// freeBytes returns how many bytes an unprivileged user may still write on the directory's file system.
func freeBytes(dir string) (free int64, known bool, err error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return 0, false, err
	}
	blocks, size := uint64(max(stat.Bavail, 0)), uint64(stat.Bsize)
	if size != 0 && blocks > math.MaxInt64/size {
		return math.MaxInt64, true, nil
	}
	return int64(blocks * size), true, nil
}
