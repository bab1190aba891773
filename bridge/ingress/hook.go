package ingress

import (
	"bytes"
	"errors"
	"strings"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

var errRefused = errors.New("connection refused")

const (
	// maxKeepalive is the longest keep alive in seconds: longer ones overflow in
	// Mochi.
	maxKeepalive = 43690
	// freeKeepalive, in seconds, takes the place of a keep alive of 0, which is
	// none: behind a balancer nothing else tells of a client that is gone. MQTT 5
	// clients hear of it; in 3.1.1 a server may end an idle connection unasked
	// (3.1.2.10).
	freeKeepalive = 1200
)

// hook connects Mochi to the Door and to each connection's queue.
type hook struct {
	mqtt.HookBase
	*shared
	server         *mqtt.Server
	door           Door
	receiveMaximum int
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
		return h.refuse(cl, admission, "")
	}
	if c.will != nil {
		handler.Handle(*c.will, func(Disposition) {})
		return h.refuse(cl, NotAuthorized, "wills are not accepted: connect without one")
	}
	limitKeepalive(cl)
	c.patience = time.Duration(cl.State.Keepalive) * time.Second * 3 / 2 // [MQTT-3.1.2-22]
	c.queue.Store(newQueue(cl, handler, h.receiveMaximum, h.inFlight))
	if h.draining.Load() { // now, lest Drain and this miss each other
		return h.refuse(cl, Unavailable, "the server is stopping")
	}
	h.addresses.letIn(c)
	return nil
}

// limitKeepalive clamps it. CONNACK says so [MQTT-3.2.2-21].
func limitKeepalive(cl *mqtt.Client) {
	switch k := &cl.State.Keepalive; {
	case *k == 0:
		*k, cl.State.ServerKeepalive = freeKeepalive, true
	case *k > maxKeepalive:
		*k, cl.State.ServerKeepalive = maxKeepalive, true
	}
}

// OnConnectAuthenticate agrees: OnConnect has decided already.
func (h *hook) OnConnectAuthenticate(*mqtt.Client, packets.Packet) bool { return true }

// OnACLCheck refuses every subscription. Publishes all pass, since Mochi's own
// refusal would overtake acknowledgements that still wait in the queue.
func (h *hook) OnACLCheck(_ *mqtt.Client, _ string, write bool) bool { return write }

// OnSessionEstablish ends the connection that the client takes over
// [MQTT-3.1.4-3]. Mochi would let two live that come at once; now one of them does,
// or none, and has to come again. It is hurried, since one whose peer does not read
// would keep the device out.
func (h *hook) OnSessionEstablish(cl *mqtt.Client, _ packets.Packet) {
	if before, ok := h.present.Swap(cl.ID, cl); ok {
		existing := before.(*mqtt.Client)
		connectionOf(existing).hurry()
		_ = h.server.DisconnectClient(existing, packets.ErrSessionTakenOver)
	}
}

// OnSessionEstablished comes when Mochi knows the client.
func (h *hook) OnSessionEstablished(cl *mqtt.Client, _ packets.Packet) {
	h.arriving.Delete(connectionOf(cl))
}

// OnPacketRead changes what Mochi would deal with in a way of its own.
func (h *hook) OnPacketRead(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	connectionOf(cl).charge(pk)
	switch pk.FixedHeader.Type {
	case packets.Connect:
		// Mochi keeps these as long as the client, and with a name all of its packet.
		pk.Properties.User = nil
		pk.Connect.ClientIdentifier, pk.Connect.Username = strings.Clone(pk.Connect.ClientIdentifier), bytes.Clone(pk.Connect.Username)
		if pk.Connect.WillFlag {
			// Mochi would publish a will past every check, and refuses a
			// retained one before anybody hears of it: it never sees them.
			connectionOf(cl).will = &Message{Topic: pk.Connect.WillTopic, Payload: pk.Connect.WillPayload, Form: Will}
			pk.Connect.WillFlag, pk.Connect.WillRetain, pk.Connect.WillQos = false, false, 0
			pk.Connect.WillTopic, pk.Connect.WillPayload = "", nil
		}
		if len(pk.Connect.Password) == 0 {
			pk.Connect.PasswordFlag = false // Mochi refuses an empty one as a protocol violation
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
// is full.
func (h *hook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	q := connectionOf(cl).queue.Load()
	if q == nil {
		return taken(pk)
	}
	if q.overdrawn(pk.FixedHeader.Qos) {
		_ = h.server.DisconnectClient(cl, packets.ErrReceiveMaximum)
		return taken(pk)
	}
	m := Message{Topic: pk.TopicName, Payload: pk.Payload}
	if pk.FixedHeader.Retain {
		m.Form = Retained
	}
	q.publish(m, pk.PacketID, pk.FixedHeader.Qos, pk.FixedHeader.Remaining)
	return taken(pk)
}

// taken leaves Mochi nothing to do with a packet: what is to be ignored it does
// not forward, and what has QoS 0 it does not acknowledge. ErrRejectPacket says
// the same, but then Mochi copies each packet to the heap for its log, a
// kilobyte, whether or not that is written.
func taken(pk packets.Packet) (packets.Packet, error) {
	pk.Ignore, pk.FixedHeader.Retain, pk.FixedHeader.Qos = true, false, 0
	return pk, nil
}

// OnPacketEncode completes CONNACK and corrects DISCONNECT. Session Present is 1 whenever the client
// did not ask for a clean start, on any replica: a publisher's session is empty
// by construction, and told 0 it would throw its unacknowledged readings away
// [MQTT-3.2.2-5].
func (h *hook) OnPacketEncode(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	if connectionOf(cl).parted(pk.FixedHeader.Type) {
		pk.FixedHeader.Type = packets.Reserved // see below
		return pk
	}
	if pk.FixedHeader.Type == packets.Disconnect && cl.Properties.ProtocolVersion < 5 {
		// In MQTT 3.1.1 no server sends one (3.14), but Mochi does; a type
		// that it cannot encode is not sent.
		pk.FixedHeader.Type = packets.Reserved
		return pk
	}
	if pk.FixedHeader.Type == packets.Disconnect && pk.ReasonCode == packets.ErrServerShuttingDown.Code {
		// Mochi's only says why; this one says what to do now (MQTT 5, 4.11).
		pk.ReasonCode, pk.Properties.ReasonString = packets.ErrUseAnotherServer.Code, "the server is stopping"
		return pk
	}
	if pk.FixedHeader.Type == packets.Suback || pk.FixedHeader.Type == packets.Unsuback {
		// Mochi sends back what the client sent, up to a packet of it.
		pk.Properties.User = nil
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
func (h *hook) refuse(cl *mqtt.Client, a Admission, reason string) error {
	if a == Unavailable {
		h.turnedAway.Add(1)
	}
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
