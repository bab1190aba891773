package ingress

import (
	"net"
	"net/netip"
	"sync"
)

// addresses counts the connections of each address.
type addresses struct {
	limit int

	mu   sync.Mutex
	open map[netip.Prefix]int
}

func newAddresses(limit int) *addresses {
	return &addresses{limit: limit, open: make(map[netip.Prefix]int)}
}

// enter counts a connection, unless its address has as many as it may.
func (a *addresses) enter(from netip.Prefix) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open[from] >= a.limit {
		return false
	}
	a.open[from]++
	return true
}

func (a *addresses) leave(from netip.Prefix) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open[from]--; a.open[from] <= 0 {
		delete(a.open, from)
	}
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
