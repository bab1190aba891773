package engine

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Batched direct get came with 2.11.
const leastMajor, leastMinor = 2, 11

// checkServer tells an old server and one without JetStream from a good one.
func checkServer(conn *nats.Conn, clean string) error {
	if err := checkVersion(conn.ConnectedServerVersion(), clean); err != nil {
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

func checkVersion(version, clean string) error {
	var major, minor int
	_, err := fmt.Sscanf(version, "%d.%d", &major, &minor)
	if err != nil || major < leastMajor || major == leastMajor && minor < leastMinor {
		return fmt.Errorf("the NATS server at %s is version %q: Pulsegate needs %d.%d or newer, upgrade it", clean, version, leastMajor, leastMinor)
	}
	return nil
}
