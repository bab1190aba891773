package bridge

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"
	"time"

	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/ingress"
	"github.com/pulsegate/pulsegate/bridge/limits"
	"github.com/pulsegate/pulsegate/bridge/verify"
)

const (
	// summarizeEvery is how often what was left out is told.
	summarizeEvery = 10 * time.Second
	// retryLast is how long the last summary waits for room.
	retryLast = 10 * time.Millisecond
	// refusalsApart is how many kinds of refused messages are told apart at once,
	// and so how many summaries there can be each time.
	refusalsApart = 1024
	// allRefusals is how many times the rate of one kind that of all kinds is.
	allRefusals = 20
)

// Of refused logins these are kept, each second and at once after a rest: from
// one address, and in all.
var (
	loginsOfOne = limits.Rate{PerSecond: 2, Burst: 20}
	loginsOfAll = limits.Rate{PerSecond: 10, Burst: 100}
)

// refusal is what rejections are sampled by.
type refusal struct {
	outcome verify.Outcome
	device  string
	address limits.Address
}

// refusals keeps a sample of what was refused, and exact counts of the rest.
type refusals struct {
	store    *egress.Store
	messages *limits.Sampler[refusal]
	logins   *limits.Sampler[limits.Address]
	stop     chan struct{}
	stopped  sync.WaitGroup
}

// newRefusals keeps so many rejections a second of one outcome, device and
// address.
func newRefusals(perSecond int, store *egress.Store) *refusals {
	r := &refusals{
		store: store, stop: make(chan struct{}),
		messages: limits.NewSampler(limits.Sampling[refusal]{
			Each: limits.Rate{PerSecond: perSecond, Burst: perSecond},
			All:  limits.Rate{PerSecond: allRefusals * perSecond, Burst: allRefusals * perSecond},
			Keys: refusalsApart, Rest: func(k refusal) refusal { return refusal{outcome: k.outcome} },
		}),
		logins: limits.NewSampler(limits.Sampling[limits.Address]{
			Each: loginsOfOne, All: loginsOfAll,
			Keys: refusalsApart, Rest: func(limits.Address) limits.Address { return limits.Address{} },
		}),
	}
	r.stopped.Go(r.run)
	return r
}

func (r *refusals) run() {
	ticks := time.NewTicker(summarizeEvery)
	defer ticks.Stop()
	for {
		select {
		case <-r.stop:
			return
		case <-ticks.C:
			r.summarize()
		}
	}
}

// summarize says whether all could be told.
func (r *refusals) summarize() bool {
	logins := r.logins.Report(func(a limits.Address, l limits.LeftOut) bool {
		r.store.Audit("login.refused", loginsLeftOut{a.String(), l.From.UTC(), l.Until.UTC(), l.Count})
		return true
	})
	return r.messages.Report(func(k refusal, l limits.LeftOut) bool {
		return r.store.RejectSummary(egress.RejectionSummary{
			Outcome: k.outcome, Device: k.device, Remote: k.address.String(),
			From: l.From.UTC(), Until: l.Until.UTC(), LeftOut: l.Count,
		})
	}) && logins
}

// close tells what has been left out since the last time. Nothing may be
// refused any more.
func (r *refusals) close(ctx context.Context) error {
	close(r.stop)
	r.stopped.Wait()
	for !r.summarize() {
		select {
		case <-time.After(retryLast):
		case <-ctx.Done():
			return fmt.Errorf("summaries of rejections are missing in %s: %w", egress.StreamRejections, ctx.Err())
		}
	}
	return nil
}

// record keeps a rejection or counts it. What only a kept one needs is made
// only then, since a flood is mostly counted.
func (r *refusals) record(p *passage) {
	v := &p.verdict
	key := refusal{v.Outcome, p.device(), p.purse.pair.Address}
	if !r.messages.Keep(key, v.Now) {
		return
	}
	one := egress.Rejection{
		Outcome: v.Outcome, Device: key.device, Connection: p.name, Remote: p.remote, Time: v.Now.UTC(), Reason: v.Reason,
	}
	if p.message.Form != ingress.Oversize { // which was never read
		hash := sha256.Sum256(p.message.Payload)
		one.PayloadSHA256 = hex.EncodeToString(hash[:])
	}
	if !r.store.Reject(one) {
		r.messages.Drop(key, v.Now)
	}
}

// refusedLogin is the audit's event of a connection that was refused.
type refusedLogin struct {
	ClientID string    `json:"client_id"`
	Username string    `json:"username"`
	Remote   string    `json:"remote"`
	Time     time.Time `json:"time"`
	Reason   string    `json:"reason"`
}

// loginsLeftOut is the audit's event of refused connections that it has no other
// event of. Remote is empty if they came from too many addresses.
type loginsLeftOut struct {
	Remote  string    `json:"remote,omitempty"`
	From    time.Time `json:"from"`
	Until   time.Time `json:"until"`
	LeftOut uint64    `json:"left_out"`
}

// login is record for a connection that was refused.
func (r *refusals) login(c ingress.Connection, reason string, now time.Time) {
	if r.logins.Keep(limits.AddressOf(c.Remote), now) {
		r.store.Audit("login.refused", refusedLogin{short(c.ClientID), short(c.Username), c.Remote, now.UTC(), reason})
	}
}
