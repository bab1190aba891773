package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

// answerLimit bounds the wait for one answer: a gate needs no longer.
const answerLimit = changeDeadline + 5*time.Second

// attemptLimit bounds the wait for one replica: a little longer than a change
// may take to be applied everywhere.
const attemptLimit = spreadLimit + 2*time.Second

// ErrNoService says that no gate answers.
var ErrNoService = errors.New("no Pulsegate answers there: start it with `pulsegate serve`")

// Client asks a running gate, with an operator's connection. Its methods return
// the errors of the Registry's methods of the same names, and ErrNoService.
type Client struct {
	nc *nats.Conn
	by string
}

// NewClient returns a Client for somebody, who is named in the audit.
func NewClient(nc *nats.Conn, by string) *Client { return &Client{nc: nc, by: by} }

// Add enrols a device or gateway; the result has its credentials.
func (c *Client) Add(ctx context.Context, n New) (Result, error) {
	return ask[Result](ctx, c, "add", request{
		Kind: n.Kind, ID: n.ID, Patient: n.Patient, Ward: n.Ward, Labels: n.Labels, Key: n.Key,
		Carries: n.Carries, Prefixes: n.Prefixes, State: n.State,
	})
}

// Assign gives a device to another patient.
func (c *Client) Assign(ctx context.Context, id, patient string) (Result, error) {
	return ask[Result](ctx, c, "assign", request{Kind: KindDevice, ID: id, Patient: patient})
}

// Rotate gives a device a new key; the result has its credentials.
func (c *Client) Rotate(ctx context.Context, id string, overlap time.Duration) (Result, error) {
	return ask[Result](ctx, c, "rotate", request{Kind: KindDevice, ID: id, Overlap: overlap})
}

// Revoke cuts a device or gateway off.
func (c *Client) Revoke(ctx context.Context, kind Kind, id string) (Result, error) {
	return ask[Result](ctx, c, "revoke", request{Kind: kind, ID: id})
}

// Restore lets a revoked device or gateway in again.
func (c *Client) Restore(ctx context.Context, kind Kind, id string) (Result, error) {
	return ask[Result](ctx, c, "restore", request{Kind: kind, ID: id})
}

// Carry sets for which devices a gateway may bring readings.
func (c *Client) Carry(ctx context.Context, id string, devices, prefixes []string) (Result, error) {
	return ask[Result](ctx, c, "carry", request{Kind: KindGateway, ID: id, Carries: devices, Prefixes: prefixes})
}

// Remove takes a device or gateway out.
func (c *Client) Remove(ctx context.Context, kind Kind, id string) (Result, error) {
	return ask[Result](ctx, c, "remove", request{Kind: kind, ID: id})
}

// Show returns an entry.
func (c *Client) Show(ctx context.Context, kind Kind, id string) (Entry, error) {
	return ask[Entry](ctx, c, "show", request{Kind: kind, ID: id})
}

// Credentials returns the credentials of a device or gateway.
func (c *Client) Credentials(ctx context.Context, id string) (Credentials, error) {
	return ask[Credentials](ctx, c, "credentials", request{ID: id})
}

// Keys returns a device's signing keys, the newest first, those that ended but
// are still kept included.
func (c *Client) Keys(ctx context.Context, id string) ([]SigningKey, error) {
	return ask[[]SigningKey](ctx, c, "keys", request{Kind: KindDevice, ID: id})
}

// CheckMasters is the function of the same name, for those who do not reach the
// bucket.
func (c *Client) CheckMasters(ctx context.Context, m Masters) error {
	proofs, err := ask[map[string]string](ctx, c, "proofs", request{})
	if err == nil {
		_, err = m.prove(proofs)
	}
	return err
}

// List returns all entries of a kind in the order of their ids.
func (c *Client) List(ctx context.Context, kind Kind) ([]Entry, error) {
	var all []Entry
	for after := ""; ; {
		entries, err := ask[[]Entry](ctx, c, "list", request{Kind: kind, After: after})
		if err != nil || len(entries) == 0 {
			return all, err
		}
		all = append(all, entries...)
		after = entries[len(entries)-1].ID
	}
}

func ask[T any](ctx context.Context, c *Client, verb string, q request) (T, error) {
	var result T
	q.By = c.by
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	m, err := c.request(ctx, verb, q)
	// The replica that was asked may hang while others do not. What adds or makes
	// a key must not be asked twice.
	for verb != "add" && verb != "rotate" && errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		m, err = c.request(ctx, verb, q)
	}
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return result, ErrNoService
	case errors.Is(err, context.DeadlineExceeded):
		return result, fmt.Errorf("no gate has answered in time (%w): look with show whether the change was made, and try again", err)
	case err != nil:
		return result, fmt.Errorf("asking the registry: %w", err)
	}
	if code := m.Header.Get(micro.ErrorCodeHeader); code != "" {
		return result, remote{code: code, text: m.Header.Get(micro.ErrorHeader)}
	}
	if err := json.Unmarshal(m.Data, &result); err != nil {
		return result, fmt.Errorf("the registry's answer cannot be read: %w", err)
	}
	return result, nil
}

// request asks once. What has not been answered by attemptLimit must not be
// carried out later, over what somebody else has done by then.
func (c *Client) request(ctx context.Context, verb string, q request) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptLimit)
	defer cancel()
	q.Expires, _ = ctx.Deadline()
	data, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	return c.nc.RequestWithContext(ctx, subjects+"."+verb, data)
}

// remote is an error of the gate, told apart by its code.
type remote struct{ code, text string }

func (e remote) Error() string { return e.text }

// Is makes errors.Is work across the wire.
func (e remote) Is(target error) bool {
	return e.code == codeUnknown && target == ErrUnknown ||
		e.code == codeExists && target == ErrExists ||
		e.code == codeConflict && target == ErrConflict ||
		e.code == codeBadID && target == ErrBadID ||
		e.code == codeKey && target == ErrKey ||
		e.code == codeInvalid && target == ErrInvalid
}
