package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// What a user may be allowed to do with a subject, as nats-server names it when
// it refuses.
const (
	toPublish   = "Publish"
	toSubscribe = "Subscription"
)

// tellLimit bounds the wait for a server that may say nothing.
const tellLimit = 500 * time.Millisecond

// permission is one thing that the gate's user needs to be allowed.
type permission struct{ verb, subject string }

func (p permission) String() string {
	if p.verb == toSubscribe {
		return "subscribe to " + p.subject
	}
	return "publish " + p.subject
}

// needed lists what a gate cannot do without. Of the streams and consumers that
// it makes and changes, one stands for all.
func needed() []permission {
	var all []permission
	for _, subject := range []string{
		"$JS.API.INFO", "$JS.API.STREAM.INFO.VITALS", "$JS.API.STREAM.INFO.REJECTIONS", "$JS.API.STREAM.INFO.AUDIT", "$JS.API.STREAM.INFO.KV_devices",
		"$JS.API.STREAM.CREATE.VITALS", "$JS.API.STREAM.UPDATE.VITALS", "$JS.API.STREAM.MSG.GET.VITALS", "$JS.API.STREAM.MSG.GET.AUDIT",
		"$JS.API.CONSUMER.INFO.VITALS.>", "$JS.API.CONSUMER.CREATE.VITALS.>",
		"$JS.API.CONSUMER.CREATE.AUDIT.>", "$JS.API.CONSUMER.DELETE.AUDIT.>", "$JS.API.CONSUMER.MSG.NEXT.AUDIT.>",
		"$JS.API.CONSUMER.CREATE.KV_devices.>", "$JS.API.CONSUMER.DELETE.KV_devices.>", "$JS.API.DIRECT.GET.KV_devices.>", "$JS.FC.>",
		"gate.in.vitals.>", "gate.in.audit.>", "$KV.devices.>", "gate.replicas", "gate.replicas.hello", "gate.presence", "_INBOX.>",
	} {
		all = append(all, permission{toPublish, subject})
	}
	for _, subject := range []string{"_INBOX.>", "gate.registry.>", "gate.replicas", "gate.replicas.hello", "gate.presence", "$SRV.>"} {
		all = append(all, permission{toSubscribe, subject})
	}
	return all
}

// forRejections is what rejections need. It is never tried, since who subscribes
// to them would see it.
func forRejections() permission { return permission{toPublish, "rejected.>"} }

// Permissions is what has been found out about the user of a connection.
type Permissions struct {
	// Missing is what he lacks of what the gate cannot do without, such as
	// "publish gate.in.vitals.>".
	Missing []string
	// Told is whether the server has told the rest, which it does not if the user
	// may not publish $SYS.REQ.USER.INFO.
	Told bool
	// Silenced is what he lacks of what rejections need, or "".
	Silenced string
	// Account is the account's name.
	Account string
}

// Examine finds out what the user of a connection may do, by trying. What it
// publishes is empty and expects a stream that there is not, so it goes nowhere
// or is refused by JetStream, and nothing is changed.
func Examine(ctx context.Context, conn *nats.Conn) (Permissions, error) {
	// What is refused here is reported, not logged.
	handler := conn.ErrorHandler()
	conn.SetErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})
	defer conn.SetErrorHandler(handler)
	var found Permissions
	for _, p := range needed() {
		allowed, err := p.try(ctx, conn)
		if err != nil {
			return found, fmt.Errorf("trying whether NATS lets this user %s: %w", p, err)
		}
		if !allowed {
			found.Missing = append(found.Missing, p.String())
		}
	}
	found.ask(ctx, conn)
	return found, nil
}

// nobody stands for wildcards, and for the stream that there is not.
const nobody = "pulsegate-probe"

// try returns whether the server lets it pass. A refusal comes before the answer
// to what is asked afterwards.
func (p permission) try(ctx context.Context, conn *nats.Conn) (bool, error) {
	subject := strings.ReplaceAll(p.subject, ">", nobody+"."+nobody)
	if p.verb == toSubscribe {
		sub, err := conn.SubscribeSync(subject)
		if err != nil {
			return false, err
		}
		defer func() { _ = sub.Unsubscribe() }()
	} else if err := conn.PublishMsg(&nats.Msg{Subject: subject, Header: nats.Header{nats.ExpectedStreamHdr: {nobody}}}); err != nil {
		return false, err
	}
	if err := conn.FlushWithContext(ctx); err != nil {
		return false, err
	}
	last := conn.LastError()
	return !errors.Is(last, nats.ErrPermissionViolation) || !strings.Contains(last.Error(), fmt.Sprintf("%s to %q", p.verb, subject)), nil
}

// ask lets the server tell what it knows of the user.
func (f *Permissions) ask(ctx context.Context, conn *nats.Conn) {
	ctx, cancel := context.WithTimeout(ctx, tellLimit)
	defer cancel()
	question := permission{toPublish, "$SYS.REQ.USER.INFO"}
	if allowed, err := question.try(ctx, conn); err != nil || !allowed {
		return
	}
	m, err := conn.RequestWithContext(ctx, question.subject, nil)
	if err != nil {
		return
	}
	var answer struct {
		Data *server.UserInfo `json:"data"`
	}
	if json.Unmarshal(m.Data, &answer) != nil || answer.Data == nil {
		return
	}
	f.Told, f.Account = true, answer.Data.Account
	p := forRejections()
	if granted := answer.Data.Permissions; granted != nil && !allows(granted.Publish, p.subject) {
		f.Silenced = p.String()
	}
}

// allows says whether all of a subject is allowed, and nothing of it denied.
func allows(s *server.SubjectPermission, subject string) bool {
	if s == nil {
		return true
	}
	allowed := s.Allow == nil
	for _, one := range s.Allow {
		allowed = allowed || server.SubjectMatchesFilter(subject, one)
	}
	for _, one := range s.Deny {
		allowed = allowed && !server.SubjectsCollide(subject, one)
	}
	return allowed
}
