package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// sink is where secrets go: a stream, or a file that appears only when it is
// whole.
type sink struct {
	w    io.Writer
	file *os.File // nil for a stream
	name string
}

func openSink(name string, stream io.Writer) (*sink, error) {
	if name == "" {
		return &sink{w: stream}, nil
	}
	// os.CreateTemp makes it with mode 0600.
	file, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return nil, fmt.Errorf("--out: %w", err)
	}
	return &sink{w: file, file: file, name: name}, nil
}

func (s *sink) discard() {
	if s.file != nil {
		_ = s.file.Close()
		_ = os.Remove(s.file.Name())
	}
}

// writeAll writes values as lines of JSON and ends the sink.
func writeAll[T any](s *sink, all []T) error {
	err := printLines(s.w, all)
	if s.file == nil {
		return err
	}
	if err = errors.Join(err, s.file.Sync(), s.file.Close()); err == nil {
		err = os.Rename(s.file.Name(), s.name)
	}
	if err != nil {
		s.discard()
		return fmt.Errorf("--out: %w", err)
	}
	return nil
}
