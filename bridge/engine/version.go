package engine

import (
	"context"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Batched direct get came with 2.11.
const leastMajor, leastMinor = 2, 11

// checkServer tells an old server, one that forbids what the gate needs, and one
// without JetStream from a good one.
func checkServer(conn *nats.Conn, clean string) error {
	if err := CheckVersion(conn.ConnectedServerVersion(), clean); err != nil {
		return err
	}
	if err := checkPermissions(conn, clean); err != nil {
		return err
	}
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	if _, err := js.AccountInfo(ctx); err != nil {
		return fmt.Errorf("NATS at %s offers no JetStream to this user (%w): enable jetstream in the server and in the gate's account, see configs/nats", clean, err)
	}
	return nil
}

func checkPermissions(conn *nats.Conn, clean string) error {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	found, err := Examine(ctx, conn)
	if err != nil {
		return fmt.Errorf("NATS at %s: %w", clean, err)
	}
	if len(found.Missing) > 0 {
		return fmt.Errorf("NATS at %s does not let this user %s: allow it, as configs/nats/accounts.conf does for the gate", clean, strings.Join(found.Missing, ", "))
	}
	return nil
}

// CheckVersion says of a server's version whether it has what Pulsegate needs.
func CheckVersion(version, clean string) error {
	var major, minor int
	_, err := fmt.Sscanf(version, "%d.%d", &major, &minor)
	if err != nil || major < leastMajor || major == leastMajor && minor < leastMinor {
		return fmt.Errorf("the NATS server at %s is version %q: Pulsegate needs %d.%d or newer, upgrade it", clean, version, leastMajor, leastMinor)
	}
	return nil
}
