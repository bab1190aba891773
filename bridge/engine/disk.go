package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// checkDisk makes sure that the disk can take what the store may still grow by. Finding out at start beats finding out
// when readings can no longer be stored.
func checkDisk(dir, store string, limit int64) error {
	if limit <= 0 {
		return nil
	}
	free, known, err := freeBytes(dir)
	if err != nil {
		return fmt.Errorf("free space of the data directory %s: %w", dir, err)
	}
	if !known {
		return nil
	}
	used, err := storedBytes(store)
	if err != nil {
		return fmt.Errorf("size of the store in the data directory %s: %w", dir, err)
	}
	if need := limit - used; need > free {
		return fmt.Errorf("the streams may grow by %d more bytes in %s, but its disk has %d free: lower the streams' limits or give a larger disk", need, dir, free)
	}
	return nil
}

func storedBytes(store string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(store, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		sum += info.Size()
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	return sum, err
}
