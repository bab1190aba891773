//go:build unix

package registry

import (
	"fmt"
	"os"
	"syscall"
)

// keepOwner gives a file to the owner of the one that it is to replace: what
// root has written, the service's user could not read.
func keepOwner(old string, f *os.File) error {
	info, err := os.Stat(old)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(owner.Uid) == os.Geteuid() {
		return nil
	}
	if err := f.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
		return fmt.Errorf("the owner of %s cannot be kept: %w; do it as that user", old, err)
	}
	return nil
}
