// Package load publishes readings as fast as the broker acknowledges them, or at
// fixed times, over raw TCP with packets that were encoded beforehand, so that
// the load costs less than what it measures.
package load

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/pulsegate/pulsegate/bridge/registry"
)

// Lane is one connection and what it sends, in order.
type Lane struct {
	Credentials registry.Credentials
	// Payloads go out at QoS 1 on the credentials' topic, each once.
	Payloads [][]byte
}

// Options say how to load a broker.
type Options struct {
	// Broker is host:port.
	Broker string
	// InFlight is how many unacknowledged messages each lane keeps on their
	// way, 1 to 65535.
	InFlight int
	Lanes    []Lane
}

// Result is what came of it.
type Result struct {
	// Acknowledged counts PUBACKs; Took is the time from the first PUBLISH to
	// the last PUBACK, connecting not included.
	Acknowledged int
	Took         time.Duration
}

// Rate is the messages acknowledged per second.
func (r Result) Rate() float64 { return float64(r.Acknowledged) / r.Took.Seconds() }

// mostInFlight is how many packet identifiers there are.
const mostInFlight = 65535

// connectLimit bounds dialling and CONNECT.
const connectLimit = 10 * time.Second

// Closed sends every payload of every lane in a closed loop and returns when
// all are acknowledged, or with the first error.
func Closed(ctx context.Context, o Options) (Result, error) {
	lanes, err := dialAll(ctx, o)
	defer closeAll(lanes)
	if err != nil {
		return Result{}, err
	}
	var result Result
	for _, l := range lanes {
		result.Acknowledged += len(l.packets)
	}
	start := time.Now()
	err = together(ctx, lanes, func(_ int, l *lane) error { return l.run() })
	result.Took = time.Since(start)
	if err != nil {
		return Result{}, err
	}
	return result, nil
}

// dialAll connects every lane. Those that it returns are to be closed, also with
// an error.
func dialAll(ctx context.Context, o Options) ([]*lane, error) {
	if o.InFlight < 1 || o.InFlight > mostInFlight {
		return nil, fmt.Errorf("in flight is %d; allowed: 1 to %d", o.InFlight, mostInFlight)
	}
	lanes := make([]*lane, len(o.Lanes))
	for i, l := range o.Lanes {
		var err error
		if lanes[i], err = dial(ctx, o.Broker, l.Credentials); err != nil {
			return lanes, fmt.Errorf("lane %d: %w", i, err)
		}
		lanes[i].inFlight, lanes[i].packets = o.InFlight, encode(l, o.InFlight)
	}
	return lanes, nil
}

// together runs all lanes until each is done, or one fails, or ctx ends.
func together(ctx context.Context, lanes []*lane, run func(i int, l *lane) error) error {
	stop := context.AfterFunc(ctx, func() { closeAll(lanes) })
	defer stop()
	failures := make(chan error, len(lanes))
	var wait sync.WaitGroup
	for i, l := range lanes {
		wait.Go(func() {
			if err := run(i, l); err != nil {
				failures <- err
				closeAll(lanes)
			}
		})
	}
	wait.Wait()
	select {
	case err := <-failures:
		return errors.Join(err, ctx.Err())
	default:
		return nil
	}
}

type lane struct {
	conn     net.Conn
	in       *bufio.Reader
	inFlight int
	packets  [][]byte
}

func closeAll(lanes []*lane) {
	for _, l := range lanes {
		if l != nil {
			_ = l.conn.Close()
		}
	}
}

// dial connects, and logs in.
func dial(ctx context.Context, broker string, c registry.Credentials) (*lane, error) {
	dialer := net.Dialer{Timeout: connectLimit}
	conn, err := dialer.DialContext(ctx, "tcp", broker)
	if err != nil {
		return nil, err
	}
	one := &lane{conn: conn, in: bufio.NewReader(conn)}
	if err := one.connect(c); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return one, nil
}

// encode makes the packets of a lane. Their identifiers come round after
// inFlight.
func encode(l Lane, inFlight int) [][]byte {
	packets := make([][]byte, len(l.Payloads))
	for i, payload := range l.Payloads {
		packets[i] = publish(l.Credentials.Topic, uint16(i%inFlight+1), payload)
	}
	return packets
}

func (l *lane) connect(c registry.Credentials) error {
	if err := l.conn.SetDeadline(time.Now().Add(connectLimit)); err != nil {
		return err
	}
	if _, err := l.conn.Write(connect(c)); err != nil {
		return err
	}
	var connack [4]byte
	if _, err := io.ReadFull(l.in, connack[:]); err != nil {
		return fmt.Errorf("waiting for CONNACK: %w", err)
	}
	if connack[0] != 0x20 || connack[3] != 0 {
		return fmt.Errorf("the broker refuses the connection with return code %d", connack[3])
	}
	return l.conn.SetDeadline(time.Time{})
}

// run keeps inFlight messages on their way. Acknowledgements come in the order
// of the messages [MQTT-4.6.0-2], which run also checks. All that may be sent
// at a moment goes out in one write, as the socket's buffer would have it.
func (l *lane) run() error {
	var out net.Buffers
	sent := 0
	for acknowledged := 0; acknowledged < len(l.packets); {
		out = out[:0]
		for sent < len(l.packets) && sent-acknowledged < l.inFlight {
			out = append(out, l.packets[sent])
			sent++
		}
		if len(out) > 0 {
			pending := out
			if _, err := pending.WriteTo(l.conn); err != nil {
				return err
			}
		}
		for first := true; first || l.in.Buffered() >= 4; first = false {
			if err := l.puback(uint16(acknowledged%l.inFlight + 1)); err != nil {
				return err
			}
			acknowledged++
		}
	}
	return nil
}

func (l *lane) puback(id uint16) error {
	var ack [4]byte
	if _, err := io.ReadFull(l.in, ack[:]); err != nil {
		return fmt.Errorf("waiting for PUBACK: %w", err)
	}
	if ack[0] != 0x40 || binary.BigEndian.Uint16(ack[2:]) != id {
		return fmt.Errorf("expected the PUBACK of packet %d, got % x", id, ack)
	}
	return nil
}

// connect is a CONNECT packet of MQTT 3.1.1 with a clean session.
func connect(c registry.Credentials) []byte {
	body := append(text("MQTT"), 4, 0xC2, 0, 60)
	for _, s := range []string{c.DeviceID, c.Username, c.Password} {
		body = append(body, text(s)...)
	}
	return append(header(0x10, len(body)), body...)
}

// publish is a PUBLISH packet at QoS 1.
func publish(topic string, id uint16, payload []byte) []byte {
	body := binary.BigEndian.AppendUint16(text(topic), id)
	return append(append(header(0x32, len(body)+len(payload)), body...), payload...)
}

func text(s string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...)
}

func header(first byte, length int) []byte {
	return binary.AppendUvarint([]byte{first}, uint64(length)) // the same encoding as MQTT 2.2.3
}
