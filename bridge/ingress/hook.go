package ingress

import (
	"bytes"
	"errors"
	"strings"
	"sync"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"golang.org/x/sync/semaphore"
)

var errRefused = errors.New("connection refused")

// maxKeepalive is the longest keep alive in seconds for which Mochi's deadline,
// half as long again, does not overflow.
const maxKeepalive = 43690

// hook connects Mochi to the Door and to each connection's queue.
type hook struct {
	mqtt.HookBase
	server         *mqtt.Server
	door           Door
	arriving       *sync.Map
	receiveMaximum int
	inFlight       *semaphore.Weighted
}

// ID names the hook in Mochi's log.
func (h *hook) ID() string { return "pulsegate" }

// Provides says which of Mochi's events are of interest.
func (h *hook) Provides(event byte) bool {
	return bytes.IndexByte([]byte{
		mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnACLCheck, mqtt.OnSessionEstablish, mqtt.OnSessionEstablished,
		mqtt.OnPacketRead, mqtt.OnPublish, mqtt.OnPacketEncode, mqtt.OnDisconnect,
	}, event) >= 0
}

// OnConnect decides about a CONNECT, because unlike OnConnectAuthenticate it
// can choose the reason code.
func (h *hook) OnConnect(cl *mqtt.Client, pk packets.Packet) error {
	c := connectionOf(cl)
	h.arriving.Store(c, pk.Connect.ClientIdentifier)
	handler, admission := h.door.Admit(Connection{
		ClientID:    pk.Connect.ClientIdentifier,
		Username:    string(pk.Connect.Username),
		Password:    string(pk.Connect.Password),
		Certificate: c.certificate(),
		Demand:      c.demand,
		Remote:      cl.Net.Remote,
		Protocol:    pk.ProtocolVersion,
	})
	if admission != Welcome {
		return refuse(cl, admission, "")
	}
	if c.will != nil {
		handler.Handle(*c.will, func(Disposition) {})
		return refuse(cl, NotAuthorized, "wills are not accepted: connect without one")
	}
	if cl.State.Keepalive > maxKeepalive {
		cl.State.Keepalive, cl.State.ServerKeepalive = maxKeepalive, true // CONNACK says so [MQTT-3.2.2-21]
	}
	c.queue.Store(newQueue(cl, handler, h.receiveMaximum, h.inFlight))
	return nil
}

// OnConnectAuthenticate agrees: OnConnect has decided already.
func (h *hook) OnConnectAuthenticate(*mqtt.Client, packets.Packet) bool { return true }

// OnACLCheck refuses every subscription. Publishes all pass, since Mochi's own
// refusal would overtake acknowledgements that still wait in the queue.
func (h *hook) OnACLCheck(_ *mqtt.Client, _ string, write bool) bool { return write }

// OnSessionEstablish hurries the connection that the client is about to take
// over: Mochi writes DISCONNECT to it first, and one whose peer does not read
// would keep the device out.
func (h *hook) OnSessionEstablish(cl *mqtt.Client, _ packets.Packet) {
	if existing, ok := h.server.Clients.Get(cl.ID); ok {
		connectionOf(existing).hurry()
	}
}

// OnSessionEstablished comes when Mochi knows the client.
func (h *hook) OnSessionEstablished(cl *mqtt.Client, _ packets.Packet) {
	h.arriving.Delete(connectionOf(cl))
}

