package ledger

import (
	"bufio"
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
	var all []Entry
	err := Walk(dir, func(e Entry) { all = append(all, e) })
	if err != nil {
		return nil, err
	}
	order(all)
	return all, nil
}

// Walk calls each with every entry that Read would return, book after book, so
// that only one book at a time is in memory. Its errors are those of Read.
func Walk(dir string, each func(Entry)) error {
	if _, err := os.Stat(dir); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	paths, err := filepath.Glob(filepath.Join(escape(dir), "*"+extension))
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	if len(paths) == 0 {
		return fmt.Errorf("ledger: no *%s in %s", extension, dir)
	}
	for _, path := range paths {
		entries, err := readBook(path)
		if err != nil {
			return err
		}
		for _, e := range entries {
			each(e)
		}
	}
	return nil
}

// escape keeps a directory's own name from being taken for a pattern.
func escape(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

func order(entries []Entry) {
	slices.SortStableFunc(entries, func(a, b Entry) int { return a.Sent.Compare(b.Sent) })
}

func readBook(path string) ([]Entry, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	defer file.Close()
	f := folding{sender: strings.TrimSuffix(filepath.Base(path), extension)}
	in := bufio.NewReader(file)
	// A line that is no record is only an error once it turns out that no
	// killed process left it so: it is the last one, without an end, or the
	// one before the book was opened again.
	var broken error
	for number := 1; ; number++ {
		line, err := in.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("ledger: %w", err)
		}
		ended := err == nil
		line = bytes.TrimSuffix(line, []byte{'\n'})
		if broken != nil && !opens(line) {
			return nil, broken
		}
		broken = nil
		if len(line) > 0 {
			if err := f.line(line); err != nil {
				broken = fmt.Errorf("ledger: %s line %d: %w", path, number, err)
			}
		}
		if !ended {
			return f.entries, nil
		}
	}
}

func opens(line []byte) bool {
	var r record
	return json.Unmarshal(line, &r) == nil && r.Event == eventOpened
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
