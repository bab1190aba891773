package siege_test

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/pulsegate/pulsegate/device-sim/attack/wire"
)

// yesMan is a broker that agrees to everything, never hangs up, and hands every
// payload on to NATS, its user properties as headers.
type yesMan struct {
	nc *nats.Conn

	mu    sync.Mutex
	conns []net.Conn
}

func startYesMan(t *testing.T, nc *nats.Conn) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	y := &yesMan{nc: nc}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			y.mu.Lock()
			y.conns = append(y.conns, c)
			y.mu.Unlock()
			serving.Go(func() { y.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		y.mu.Lock()
		for _, c := range y.conns {
			_ = c.Close()
		}
		y.mu.Unlock()
		serving.Wait()
	})
	return l.Addr().String()
}

// serve answers until nothing more comes, and leaves the connection open.
func (y *yesMan) serve(c net.Conn) {
	in := bufio.NewReader(c)
	version := byte(wire.MQTT5)
	for {
		first, err := in.ReadByte()
		if err != nil {
			return
		}
		length, err := binary.ReadUvarint(in)
		if err != nil || length > 1<<20 {
			_, _ = io.Copy(io.Discard, in)
			return
		}
		body := make([]byte, length)
		if _, err := io.ReadFull(in, body); err != nil {
			return
		}
		if first == wire.FirstConnect && len(body) > 6 {
			version = body[6]
		}
		_, _ = c.Write(y.answer(version, first, body))
	}
}

func (y *yesMan) answer(version, first byte, body []byte) []byte {
	five := func(b ...byte) []byte {
		if version < wire.MQTT5 {
			return nil
		}
		return b
	}
	switch first & 0xF0 {
	case wire.FirstConnect:
		return wire.Packet(0x20, append([]byte{0, 0}, five(3, 0x21, 0, 8)...))
	case wire.FirstPublish:
		return y.publish(version, first, body)
	case wire.FirstPubrel & 0xF0:
		return wire.Packet(0x70, body[:min(2, len(body))])
	case wire.FirstSubscribe & 0xF0:
		return wire.Packet(0x90, append(append(body[:min(2, len(body))], five(0)...), 1))
	case wire.FirstUnsubscribe & 0xF0:
		return wire.Packet(0xB0, body[:min(2, len(body))])
	case wire.FirstPingreq:
		return wire.Packet(0xD0, nil)
	}
	return nil
}

func (y *yesMan) publish(version, first byte, body []byte) []byte {
	qos := first >> 1 & 3
	if len(body) < 2 || qos == 0 {
		return nil
	}
	topic := int(binary.BigEndian.Uint16(body))
	if len(body) < 2+topic+2 {
		return nil
	}
	id, rest := body[2+topic:][:2], body[2+topic+2:]
	y.forward(version, rest)
	return wire.Packet(0x30+qos<<4, id)
}

// forward takes at most one property, and guesses the rest from the first brace.
func (y *yesMan) forward(version byte, rest []byte) {
	if y.nc == nil {
		return
	}
	header := nats.Header{}
	if version >= wire.MQTT5 {
		length, n := binary.Uvarint(rest)
		if n <= 0 || uint64(len(rest)-n) < length {
			return
		}
		if length > 3 && rest[n] == 0x26 {
			name := int(binary.BigEndian.Uint16(rest[n+1:]))
			if name <= int(length)-3 {
				header.Set(string(rest[n+3:][:name]), "1")
			}
		}
		rest = rest[n+int(length):]
	}
	var named struct {
		Device  string `json:"device_id"`
		Patient string `json:"patient_id"`
	}
	if json.Unmarshal(rest, &named) != nil || len(named.Device) != 4 {
		return
	}
	_ = y.nc.PublishMsg(&nats.Msg{Subject: "vitals.live.p." + named.Device, Header: header, Data: rest})
}
