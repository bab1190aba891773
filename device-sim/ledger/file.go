package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const extension = ".jsonl"

// The events of a book's lines. Every opening of a book begins its numbers
// anew, so it is an event too.
const (
	eventOpened       = "opened"
	eventSent         = "sent"
	eventAgain        = "again"
	eventAcknowledged = "acknowledged"
)

// record is one line of a book.
type record struct {
	Event  string    `json:"event"`
	Number Ref       `json:"n"`
	Time   time.Time `json:"time,omitzero"`
	*Message
	// Identity and SHA256 follow from the payload. They are there for those who
	// search a file; reading it back computes them anew.
	Identity string `json:"identity,omitempty"`
	SHA256   string `json:"sha256,omitempty"`
}

func openFile(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	if err := begin(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// begin ends a line that a killed process left unfinished, since the next one
// would be appended to it otherwise.
func begin(file *os.File) error {
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	last := []byte{'\n'}
	if size > 0 {
		if _, err := file.ReadAt(last, size-1); err != nil {
			return fmt.Errorf("ledger: %w", err)
		}
	}
	if last[0] != '\n' {
		if _, err := file.Write([]byte{'\n'}); err != nil {
			return fmt.Errorf("ledger: %w", err)
		}
	}
	return appendRecord(file, record{Event: eventOpened})
}

// appendRecord writes a line at once and unbuffered, so that it outlives the
// process from here on.
func appendRecord(file *os.File, r record) error {
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	if _, err := file.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	return nil
}

// Read reads all books of a directory and returns their entries in the order of
// their first attempts. A line that a killed process left unfinished is left
// out; any other line that is no record is an error that names file and line.
func Read(dir string) ([]Entry, error) {
	paths, err := filepath.Glob(filepath.Join(escape(dir), "*"+extension))
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("ledger: no *%s in %s", extension, dir)
	}
	var all []Entry
	for _, path := range paths {
		entries, err := readBook(path)
		if err != nil {
			return nil, err
		}
		all = append(all, entries...)
	}
	order(all)
	return all, nil
}

// escape keeps a directory's own name from being taken for a pattern.
func escape(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

func order(entries []Entry) {
	slices.SortStableFunc(entries, func(a, b Entry) int { return a.Sent.Compare(b.Sent) })
}

func readBook(path string) ([]Entry, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	f := folding{sender: strings.TrimSuffix(filepath.Base(path), extension)}
	lines := bytes.Split(data, []byte{'\n'})
	for i, line := range lines {
		if len(line) == 0 {
			continue
		}
		err := f.line(line)
		if err != nil && !unfinished(lines, i) {
			return nil, fmt.Errorf("ledger: %s line %d: %w", path, i+1, err)
		}
	}
	return f.entries, nil
}

// unfinished reports whether line i may be what a killed process left: it is
// the last one, or the one before the book was opened again.
func unfinished(lines [][]byte, i int) bool {
	if i == len(lines)-1 {
		return true
	}
	var next record
	return json.Unmarshal(lines[i+1], &next) == nil && next.Event == eventOpened
}

// folding makes entries of a book's lines.
type folding struct {
	sender  string
	entries []Entry
	// base is the index of the entry that has number 0 since the last opening.
	base int
}

func (f *folding) line(line []byte) error {
	var r record
	if err := json.Unmarshal(line, &r); err != nil {
		return errors.New("not a record of a ledger")
	}
	switch r.Event {
	case eventOpened:
		f.base = len(f.entries)
		return nil
	case eventSent:
		return f.sent(r)
	case eventAgain, eventAcknowledged:
		return f.note(r)
	}
	return fmt.Errorf("unknown event %q", r.Event)
}

func (f *folding) sent(r record) error {
	if r.Message == nil || int(r.Number) != len(f.entries)-f.base {
		return fmt.Errorf("entry %d is out of order or has no message", r.Number)
	}
	f.entries = append(f.entries, newEntry(f.sender, *r.Message, r.Time))
	return nil
}

func (f *folding) note(r record) error {
	at := f.base + int(r.Number)
	if r.Number < 0 || at >= len(f.entries) {
		return fmt.Errorf("there is no entry %d", r.Number)
	}
	f.entries[at].apply(r)
	return nil
}
