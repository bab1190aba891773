package load

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/pulsegate/pulsegate/bridge/registry"
)

const (
	// dialling is how many connections of a crowd are opened at once.
	dialling = 64
	// drip is how often a slow writer sends a byte.
	drip = time.Second
)

// Crowd is connections that want nothing but to be there.
type Crowd struct {
	// Broker is host:port.
	Broker string
	// From are addresses of this machine to connect from, in turn: one address
	// has some 28,000 ports.
	From []string
	// HalfOpen send nothing; SlowWriters send a CONNECT, a byte a second.
	HalfOpen, SlowWriters int
}

// Hold opens all connections, and anew those that the broker ends, until ctx
// ends. opened is called when all are open for the first time. It returns how
// often one was opened.
func Hold(ctx context.Context, c Crowd, opened func()) (total int) {
	packet := connect(registry.Credentials{DeviceID: "stranger", Username: "stranger", Password: "a password that nobody has"})
	room := make(chan struct{}, dialling)
	var first, all sync.WaitGroup
	var mu sync.Mutex
	first.Add(c.HalfOpen + c.SlowWriters)
	for i := range c.HalfOpen + c.SlowWriters {
		says := packet
		if i < c.HalfOpen {
			says = nil
		}
		dialer := net.Dialer{Timeout: connectLimit}
		if len(c.From) > 0 {
			dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(c.From[i%len(c.From)])}
		}
		all.Go(func() {
			there := sync.OnceFunc(first.Done)
			for ctx.Err() == nil {
				room <- struct{}{}
				conn, err := dialer.DialContext(ctx, "tcp", c.Broker)
				<-room
				if err != nil {
					time.Sleep(redial)
					continue
				}
				mu.Lock()
				total++
				mu.Unlock()
				there()
				linger(ctx, conn, says)
			}
			there()
		})
	}
	first.Wait()
	opened()
	all.Wait()
	return total
}

// linger sends a byte a second of what it has to say, until it is cut off, or
// ctx ends.
func linger(ctx context.Context, conn net.Conn, says []byte) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer func() { _ = conn.Close() }()
	var in [16]byte
	for _, b := range says {
		if _, err := conn.Write([]byte{b}); err != nil {
			return
		}
		_ = conn.SetReadDeadline(time.Now().Add(drip))
		if _, err := conn.Read(in[:]); err == nil || !isTimeout(err) {
			return
		}
	}
	_ = conn.SetReadDeadline(time.Time{})
	_, _ = conn.Read(in[:])
}

func isTimeout(err error) bool {
	timeout, ok := err.(net.Error)
	return ok && timeout.Timeout()
}
