package bridge

import (
	"fmt"

	"github.com/pulsegate/pulsegate/bridge/ingress"
	"github.com/pulsegate/pulsegate/bridge/registry"
)

// identify says who connects by what the listener demands, or why nobody whom
// the gate knows.
func (g *gate) identify(c ingress.Connection) (who registry.Identity, refusal string) {
	ok := false
	switch c.Demand {
	case ingress.Nothing:
		who, ok = g.registry.Known(c.ClientID)
		refusal = "not enrolled, or revoked"
	case ingress.Certificate:
		who, ok = g.registry.Known(c.Certificate)
		refusal = fmt.Sprintf("the certificate is that of %q, which is not enrolled, or revoked", short(c.Certificate))
	case ingress.PasswordAndCertificate:
		who, ok = g.registry.Authenticate(c.Username, c.Password)
		ok = ok && who.ID == c.Certificate
		refusal = fmt.Sprintf("not enrolled, revoked, or the password does not match, or the certificate is another's: %q", short(c.Certificate))
	default:
		who, ok = g.registry.Authenticate(c.Username, c.Password)
		refusal = "not enrolled, revoked, or the password does not match"
	}
	if ok {
		return who, ""
	}
	return registry.Identity{}, refusal
}
