package source

import (
	"bytes"
	"io"
	"net"
	"slices"
	"testing"
	"time"
)

// conn is a connection on which a broker has sent some bytes.
type conn struct {
	net.Conn
	in io.Reader
}

func (c conn) Read(p []byte) (int, error) { return c.in.Read(p) }

// publish is a PUBLISH at QoS 1 whose body has that many bytes.
func publish(length int, header ...byte) []byte {
	return append(header, bytes.Repeat([]byte{'x'}, length)...)
}

// However large a PUBLISH is, no more than its bound is given out, and what
// follows it is whole.
func TestGuardTrims(t *testing.T) {
	small, limit := publish(3, 0x32, 3), publish(trimmed, 0x32, 0x88, 0x80, 0x05)
	large, larger := publish(trimmed+1, 0x32, 0x89, 0x80, 0x05), publish(1<<21, 0x3a, 0x80, 0x80, 0x80, 0x01)
	for name, test := range map[string]struct{ sent, want [][]byte }{
		"small":  {[][]byte{small, small}, [][]byte{small, small}},
		"limit":  {[][]byte{limit, small}, [][]byte{limit, small}},
		"large":  {[][]byte{large, small}, [][]byte{limit, small}},
		"larger": {[][]byte{larger, small}, [][]byte{append([]byte{0x3a}, limit[1:]...), small}},
	} {
		from, to := net.Pipe()
		_ = from.Close()
		var in []io.Reader
		for _, packet := range test.sent {
			in = append(in, bytes.NewReader(packet))
		}
		got, err := io.ReadAll(newGuard(conn{to, io.MultiReader(in...)}, to, 1, func() {}))
		if want := slices.Concat(test.want...); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes instead of %d, %v", name, len(got), len(want), err)
		}
	}
}

// A write to a peer that reads nothing ends, and closing tells.
func TestGuardWrites(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	told := false
	g := newGuard(deadlines{near}, near, 1, func() { told = true })
	if _, err := g.Write([]byte{0x40, 2, 0, 1}); err == nil {
		t.Error("nobody read what was written")
	}
	if err := g.Close(); err != nil || !told {
		t.Errorf("told %t, %v", told, err)
	}
}

// deadlines are over at once.
type deadlines struct{ net.Conn }

func (d deadlines) SetWriteDeadline(t time.Time) error {
	return d.Conn.SetWriteDeadline(t.Add(-writeTimeout))
}
