// Package ingress is where readings come in: the embedded MQTT broker. It
// authenticates nobody and judges nothing itself; it hands every message to a
// Handler and tells the sender, in the order of arrival, what became of it.
package ingress

import (
	"github.com/pulsegate/pulsegate/bridge/verify"
)

// Form is how a message came.
type Form uint8

const (
	// Published is an ordinary PUBLISH.
	Published Form = iota
	// Retained is a PUBLISH with the RETAIN flag [MQTT-3.3.1-5].
	Retained
	// Will is the will of a CONNECT [MQTT-3.1.2-5].
	Will
	// Oversize is a packet larger than is read: it has neither topic nor
	// payload, and its connection is closed.
	Oversize
)

// Message is what a device sent.
type Message struct {
	Topic string
	// Payload may be kept: it is never changed.
	Payload []byte
	Form    Form
}

// Disposition is what became of a message.
type Disposition struct {
	Outcome verify.Outcome
	// Reason goes to a sender that speaks MQTT 5; empty if it must not know.
	Reason string
	// AboutTopic makes a Malformed one of the topic rather than the payload.
	AboutTopic bool
	// Stored says how the store answered, for outcomes that need one.
	Stored Storing
}

// Storing is a store's answer about one message.
type Storing uint8

const (
	// Settled means that the outcome is final: the message is acknowledged.
	Settled Storing = iota
	// Failed means that the message was not stored and may come again: it is
	// not acknowledged, and its connection closes.
	Failed
)

// Handler takes the messages of one connection, one after another.
type Handler interface {
	// Handle decides about a message. It calls done exactly once, from any
	// goroutine, before or after it returns; done does not block.
	Handle(m Message, done func(Disposition))
}

// Connection is what a client says in CONNECT, and shows before.
type Connection struct {
	// ClientID is the MQTT client identifier.
	ClientID string
	Username string
	Password string
	// Certificate is the one common name of the certificate that the client has
	// proved to be its own; empty without one.
	Certificate string
	// Demand is that of the listener it came through.
	Demand Demand
	// Remote is the address of the peer.
	Remote string
	// Protocol is 3, 4 (MQTT 3.1.1) or 5.
	Protocol byte
}

// Admission is the answer to a CONNECT.
type Admission uint8

const (
	// Welcome lets the connection in.
	Welcome Admission = iota
	// BadCredentials refuses a user name or password.
	BadCredentials
	// NotAuthorized refuses one who proved who he is.
	NotAuthorized
	// Unavailable refuses everybody for now.
	Unavailable
)

// Door decides who may connect.
type Door interface {
	// Admit answers a CONNECT; the Handler is set if the answer is Welcome.
	Admit(c Connection) (Handler, Admission)
}
