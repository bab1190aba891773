package ingress

import "net"

// OpenedBy is a listener whose socket another opens.
func (l Listener) OpenedBy(open func(network, address string) (net.Listener, error)) Listener {
	l.open = open
	return l
}

// Sender is whom an address counts for.
var Sender = sender
