package doctor

import (
	"context"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge"
	"github.com/pulsegate/pulsegate/bridge/engine"
)

// Users of NATS, as accounts.conf names them.
const (
	userGate     = "gate"
	userOperator = "operator"
	userConsumer = "consumer"
	userSecurity = "security"
)

// globalAccount is the account of those who have none.
const globalAccount = "$G"

// nats reaches the server: a real one as the gate does, the embedded one as those
// whose URLs are in the data directory, since nobody has the gate's password.
func (e *examination) nats(ctx context.Context) []finding {
	users := []string{userGate}
	if e.embedded() {
		if e.known.held() == "" {
			return []finding{skipped("the embedded server runs only while the gate does: start it with `pulsegate serve`")}
		}
		users = []string{userOperator, userConsumer, userSecurity}
	}
	var all []finding
	for _, user := range users {
		remote := bridge.RemoteOf(e.Config)
		if e.embedded() {
			remote = engine.Remote{URLFile: engine.URLFile(e.Config.Data, user)}
		}
		remote.Wait = checkLimit * 3 / 4
		conn, address, err := engine.Connect(ctx, remote, zerolog.Nop())
		if err == nil {
			e.known.add(user, conn)
			err = engine.CheckVersion(conn.ConnectedServerVersion(), address)
		}
		if err != nil {
			return []finding{wrong("%v", err)}
		}
		if all == nil {
			all = e.server(conn, address)
		}
	}
	return all
}

// server tells which it is, and how long its certificate is valid.
func (e *examination) server(conn *nats.Conn, address string) []finding {
	all := []finding{well("%s answers, version %s", address, conn.ConnectedServerVersion())}
	if state, err := conn.TLSConnectionState(); err == nil && len(state.PeerCertificates) > 0 {
		all = append(all, e.lasting("the certificate of "+address, state.PeerCertificates))
	}
	return all
}

// permissions looks at what the gate's user may do.
func (e *examination) permissions(ctx context.Context) []finding {
	if e.embedded() {
		return []finding{well("operator, consumer and security are let in; the gate's own account is in its process")}
	}
	found, err := engine.Examine(ctx, e.known.as(userGate))
	switch {
	case err != nil:
		return []finding{wrong("%v", err)}
	case len(found.Missing) > 0:
		return []finding{wrong("NATS does not let the gate's user %s: allow it, as configs/nats/accounts.conf does", strings.Join(found.Missing, ", "))}
	}
	var all []finding
	if found.Silenced != "" {
		all = append(all, doubtful("NATS does not let the gate's user %s, so that rejections are lost: allow it, as configs/nats/accounts.conf does", found.Silenced))
	}
	if found.Account == globalAccount {
		all = append(all, doubtful("the gate is in the account %s, which it shares with everybody who has no other: whoever may publish there can inject readings; use accounts as in configs/nats/accounts.conf", globalAccount))
	}
	if all == nil {
		all = []finding{well("%s", told(found))}
	}
	return all
}

func told(found engine.Permissions) string {
	if !found.Told {
		return "the gate's user has what it needs; whether rejections can be stored, NATS tells only who may publish $SYS.REQ.USER.INFO"
	}
	return fmt.Sprintf("the gate's user has what it needs, in the account %s", found.Account)
}
