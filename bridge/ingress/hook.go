package ingress

import (
	"bytes"
	"errors"
	"strings"
	"time"

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
	receiveMaximum int
	inFlight       *semaphore.Weighted
}

// ID names the hook in Mochi's log.
func (h *hook) ID() string { return "pulsegate" }

// Provides says which of Mochi's events are of interest.
func (h *hook) Provides(event byte) bool {
	return bytes.IndexByte([]byte{
		mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnACLCheck, mqtt.OnSessionEstablish,
		mqtt.OnPacketRead, mqtt.OnPublish, mqtt.OnPacketEncode, mqtt.OnDisconnect,
	}, event) >= 0
}

// OnConnect decides about a CONNECT, because unlike OnConnectAuthenticate it
// can choose the reason code.
func (h *hook) OnConnect(cl *mqtt.Client, pk packets.Packet) error {
	handler, admission := h.door.Admit(Connection{
		ClientID: pk.Connect.ClientIdentifier,
		Username: string(pk.Connect.Username),
		Password: string(pk.Connect.Password),
		Remote:   cl.Net.Remote,
		Protocol: pk.ProtocolVersion,
	})
	if admission != Welcome {
		return refuse(cl, admission, "")
	}
	if pk.Connect.WillFlag {
		// A will would be published past every check.
		handler.Handle(Message{Topic: pk.Connect.WillTopic, Payload: pk.Connect.WillPayload, Form: Will}, func(Disposition) {})
		return refuse(cl, NotAuthorized, "wills are not accepted: connect without one")
	}
	cl.State.Keepalive = min(cl.State.Keepalive, maxKeepalive)
	connectionOf(cl).queue = newQueue(cl, handler, h.receiveMaximum, h.inFlight)
	return nil
}

// OnConnectAuthenticate agrees: OnConnect has decided already.
func (h *hook) OnConnectAuthenticate(*mqtt.Client, packets.Packet) bool { return true }

// OnACLCheck refuses every subscription. Publishes all pass, since Mochi's own
// refusal would overtake acknowledgements that still wait in the queue.
func (h *hook) OnACLCheck(_ *mqtt.Client, _ string, write bool) bool { return write }

// OnSessionEstablish empties the session that the client is about to inherit:
// what a publisher's session could hold is only Mochi's memory of QoS 2 packet
// identifiers, and a reading sent again must not be answered from that.
func (h *hook) OnSessionEstablish(cl *mqtt.Client, _ packets.Packet) {
	if existing, ok := h.server.Clients.Get(cl.ID); ok {
		existing.ClearInflights()
	}
}

// OnPacketRead lets publishes on topics of the broker's own reach OnPublish.
// Mochi would drop them without any acknowledgement; the prefix makes them
// topics that no device has.
func (h *hook) OnPacketRead(_ *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	if pk.FixedHeader.Type == packets.Publish && strings.HasPrefix(pk.TopicName, "$") {
		pk.TopicName = "-" + pk.TopicName
	}
	return pk, nil
}

// OnPublish puts the message into its connection's queue, and waits while that
// is full. ErrRejectPacket keeps Mochi from acknowledging or forwarding it.
func (h *hook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	q := connectionOf(cl).queue
	if q == nil {
		return pk, packets.ErrRejectPacket
	}
	if pk.FixedHeader.Qos == 2 && cl.State.Inflight.Len() >= h.receiveMaximum {
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
	if pk.FixedHeader.Type != packets.Connack || pk.ReasonCode != packets.CodeSuccess.Code {
		return pk
	}
	pk.SessionPresent = !cl.Properties.Clean
	p := &pk.Properties
	p.MaximumPacketSize = maxPacket
	p.RetainAvailable, p.RetainAvailableFlag = 0, true
	p.WildcardSubAvailable, p.WildcardSubAvailableFlag = 0, true
	p.SharedSubAvailable, p.SharedSubAvailableFlag = 0, true
	p.SubIDAvailable, p.SubIDAvailableFlag = 0, true
	return pk
}

// OnDisconnect forgets which QoS 2 packet identifiers were in use.
func (h *hook) OnDisconnect(cl *mqtt.Client, _ error, _ bool) {
	connectionOf(cl).end()
	if !cl.IsTakenOver() {
		cl.ClearInflights()
	}
}

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

func rememberUnreleased(cl *mqtt.Client, id uint16) {
	cl.State.Inflight.Set(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Pubrec},
		PacketID:    id,
		Created:     time.Now().Unix(),
	})
}
