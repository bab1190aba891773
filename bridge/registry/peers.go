package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// subjectReplicas is where replicas tell each other how far they are.
	subjectReplicas = "gate.replicas"
	// subjectHello is where a new replica asks the others to say so at once.
	subjectHello = "gate.replicas.hello"
	// peerLimit is how long a replica counts as live after it was last heard: a
	// little longer than its lease, after which it judges nothing any more.
	peerLimit = lease + time.Second
)

// report is what a replica says of itself.
type report struct {
	Instance string `json:"instance"`
	Replica  string `json:"replica"`
	Revision uint64 `json:"revision"`
	Leaving  bool   `json:"leaving,omitempty"`
}

// peers are the other replicas, as far as they are heard.
type peers struct {
	subscriptions []*nats.Subscription
	// met closes when every live replica has had the time to make itself heard.
	met chan struct{}

	mu      sync.Mutex
	known   map[string]peer
	changed chan struct{}
}

type peer struct {
	report
	heard time.Time
}

// meet begins to listen to the other replicas and makes sure that a change which
// this one makes soon is not taken for applied everywhere because they have not
// been heard yet. Who is alone learns so at once.
func (r *Registry) meet(ctx context.Context) error {
	p := &r.peers
	if err := p.listen(r.nc, subjectReplicas, r.hear); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, renewEvery)
	defer cancel()
	_, err := r.nc.RequestWithContext(ctx, subjectHello, nil)
	if errors.Is(err, nats.ErrNoResponders) {
		close(p.met)
	} else {
		time.AfterFunc(renewEvery, func() { close(p.met) })
	}
	return p.listen(r.nc, subjectHello, func(m *nats.Msg) {
		_ = r.announce()
		_ = m.Respond(nil)
	})
}

func (p *peers) listen(nc *nats.Conn, subject string, take nats.MsgHandler) error {
	one, err := nc.Subscribe(subject, take)
	if err == nil {
		p.subscriptions = append(p.subscriptions, one)
	}
	return err
}

// leave tells the others to wait for this replica no more.
func (r *Registry) leave() {
	for _, one := range r.peers.subscriptions {
		_ = one.Unsubscribe()
	}
	if len(r.peers.subscriptions) > 0 {
		_ = r.say(report{Leaving: true})
	}
}

func (r *Registry) announce() error { return r.say(report{Revision: r.Revision()}) }

func (r *Registry) say(one report) error {
	one.Instance, one.Replica = r.instance, r.options.Replica
	data, err := json.Marshal(one)
	if err != nil {
		return err
	}
	return r.nc.Publish(subjectReplicas, data)
}

// hear takes in another replica's report.
func (r *Registry) hear(m *nats.Msg) {
	var one report
	if json.Unmarshal(m.Data, &one) != nil || one.Instance == "" || one.Instance == r.instance {
		return
	}
	p := &r.peers
	p.mu.Lock()
	defer p.mu.Unlock()
	if one.Leaving {
		delete(p.known, one.Instance)
	} else {
		p.known[one.Instance] = peer{one, r.options.Now()}
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// behind names the live replicas that have not applied a revision, and returns
// a channel that closes when that may have changed.
func (r *Registry) behind(revision uint64) ([]string, <-chan struct{}) {
	now := r.options.Now()
	p := &r.peers
	p.mu.Lock()
	defer p.mu.Unlock()
	var names []string
	for id, one := range p.known {
		switch {
		case now.Sub(one.heard) > peerLimit:
			delete(p.known, id)
		case one.Revision < revision:
			names = append(names, fmt.Sprintf("%s (%s)", one.Replica, id))
		}
	}
	sort.Strings(names)
	return names, p.changed
}

// everywhere returns once this replica and every other live one has applied a
// revision, or with the names of those that have not when ctx is done. A
// replica that falls silent is waited for until its lease is over.
func (r *Registry) everywhere(ctx context.Context, revision uint64) []string {
	if err := r.await(ctx, revision); err != nil {
		others, _ := r.behind(revision)
		return append([]string{fmt.Sprintf("%s (%s)", r.options.Replica, r.instance)}, others...)
	}
	select {
	case <-r.peers.met:
	case <-ctx.Done():
	}
	ticker := time.NewTicker(renewEvery)
	defer ticker.Stop()
	for {
		names, changed := r.behind(revision)
		if len(names) == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ticker.C:
		case <-ctx.Done():
			return names
		}
	}
}
