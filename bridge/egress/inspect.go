package egress

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Inspection is one stream as it is, compared with a layout.
type Inspection struct {
	Fill
	// Contradictions are what Ensure would refuse, Lacking what it would put
	// right; both break promises of the gate while they last.
	Contradictions, Lacking []string
	// Leaderless is true for a stream of a cluster that has no leader now.
	Leaderless bool
}

// StreamNames are those of all streams of a layout, the registry's last.
func StreamNames() []string {
	return []string{StreamVitals, StreamRejections, StreamAudit, "KV_" + BucketDevices}
}

// Inspect looks at one of the streams and changes nothing. The error wraps
// jetstream.ErrStreamNotFound where it is not there.
func Inspect(ctx context.Context, nc *nats.Conn, l Layout, name string) (Inspection, error) {
	all := append(l.streams(), bucketStream(l))
	i := slices.IndexFunc(all, func(c jetstream.StreamConfig) bool { return c.Name == name })
	if i < 0 {
		return Inspection{}, fmt.Errorf("stream %s is none of Pulsegate's", name)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return Inspection{}, fmt.Errorf("jetstream: %w", err)
	}
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return Inspection{}, fmt.Errorf("looking at stream %s: %w", name, err)
	}
	info := stream.CachedInfo()
	found := Inspection{Fill: fillOf(info), Leaderless: info.Cluster != nil && info.Cluster.Leader == ""}
	if formerAudit(info.Config) {
		found.Lacking = []string{"it is of an earlier version"}
		return found, nil
	}
	found.Contradictions, found.Lacking = contradictions(info.Config, all[i]), lacking(info.Config, all[i])
	return found, nil
}

// lacking lists what grow would change.
func lacking(have, want jetstream.StreamConfig) []string {
	var all []string
	lack := func(less bool, what string, have, want any) {
		if less {
			all = append(all, fmt.Sprintf("%s is %v, not %v", what, have, want))
		}
	}
	lack(have.Duplicates < want.Duplicates, "duplicate window", have.Duplicates, want.Duplicates)
	lack(shrinks(want.MaxBytes, have.MaxBytes), "limit in bytes", have.MaxBytes, want.MaxBytes)
	lack(shrinks(int64(want.MaxAge), int64(have.MaxAge)), "age limit", have.MaxAge, want.MaxAge)
	lack(republish(have) != republish(want), "republish", republish(have), republish(want))
	return all
}

// MissingConsumers are the durable consumers of a layout that are not there.
func MissingConsumers(ctx context.Context, nc *nats.Conn, l Layout) ([]string, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("jetstream: %w", err)
	}
	var missing []string
	for _, name := range l.Consumers {
		switch _, err := js.Consumer(ctx, StreamVitals, name); {
		case errors.Is(err, jetstream.ErrConsumerNotFound):
			missing = append(missing, name)
		case err != nil:
			return missing, fmt.Errorf("looking at consumer %s of stream %s: %w", name, StreamVitals, err)
		}
	}
	return missing, nil
}

// Account is what an account's JetStream holds and may hold in files, in bytes;
// a Limit of 0 or less is none.
type Account struct{ Used, Limit int64 }

// CheckAccount says whether the account has room for all that a layout's streams
// may grow to.
func CheckAccount(ctx context.Context, nc *nats.Conn, l Layout) (Account, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return Account{}, fmt.Errorf("jetstream: %w", err)
	}
	info, err := fits(ctx, js, l)
	if info == nil {
		return Account{}, err
	}
	return Account{Used: int64(info.Store), Limit: info.Limits.MaxStore}, err
}
