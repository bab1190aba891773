package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/registry"
)

// registry makes sure that it can be read, and that it was made with the master
// key that the next start would use.
func (e *examination) registry(ctx context.Context) []finding {
	masters, err := e.masters()
	made := !errors.Is(err, fs.ErrNotExist)
	if err != nil && made {
		return []finding{wrong("%v", err)}
	}
	if e.embedded() {
		if !made {
			return []finding{wrong("there is no master key %s, but a gate runs that has one: restore it from a backup, or copy it from another replica, before that gate ends", e.masterFile())}
		}
		return mastersFound(masters, e.client().CheckMasters(ctx, masters))
	}
	js, err := jetstream.New(e.known.as(userGate))
	if err != nil {
		return []finding{wrong("%v", err)}
	}
	bucket, err := js.KeyValue(ctx, egress.BucketDevices)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return []finding{skipped("it is not there yet: the gate makes it when it starts")}
	}
	has := false
	if err == nil {
		has, err = registry.HasMasters(ctx, bucket)
	}
	switch {
	case err != nil:
		return []finding{wrong("reading the registry: %v: look at the NATS server", err)}
	case !made && has:
		return []finding{wrong("there is no master key %s, but this registry was made with one: restore it from a backup, or copy it from another replica", e.masterFile())}
	case !made:
		return []finding{well("it has no device yet; the gate makes the master key when it starts")}
	}
	return mastersFound(masters, registry.CheckMasters(ctx, bucket, masters))
}

func mastersFound(m registry.Masters, err error) []finding {
	if err != nil {
		return []finding{wrong("%v", err)}
	}
	return []finding{well("it can be read, and was made with the master key that is here (newest: %s)", m.Newest().ID)}
}

func (e *examination) masters() (registry.Masters, error) {
	if e.Config.Keys.Master == "" {
		return registry.ReadMasters(e.masterFile())
	}
	m, err := registry.ParseMasters([]byte(e.Config.Keys.Master))
	if err != nil {
		return m, fmt.Errorf("keys.master: %w", err)
	}
	return m, nil
}

// client asks the running gate.
func (e *examination) client() *registry.Client {
	return registry.NewClient(e.known.as(userOperator), e.By)
}
