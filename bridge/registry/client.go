package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

// ErrNoService says that no gate answers.
var ErrNoService = errors.New("no Pulsegate answers there: start it with `pulsegate serve`")

// Client asks a running gate, with an operator's connection.
type Client struct{ nc *nats.Conn }

// NewClient returns a Client.
func NewClient(nc *nats.Conn) *Client { return &Client{nc: nc} }

// Add enrols a device. Its errors are those of Registry.Add, and ErrNoService.
func (c *Client) Add(ctx context.Context, id, patient string) (Credentials, error) {
	return ask[Credentials](ctx, c, "add", request{DeviceID: id, PatientID: patient})
}

// Remove takes a device out. Its errors are those of Registry.Remove, and
// ErrNoService.
func (c *Client) Remove(ctx context.Context, id string) error {
	_, err := ask[struct{}](ctx, c, "remove", request{DeviceID: id})
	return err
}

// Show returns a device's entry, ErrUnknown or ErrNoService.
func (c *Client) Show(ctx context.Context, id string) (Entry, error) {
	return ask[Entry](ctx, c, "show", request{DeviceID: id})
}

// Credentials returns a device's credentials, ErrUnknown or ErrNoService.
func (c *Client) Credentials(ctx context.Context, id string) (Credentials, error) {
	return ask[Credentials](ctx, c, "credentials", request{DeviceID: id})
}

// List returns all entries in the order of their ids.
func (c *Client) List(ctx context.Context) ([]Entry, error) {
	var all []Entry
	for after := ""; ; {
		entries, err := ask[[]Entry](ctx, c, "list", request{After: after})
		if err != nil || len(entries) == 0 {
			return all, err
		}
		all = append(all, entries...)
		after = entries[len(entries)-1].DeviceID
	}
}

func ask[T any](ctx context.Context, c *Client, verb string, q request) (T, error) {
	var result T
	data, err := json.Marshal(q)
	if err != nil {
		return result, err
	}
	m, err := c.nc.RequestWithContext(ctx, subjects+"."+verb, data)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return result, ErrNoService
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

// remote is an error of the gate, told apart by its code.
type remote struct{ code, text string }

func (e remote) Error() string { return e.text }

// Is makes errors.Is work across the wire.
func (e remote) Is(target error) bool {
	return e.code == codeUnknown && target == ErrUnknown ||
		e.code == codeConflict && target == ErrExists ||
		e.code == codeInvalid && target == ErrBadID
}
