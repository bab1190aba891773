// Package ledger keeps account of what senders sent: which bytes, when, and
// whether they were acknowledged. Settled against what the gate stored, it shows
// exactly what was lost, delivered twice or forged.
package ledger

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/pulsegate/pulsegate/bridge/reading"
)

// Message is one payload as its sender knows it.
type Message struct {
	// Device is the device that the payload speaks of, and Patient the one that
	// it names. An honest reading belongs under both in the stream.
	Device  string `json:"device"`
	Patient string `json:"patient,omitempty"`
	Topic   string `json:"topic"`
	// Payload is the exact bytes (base64 in a file).
	Payload []byte `json:"payload"`
	// QoS is the MQTT quality of service, 0 to 2.
	QoS byte `json:"qos"`
	// Attack is the attack's name, empty for an honest message.
	Attack string `json:"attack,omitempty"`
	// Expected are the outcomes, as bridge/verify spells them, that the sender
	// allows for the first attempt.
	Expected []string `json:"expected"`
}

// Entry is a message with what became of it, as far as its sender knows.
type Entry struct {
	Message
	// Sender is the name of the book that holds the entry.
	Sender string
	// Identity is the payload's signature, 64 lower-case hex digits, or empty
	// where the payload ends in none.
	Identity string
	// SHA256 is the payload's hash, 64 lower-case hex digits, as rejections
	// name it.
	SHA256 string
	// Sent and LastSent are the times of the first and the last attempt.
	Sent, LastSent time.Time
	// Attempts counts how often the same bytes were sent, at least 1.
	Attempts int
	// Acknowledged is when the PUBACK came; zero if none did.
	Acknowledged time.Time
}

// Honest reports whether the message is not part of an attack.
func (e Entry) Honest() bool { return e.Attack == "" }

// Ledger is a set of books, one for each sender, in a directory or in memory.
// It is safe for concurrent use.
type Ledger struct {
	dir   string
	mu    sync.Mutex
	books map[string]*Book
}

// Open opens a ledger in a directory, which it makes where there is none (mode
// 0700: payloads are patients' readings). Books that are there already are
// continued. An empty dir keeps the ledger in memory.
func Open(dir string) (*Ledger, error) {
	if dir != "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("ledger: %w", err)
		}
	}
	return &Ledger{dir: dir, books: make(map[string]*Book)}, nil
}

// Book returns the sender's book, and the same one to everybody who asks for
// it. In a directory it is the file SENDER.jsonl.
func (l *Ledger) Book(sender string) (*Book, error) {
	if !validSender(sender) {
		return nil, fmt.Errorf("ledger: %q cannot name a book: only letters, digits, '-', '_' and '.' can, and no '.' first", sender)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if b, ok := l.books[sender]; ok {
		return b, nil
	}
	b := &Book{sender: sender}
	if l.dir != "" {
		file, err := openFile(filepath.Join(l.dir, sender+extension))
		if err != nil {
			return nil, err
		}
		b.file = file
	}
	l.books[sender] = b
	return b, nil
}

// Entries returns all entries: those of memory, or those read from the
// directory, where entries of earlier runs count too.
func (l *Ledger) Entries() ([]Entry, error) {
	if l.dir != "" {
		return Read(l.dir)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []Entry
	for _, b := range l.books {
		all = append(all, b.snapshot()...)
	}
	order(all)
	return all, nil
}

// Close closes the files. Books refuse entries from then on.
func (l *Ledger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, b := range l.books {
		errs = append(errs, b.close())
	}
	return errors.Join(errs...)
}

// Ref points to an entry of the book that gave it out.
type Ref int

// ErrClosed says that a book's ledger has been closed.
var ErrClosed = errors.New("ledger: closed")

// Book is one sender's part of a ledger. It is safe for concurrent use.
type Book struct {
	sender  string
	file    *os.File
	mu      sync.Mutex
	next    Ref
	closed  bool
	entries []Entry // in memory only
}

// Sent enters a message that is about to be sent for the first time. The
// payload must not be changed afterwards.
func (b *Book) Sent(m Message, at time.Time) (Ref, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ref := b.next
	e := newEntry(b.sender, m, at)
	err := b.write(record{
		Event: eventSent, Number: ref, Time: at, Message: &m, Identity: e.Identity, SHA256: e.SHA256,
	})
	if err != nil {
		return 0, err
	}
	if b.file == nil {
		b.entries = append(b.entries, e)
	}
	b.next++
	return ref, nil
}

// Again notes that an entry's bytes are about to be sent once more.
func (b *Book) Again(ref Ref, at time.Time) error {
	return b.note(record{Event: eventAgain, Number: ref, Time: at})
}

// Acknowledged notes the PUBACK of an entry.
func (b *Book) Acknowledged(ref Ref, at time.Time) error {
	return b.note(record{Event: eventAcknowledged, Number: ref, Time: at})
}

func (b *Book) note(r record) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.Number < 0 || r.Number >= b.next {
		return fmt.Errorf("ledger: book %s has no entry %d", b.sender, r.Number)
	}
	if b.file == nil && !b.closed {
		b.entries[r.Number].apply(r)
	}
	return b.write(r)
}

func (b *Book) write(r record) error {
	if b.closed {
		return ErrClosed
	}
	if b.file == nil {
		return nil
	}
	return appendRecord(b.file, r)
}

func (b *Book) snapshot() []Entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]Entry(nil), b.entries...)
}

func (b *Book) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.file == nil {
		b.closed = true
		return nil
	}
	b.closed = true
	return b.file.Close()
}

func newEntry(sender string, m Message, at time.Time) Entry {
	e := Entry{Message: m, Sender: sender, SHA256: Hash(m.Payload), Sent: at, LastSent: at, Attempts: 1}
	if envelope, err := reading.Split(m.Payload); err == nil {
		e.Identity = envelope.Signature.String()
	}
	return e
}

func (e *Entry) apply(r record) {
	switch r.Event {
	case eventAgain:
		e.LastSent = r.Time
		e.Attempts++
	case eventAcknowledged:
		e.Acknowledged = r.Time
	}
}

// Hash returns the SHA-256 of a payload as 64 lower-case hex digits.
func Hash(payload []byte) string {
	sum := sha256.Sum256(payload)
	return hex.EncodeToString(sum[:])
}

func validSender(name string) bool {
	if name == "" || name[0] == '.' {
		return false
	}
	for i := range len(name) {
		if c := name[i]; c != '.' && c != '_' && !reading.ValidID(string(c)) {
			return false
		}
	}
	return true
}
