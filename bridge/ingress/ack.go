package ingress

import (
	"bytes"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/pulsegate/pulsegate/bridge/verify"
)

// reasonCode maps an outcome to the reason code of PUBACK and PUBREC (MQTT 5,
// 3.4.2.1). MQTT 3.1.1 has none: there a PUBACK ends every message that was
// decided, since a client would send it again for ever.
func reasonCode(d Disposition) byte {
	if d.AboutTopic {
		return packets.ErrTopicNameInvalid.Code
	}
	switch d.Outcome {
	case verify.Accepted, verify.Late, verify.Duplicate:
		return packets.CodeSuccess.Code
	case verify.Malformed, verify.InvalidReading:
		return packets.ErrPayloadFormatInvalid.Code
	case verify.Stale, verify.Future:
		return packets.ErrImplementationSpecificError.Code
	case verify.RateLimited:
		return packets.ErrQuotaExceeded.Code
	default:
		return packets.ErrNotAuthorized.Code
	}
}

// acknowledge adds a PUBACK or PUBREC to out.
func acknowledge(out *bytes.Buffer, cl *mqtt.Client, e *entry, code byte) {
	kind := packets.Puback
	if e.qos == 2 {
		kind = packets.Pubrec
	}
	if cl.Properties.ProtocolVersion < 5 || code == packets.CodeSuccess.Code {
		out.Write([]byte{kind << 4, 2, byte(e.id >> 8), byte(e.id)})
		return
	}
	pk := packets.Packet{
		ProtocolVersion: 5,
		FixedHeader:     packets.FixedHeader{Type: kind},
		PacketID:        e.id,
		ReasonCode:      code,
	}
	pk.Properties.ReasonString = e.disposition.Reason
	pk.Mods.DisallowProblemInfo = cl.Properties.Props.RequestProblemInfoFlag && cl.Properties.Props.RequestProblemInfo == 0
	before := out.Len()
	_ = pk.PubackEncode(out) // the same bytes for both kinds; writing to memory does not fail
	// Mochi's own comparison with the maximum forgets the headers [MQTT-3.4.2-2].
	if maximum := cl.Properties.Props.MaximumPacketSize; maximum > 0 && out.Len()-before > int(maximum) {
		out.Truncate(before)
		pk.Properties.ReasonString = ""
		_ = pk.PubackEncode(out)
	}
}
