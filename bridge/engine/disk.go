package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/nats-io/nats-server/v2/server"
)

// Room is what a store has on its disk, in bytes.
type Room struct {
	// Free is what the disk has left, unless that is unknown, and Used what the store takes already.
	Free, Used int64
	Known      bool
}

// CheckDisk makes sure that the disk can take what an embedded store in dir may still grow by. Finding out at start beats
// finding out when readings can no longer be stored.
func CheckDisk(dir string, limit int64) (room Room, err error) {
	if room.Free, room.Known, err = freeBytes(dir); err != nil {
		return room, fmt.Errorf("free space of the data directory %s: %w", dir, err)
	}
	if room.Used, err = storedBytes(filepath.Join(dir, server.JetStreamStoreDir)); err != nil {
		return room, fmt.Errorf("size of the store in the data directory %s: %w", dir, err)
	}
	if need := limit - room.Used; room.Known && need > max(room.Free, 0) {
		return room, fmt.Errorf("the streams may grow by %d more bytes in %s, but its disk has %d free: lower the streams' limits or give a larger disk", need, dir, room.Free)
	}
	return room, nil
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