// OnPacketRead changes what Mochi would deal with in a way of its own.
func (h *hook) OnPacketRead(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	switch pk.FixedHeader.Type {
	case packets.Connect:
		if pk.Connect.WillFlag {
			// Mochi would publish a will past every check, and refuses a
			// retained one before anybody hears of it: it never sees them.
			connectionOf(cl).will = &Message{Topic: pk.Connect.WillTopic, Payload: pk.Connect.WillPayload, Form: Will}
			pk.Connect.WillFlag, pk.Connect.WillRetain, pk.Connect.WillQos = false, false, 0
			pk.Connect.WillTopic, pk.Connect.WillPayload = "", nil
		}
	case packets.Publish:
		if strings.HasPrefix(pk.TopicName, "$") {
			// Mochi would drop it without any acknowledgement; the prefix makes
			// it a topic that no device has.
			pk.TopicName = "-" + pk.TopicName
		}
	case packets.Pubrel:
		if q := connectionOf(cl).queue.Load(); q != nil && q.release(pk.PacketID) {
			// Mochi answers from its own memory, which is filled only here, on
			// the goroutine that reads: it deadlocks when another one fills it.
			cl.State.Inflight.Set(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubrec}, PacketID: pk.PacketID})
		}
	}
	return pk, nil
}

// OnPublish puts the message into its connection's queue, and waits while that
// is full. ErrRejectPacket keeps Mochi from acknowledging or forwarding it.
func (h *hook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	q := connectionOf(cl).queue.Load()
	if q == nil {
		return pk, packets.ErrRejectPacket
	}
	if pk.FixedHeader.Qos == 2 && q.unreleasedCount() >= h.receiveMaximum {
		// The client owes a PUBREL for each [MQTT-3.3.4-9].
		_ = h.server.DisconnectClient(cl, packets.ErrReceiveMaximum)
		return pk, packets.ErrRejectPacket
	}
	m := Message{Topic: pk.TopicName, Payload: pk.Payload}
	if pk.FixedHeader.Retain {
		m.Form = Retained
	}
	q.publish(m, pk.PacketID, pk.FixedHeader.Qos)
	return pk, packets.ErrRejectPacket
}

// OnPacketEncode completes CONNACK. Session Present is 1 whenever the client
// did not ask for a clean start, on any replica: a publisher's session is empty
// by construction, and told 0 it would throw its unacknowledged readings away
// [MQTT-3.2.2-5].
func (h *hook) OnPacketEncode(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	if pk.FixedHeader.Type == packets.Disconnect && cl.Properties.ProtocolVersion < 5 {
		// In MQTT 3.1.1 no server sends one (3.14), but Mochi does; a type
		// that it cannot encode is not sent.
		pk.FixedHeader.Type = packets.Reserved
		return pk
	}
	if pk.FixedHeader.Type != packets.Connack || pk.ReasonCode != packets.CodeSuccess.Code {
		return pk
	}
	pk.SessionPresent = !cl.Properties.Clean && cl.Properties.ProtocolVersion >= 4
	p := &pk.Properties
	p.MaximumPacketSize = maxPacket
	p.RetainAvailable, p.RetainAvailableFlag = 0, true
	p.WildcardSubAvailable, p.WildcardSubAvailableFlag = 0, true
	p.SharedSubAvailable, p.SharedSubAvailableFlag = 0, true
	p.SubIDAvailable, p.SubIDAvailableFlag = 0, true
	return pk
}

// OnDisconnect lets go of the connection's messages.
func (h *hook) OnDisconnect(cl *mqtt.Client, _ error, _ bool) { connectionOf(cl).end() }

// refuse answers a CONNECT with the code that stands for the admission in the
// client's version of MQTT.
func refuse(cl *mqtt.Client, a Admission, reason string) error {
	code := admissionCodes[a][1]
	if cl.Properties.ProtocolVersion < 5 {
		code = admissionCodes[a][0]
	}
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connack}, ReasonCode: code}
	pk.Properties.ReasonString = reason
	if err := cl.WritePacket(pk); err != nil {
		return err
	}
	return errRefused
}

// admissionCodes are the CONNACK codes of MQTT 3.1.1 (3.2.2.3) and 5 (3.2.2.2).
var admissionCodes = map[Admission][2]byte{
	BadCredentials: {0x04, 0x86},
	NotAuthorized:  {0x05, 0x87},
	Unavailable:    {0x03, 0x88},
}
