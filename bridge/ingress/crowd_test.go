//go:build unix

package ingress_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/ingress"
	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
)

// mute is a client that takes no memory of this process: a descriptor.
type mute int

func (b *broker) mute(t testing.TB, scheme string, says []byte) mute {
	t.Helper()
	to := netip.MustParseAddrPort(b.host(t, scheme))
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		err = syscall.Connect(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: int(to.Port())})
	}
	if err == nil && len(says) > 0 {
		_, err = syscall.Write(fd, says)
	}
	if err != nil {
		t.Fatal(err)
	}
	return mute(fd)
}

// answer waits for so many bytes.
func (m mute) answer(t testing.TB, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	_ = syscall.SetsockoptTimeval(int(m), syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &syscall.Timeval{Sec: 10})
	got, err := syscall.Read(int(m), b)
	for err == syscall.EINTR {
		got, err = syscall.Read(int(m), b)
	}
	if err != nil || got < n {
		t.Fatalf("%d of %d bytes, %v", got, n, err)
	}
	return b
}

func (m mute) close() { _ = syscall.Close(int(m)) }

// held is what the process holds in heap and stacks, in bytes.
func held() (bytes, goroutines int) {
	runtime.GC()
	runtime.GC() // pools keep what they hold for one
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse), runtime.NumGoroutine()
}

func connectAs(id string) []byte {
	body := []byte{0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0x02, 0x58, 0, 0, byte(len(id))}
	return append([]byte{0x10, byte(len(body) + len(id))}, append(body, id...)...)
}

// connectWith is connectAs with properties.
func connectWith(id string, properties []byte) []byte {
	all := connectAs(id)
	body := slices.Concat(all[2:12], binary.AppendUvarint(nil, uint64(len(properties))), properties, all[13:])
	return slices.Concat([]byte{0x10}, binary.AppendUvarint(nil, uint64(len(body))), body)
}

// connackSize is that of CONNACK in MQTT 5, in bytes.
func connackSize(t testing.TB, b *broker) int {
	conn, err := net.Dial("tcp", b.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = conn.Write(connectAs("w-1"))
	_ = conn.SetReadDeadline(time.Now().Add(mqttest.Patience))
	head := make([]byte, 2)
	if _, err := io.ReadFull(conn, head); err != nil {
		t.Fatal(err)
	}
	return 2 + int(head[1])
}

// crowd is a number of connections, and what one of them costs.
func (b *broker) crowd(t testing.TB, n int, join func(i int) mute) (each int, leave func()) {
	t.Helper()
	before, _ := held()
	all := make([]mute, n)
	for i := range all {
		all[i] = join(i)
	}
	await(t, "all are there", func() bool { return b.Connections() == n })
	time.Sleep(settling)
	after, _ := held()
	return (after - before) / n, func() {
		for _, m := range all {
			m.close()
		}
		await(t, "all have left", func() bool { return b.Connections() == 0 })
	}
}

// settling is in what time the last connections begin to wait for something.
const settling = 200 * time.Millisecond

func await(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * mqttest.Patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it never is so: " + what)
		}
	}
}

// Not parallel: it measures the memory of the process.
func TestWhatConnectionsCost(t *testing.T) { costs(t, 1000, func(string, int) {}) }

// BenchmarkCrowd is for looking at more connections, by hand: 10,000, or as many
// as this process may have open on both sides.
func BenchmarkCrowd(b *testing.B) {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		b.Fatal(err)
	}
	n := min(10_000, int(files.Cur)/2-100)
	for b.Loop() {
		costs(b, n, func(name string, each int) { b.ReportMetric(float64(each), strings.ReplaceAll(name, " ", "_")+"_B") })
	}
	b.ReportMetric(float64(n), "connections")
}

// costs holds n connections of every kind to what one may cost.
func costs(t testing.TB, n int, report func(name string, each int)) {
	b := open(t, func(o *ingress.Options) {
		o.Listeners = append(o.Listeners, ingress.Listener{Address: "127.0.0.1:0", WebSocket: &ingress.WebSocket{}})
		o.MaxConnections, o.ConnectDeadline, o.PacketDeadline, o.Log = 2*n, 5*time.Minute, 5*time.Minute, zerolog.Nop()
	})
	size := connackSize(t, b)
	await(t, "the first has left", func() bool { return b.Connections() == 0 })
	met := 0 // nobody comes twice, so that whoever is not forgotten is seen
	idle := func(int) mute {
		met++
		m := b.mute(t, "mqtt", connectAs(fmt.Sprintf("w-%d", met)))
		m.answer(t, size)
		return m
	}
	var start, goroutines int
	for i, run := range []struct {
		name  string
		limit int
		join  func(i int) mute
	}{
		{"idle at first", 35 << 10, idle},
		{"half-open and silent", 12 << 10, func(int) mute { return b.mute(t, "mqtt", nil) }},
		{"half a CONNECT", 12 << 10, func(int) mute { return b.mute(t, "mqtt", connectAs("w-1")[:10]) }},
		{"most of a large CONNECT", 12 << 10, func(int) mute { return b.mute(t, "mqtt", append([]byte{0x10, 0xF0, 0x1F}, make([]byte, 3000)...)) }},
		{"half a WebSocket", 12 << 10, func(int) mute { return b.mute(t, "ws", []byte("GET / HTTP/1.1\r\nHost: h\r\n")) }},
		{"most of a large WebSocket", 14 << 10, func(int) mute {
			return b.mute(t, "ws", []byte("GET / HTTP/1.1\r\nHost: h\r\nX: "+strings.Repeat("x", 6000)))
		}},
		{"idle", 35 << 10, idle},
		{"idle with many properties", 35 << 10, func(i int) mute {
			forever := []byte{0x11, 0xFF, 0xFF, 0xFF, 0xFF} // session expiry interval
			m := b.mute(t, "mqtt", connectWith(fmt.Sprintf("s-%d", i), append(forever, bytes.Repeat([]byte{0x26, 0, 0, 0, 0}, 800)...)))
			m.answer(t, size)
			return m
		}},
		{"half a PUBLISH", 35 << 10, func(i int) mute {
			m := idle(i)
			_, _ = syscall.Write(int(m), append([]byte{0x32, 0xF0, 0x7F}, make([]byte, 200)...))
			return m
		}},
	} {
		each, leave := b.crowd(t, n, run.join)
		report(run.name, each)
		if each > run.limit {
			t.Errorf("%s: %d bytes each, at most %d", run.name, each, run.limit)
		}
		leave()
		if i == 0 { // the runtime keeps what ended goroutines leave, for others
			start, goroutines = held()
		}
	}
	await(t, "all goroutines have ended", func() bool { _, left := held(); return left <= goroutines })
	if end, _ := held(); end-start > 8*n*200 {
		t.Errorf("%d bytes are left of each connection", (end-start)/(8*n))
	}
	b.shut(t)
}
