package doctor

import (
	"context"
	"os"

	"github.com/dustin/go-humanize"

	"github.com/pulsegate/pulsegate/bridge"
	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/engine"
)

// belowDisk is the check that the disk's needs. An embedded store is on this
// machine, whether it is open or not.
func (e *examination) belowDisk() string {
	if e.embedded() {
		return checkConfiguration
	}
	return checkPermissions
}

// disk compares the room that there is with what the streams may grow to. Of a
// server of its own the limits of the account are all that it tells.
func (e *examination) disk(ctx context.Context) []finding {
	layout := bridge.LayoutOf(e.Config)
	if !e.embedded() {
		return e.account(ctx, layout)
	}
	if _, err := os.Stat(e.Config.Data); err != nil {
		return []finding{skipped("there is no data directory yet")}
	}
	room, err := engine.CheckDisk(e.Config.Data, layout.Total())
	switch {
	case err != nil:
		return []finding{wrong("%v", err)}
	case !room.Known:
		return []finding{skipped("this system does not tell how much is free")}
	}
	return []finding{well("%s are free, and the streams take %s and may take %s", size(room.Free), size(room.Used), size(layout.Total()))}
}

func (e *examination) account(ctx context.Context, layout egress.Layout) []finding {
	account, err := egress.CheckAccount(ctx, e.known.as(userGate), layout)
	if err != nil {
		return []finding{wrong("%v", err)}
	}
	limit := "any amount"
	if account.Limit > 0 {
		limit = size(account.Limit)
	}
	return []finding{well("the account holds %s and may hold %s; the streams may take %s", size(account.Used), limit, size(layout.Total()*int64(layout.Replicas)))}
}

func size(bytes int64) string { return humanize.IBytes(uint64(max(bytes, 0))) }
