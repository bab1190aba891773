package registry

import "crypto/subtle"

// Identity is somebody who may connect.
type Identity struct {
	ID   string
	Kind Kind
}

// Authenticate says whether a password is that of an active device or gateway,
// in a time that does not depend on how much of it is right.
func (r *Registry) Authenticate(id, password string) (Identity, bool) {
	m := r.find(id)
	if m == nil || m.revoked {
		return Identity{}, false
	}
	right := 0
	for _, master := range m.passwordMasters(r.options.Now()) {
		right |= subtle.ConstantTimeCompare([]byte(r.password(m, master)), []byte(password))
	}
	if right != 1 {
		return Identity{}, false
	}
	return Identity{m.id, m.kind()}, true
}

// Known returns an active device or gateway that has proved itself otherwise.
func (r *Registry) Known(id string) (Identity, bool) {
	m := r.find(id)
	if m == nil || m.revoked {
		return Identity{}, false
	}
	return Identity{m.id, m.kind()}, true
}

// Devices returns the ids of the devices that this replica knows, in no order.
func (r *Registry) Devices() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	all := make([]string, 0, len(r.members))
	for id, m := range r.members {
		if !m.gateway {
			all = append(all, id)
		}
	}
	return all
}

// Carries says whether a gateway may bring readings of a device now.
func (r *Registry) Carries(gateway, device string) bool {
	m := r.find(gateway)
	return m != nil && !m.revoked && m.gateway && m.rest.carried.has(device)
}
