package ingress

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
)

// addresses counts the connections of each address, and knows the strangers among
// them: those that have not been let in yet.
type addresses struct {
	limit int

	mu        sync.Mutex
	open      map[netip.Prefix]*crowd
	strangers list.List // of *connection, the one that came first in front
}

// crowd is one address's.
type crowd struct {
	connections int
	strangers   list.List
}

func newAddresses(limit int) *addresses {
	return &addresses{limit: limit, open: make(map[netip.Prefix]*crowd)}
}

// enter counts a connection, a stranger, unless its address has as many as it may.
func (a *addresses) enter(c *connection) bool {
	from := sender(c.socket.RemoteAddr())
	a.mu.Lock()
	defer a.mu.Unlock()
	of := a.open[from]
	if of == nil {
		of = new(crowd)
		a.open[from] = of
	}
	if of.connections >= a.limit {
		return false
	}
	of.connections++
	c.counted = of
	c.strange, c.strangeThere = a.strangers.PushBack(c), of.strangers.PushBack(c)
	return true
}

// letIn makes a connection no stranger any more.
func (a *addresses) letIn(c *connection) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.acquaint(c)
}

func (a *addresses) acquaint(c *connection) {
	if c.strange != nil {
		a.strangers.Remove(c.strange)
		c.counted.strangers.Remove(c.strangeThere)
		c.strange, c.strangeThere = nil, nil
	}
}

// leave forgets a connection, if it was counted.
func (a *addresses) leave(c *connection) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c.counted == nil {
		return
	}
	a.acquaint(c)
	c.counted.connections--
	if c.counted.connections == 0 {
		delete(a.open, sender(c.socket.RemoteAddr()))
	}
	c.counted = nil
}

// oldest is the stranger that came first, of all or of the address of another
// connection; nil if there is none.
func (a *addresses) oldest(why error, other *connection) *connection {
	a.mu.Lock()
	defer a.mu.Unlock()
	first := a.strangers.Front()
	if why == errCrowded {
		first = nil
		if of := a.open[sender(other.socket.RemoteAddr())]; of != nil {
			first = of.strangers.Front()
		}
	}
	if first == nil {
		return nil
	}
	return first.Value.(*connection)
}

// sender is whom an address counts for: itself in IPv4, its /64 in IPv6, of
// which one host may use every address (RFC 4291, 2.5.1). What is no IP address
// counts for one and the same.
func sender(a net.Addr) netip.Prefix {
	ip := ipOf(a)
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	p, _ := ip.Prefix(bits)
	return p
}

// ipOf is an address without its port and zone, IPv4 never as IPv6.
func ipOf(a net.Addr) netip.Addr {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap().WithZone("")
}
