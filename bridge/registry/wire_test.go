package registry_test

import (
	"net"
	"sync"
	"testing"
)

// wire is a way to the server that can be cut or held up.
type wire struct {
	listener net.Listener
	target   string
	// flow is locked while nothing passes.
	flow sync.RWMutex

	mu    sync.Mutex
	isCut bool
	conns map[net.Conn]struct{}
}

func (s *site) wire(t testing.TB) *wire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	w := &wire{listener: listener, target: s.address, conns: make(map[net.Conn]struct{})}
	t.Cleanup(func() { _ = listener.Close(); w.cut() })
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			w.join(from)
		}
	}()
	return w
}

// over lets a replica connect through the wire.
func (w *wire) over(s *setup) { s.address = w.listener.Addr().String() }

func (w *wire) join(from net.Conn) {
	to, err := net.Dial("tcp", w.target)
	if err != nil || !w.keep(from, to) {
		_ = from.Close()
		if err == nil {
			_ = to.Close()
		}
		return
	}
	go w.copy(from, to)
	go w.copy(to, from)
}

func (w *wire) keep(conns ...net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.isCut {
		return false
	}
	for _, c := range conns {
		w.conns[c] = struct{}{}
	}
	return true
}

func (w *wire) copy(to, from net.Conn) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buffer := make([]byte, 1<<16)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		w.flow.RLock()
		_, err = to.Write(buffer[:n])
		w.flow.RUnlock()
		if err != nil {
			return
		}
	}
}

func (w *wire) hold() { w.flow.Lock() }

func (w *wire) release() { w.flow.Unlock() }

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.isCut = true
	for c := range w.conns {
		_ = c.Close()
		delete(w.conns, c)
	}
}

func (w *wire) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.isCut = false
}
