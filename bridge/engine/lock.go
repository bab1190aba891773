package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

const (
	lockName = "pulsegate.lock"
	// lockLimit is how long a locked directory is waited for, lockAgain how often
	// it is tried.
	lockLimit, lockAgain = 200 * time.Millisecond, 20 * time.Millisecond
	// longestHolder bounds what is read of a lock's file, in bytes.
	longestHolder = 256
)

// lockDir makes the directory, where it is not there, and locks it. The lock's
// file says who has it, for those who find it locked.
func lockDir(dir string) (*flock.Flock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot create the data directory %s: %w; give a directory that this user may write", dir, err)
	}
	path := filepath.Join(dir, lockName)
	lock := flock.New(path, flock.SetPermissions(0o600))
	// Whoever only looks whether it is locked is gone in a moment.
	ctx, cancel := context.WithTimeout(context.Background(), lockLimit)
	defer cancel()
	held, err := lock.TryLockContext(ctx, lockAgain)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("cannot write in the data directory %s: %w; give a directory that this user may write", dir, err)
	}
	if !held {
		return nil, fmt.Errorf("the data directory %s is in use by another pulsegate%s: stop that one or give another directory", dir, brackets(holder(path)))
	}
	// A disk that is full is told of by what needs more of it.
	host, _ := os.Hostname()
	_ = os.WriteFile(path, fmt.Appendf(nil, "process %d on %s\n", os.Getpid(), host), 0o600)
	return lock, nil
}

// holder is what the last one who locked a file has written into it.
func holder(path string) string {
	text, err := os.ReadFile(path)
	if err != nil || len(text) > longestHolder || !strings.HasPrefix(string(text), "process ") {
		return ""
	}
	first, _, _ := strings.Cut(string(text), "\n")
	return first
}

func brackets(text string) string {
	if text == "" {
		return ""
	}
	return " (" + text + ")"
}

// Holder says whether a data directory is locked, and by whom, such as "process
// 12 on gate-1"; empty where that is not known. It takes the lock itself only for
// the moment that it takes to see that it is free.
func Holder(dir string) (held bool, who string, err error) {
	path := filepath.Join(dir, lockName)
	lock := flock.New(path, flock.SetFlag(os.O_RDONLY))
	free, err := lock.TryRLock()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, "", nil
	case err != nil:
		return false, "", fmt.Errorf("lock of the data directory: %w", err)
	case free:
		return false, "", lock.Unlock()
	}
	return true, holder(path), nil
}
