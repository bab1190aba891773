package limits

import "net/netip"

// sharedBits is the length of the IPv6 prefix that counts as one address: a
// subnet, within which a host picks addresses as it likes (RFC 4291, 2.5.4).
const sharedBits = 64

// Address is whom messages come from as far as limits are concerned: an IPv4
// address, or an IPv6 /64. The zero value stands for all that cannot be told.
type Address struct{ prefix netip.Prefix }

// AddressOf reads host:port, or a host without one.
func AddressOf(remote string) Address {
	host, err := netip.ParseAddrPort(remote)
	addr := host.Addr()
	if err != nil {
		if addr, err = netip.ParseAddr(remote); err != nil {
			return Address{}
		}
	}
	addr = addr.Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() {
		bits = sharedBits
	}
	prefix, err := addr.Prefix(bits)
	if err != nil {
		return Address{}
	}
	return Address{prefix}
}

// String returns the address, with /64 after one of IPv6; empty for the zero
// value.
func (a Address) String() string {
	switch {
	case !a.prefix.IsValid():
		return ""
	case a.prefix.IsSingleIP():
		return a.prefix.Addr().String()
	}
	return a.prefix.String()
}
