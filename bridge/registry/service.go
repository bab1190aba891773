package registry

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

const (
	// subjects is where a gate serves the registry to operators, who have no
	// other way into the bucket: whoever may ask JetStream can have its answer
	// delivered to any subject of the account.
	subjects = "gate.registry"
	// changeDeadline bounds one change, its spreading included.
	changeDeadline = 10 * time.Second
	// page is how many entries one answer of list holds.
	page = 500
)

// request is what an operator asks. Which members matter depends on the verb.
type request struct {
	Kind     Kind              `json:"kind"`
	ID       string            `json:"id,omitempty"`
	Patient  string            `json:"patient_id,omitempty"`
	Ward     string            `json:"ward,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	Key      []byte            `json:"key,omitempty"`
	Carries  []string          `json:"carries,omitempty"`
	Prefixes []string          `json:"prefixes,omitempty"`
	State    State             `json:"state,omitempty"`
	// Overlap is in nanoseconds.
	Overlap time.Duration `json:"overlap,omitempty"`
	After   string        `json:"after,omitempty"`
	By      string        `json:"by,omitempty"`
	// Expires is when nobody waits for the answer any more: then nothing may be
	// done, since a later request may have been answered meanwhile.
	Expires time.Time `json:"expires,omitzero"`
}

// Result is the answer to a change.
type Result struct {
	Entry Entry `json:"entry"`
	// Credentials are set where the change made new ones.
	Credentials *Credentials `json:"credentials,omitempty"`
	// Behind names live replicas that have not applied the change in time.
	Behind []string `json:"behind,omitempty"`
	// Unchanged is true where there was nothing to do.
	Unchanged bool `json:"unchanged,omitempty"`
}

// Change is what has been changed, for the audit.
type Change struct {
	Verb    string    `json:"verb"`
	Kind    Kind      `json:"kind"`
	ID      string    `json:"id"`
	Patient string    `json:"patient_id,omitempty"`
	By      string    `json:"by,omitempty"`
	Time    time.Time `json:"time"`
}

// SigningKey is one generation of a device's signing key.
type SigningKey struct {
	// Generation counts a device's keys from 1.
	Generation uint32 `json:"generation"`
	// Key is the HMAC-SHA256 key in hexadecimal.
	Key string `json:"key"`
	// Until is when the key ends or ended; zero is never.
	Until time.Time `json:"until,omitzero"`
}

type verb func(context.Context, request) (any, error)

// Serve answers operators on NATS until the returned service is stopped; of
// several replicas one answers. audit is told of every change.
func Serve(r *Registry, version string, audit func(Change)) (micro.Service, error) {
	service, err := micro.AddService(r.nc, micro.Config{
		Name: "pulsegate-registry", Version: version, Description: "Pulsegate's registry of devices",
	})
	if err != nil {
		return nil, fmt.Errorf("serving the registry: %w", err)
	}
	s := &server{registry: r, audit: audit}
	group := service.AddGroup(subjects)
	for name, handle := range s.verbs() {
		if err := group.AddEndpoint(name, micro.HandlerFunc(s.answer(handle))); err != nil {
			return nil, errors.Join(fmt.Errorf("serving the registry: %w", err), service.Stop())
		}
	}
	// Whoever hears that the gate is ready may ask at once.
	if err := r.nc.FlushTimeout(changeDeadline); err != nil {
		return nil, errors.Join(fmt.Errorf("serving the registry: %w", err), service.Stop())
	}
	return service, nil
}

type server struct {
	registry *Registry
	audit    func(Change)
}

func (s *server) verbs() map[string]verb {
	r := s.registry
	return map[string]verb{
		"add": s.changing("add", func(ctx context.Context, q request) (Applied, error) {
			return r.Add(ctx, New{q.Kind, q.ID, q.Patient, q.Ward, q.Labels, q.Key, q.Carries, q.Prefixes, q.State, q.By})
		}),
		"assign": s.changing("assign", func(ctx context.Context, q request) (Applied, error) {
			return r.Assign(ctx, q.ID, q.Patient, q.By)
		}),
		"rotate": s.changing("rotate", func(ctx context.Context, q request) (Applied, error) {
			return r.Rotate(ctx, q.ID, q.Overlap, q.By)
		}),
		"revoke": s.changing("revoke", func(ctx context.Context, q request) (Applied, error) {
			return r.Revoke(ctx, q.Kind, q.ID, q.By)
		}),
		"restore": s.changing("restore", func(ctx context.Context, q request) (Applied, error) {
			return r.Restore(ctx, q.Kind, q.ID, q.By)
		}),
		"carry": s.changing("carry", func(ctx context.Context, q request) (Applied, error) {
			return r.Carry(ctx, q.ID, q.Carries, q.Prefixes, q.By)
		}),
		"remove": s.changing("remove", func(ctx context.Context, q request) (Applied, error) {
			return r.Remove(ctx, q.Kind, q.ID)
		}),
		"show":        func(ctx context.Context, q request) (any, error) { return r.Show(ctx, q.Kind, q.ID) },
		"list":        func(ctx context.Context, q request) (any, error) { return s.list(ctx, q) },
		"credentials": s.reading("credentials", func(ctx context.Context, q request) (any, error) { return r.credentialsNow(ctx, q.ID) }),
		"proofs": func(ctx context.Context, _ request) (any, error) {
			proofs, _, err := readProofs(ctx, r.bucket)
			return proofs, err
		},
		"keys": s.reading("keys", func(ctx context.Context, q request) (any, error) { return s.keys(ctx, q.ID) }),
	}
}

// keys returns those signing keys that this replica can use, of the entry as the
// bucket has it now.
func (s *server) keys(ctx context.Context, id string) ([]SigningKey, error) {
	e, _, err := s.registry.read(ctx, KindDevice, id)
	if err != nil {
		return nil, err
	}
	m, err := s.registry.memberOf(&e)
	if err != nil {
		return nil, fmt.Errorf("device %s: %w", id, err)
	}
	keys := []SigningKey{}
	for _, k := range s.registry.signing(m) {
		keys = append(keys, SigningKey{k.Generation, hex.EncodeToString(k.Secret), k.Until})
	}
	return keys, nil
}

// list answers with as many entries as NATS carries in one message: what does
// not fit is asked for with the next page.
func (s *server) list(ctx context.Context, q request) ([]Entry, error) {
	entries, err := s.registry.List(ctx, q.Kind, q.After, page)
	for err == nil && len(entries) > 1 {
		data, err := json.Marshal(entries)
		if err != nil || int64(len(data)) <= s.registry.nc.MaxPayload() {
			return entries, err
		}
		entries = entries[:len(entries)/2]
	}
	return entries, err
}

// reading wraps a verb that tells secrets: whoever has an operator's URL may ask
// for them, and it must be seen who did.
func (s *server) reading(name string, tell verb) verb {
	return func(ctx context.Context, q request) (any, error) {
		secrets, err := tell(ctx, q)
		if err == nil {
			s.audit(Change{Verb: name, Kind: q.Kind, ID: q.ID, By: q.By, Time: s.registry.options.Now().UTC()})
		}
		return secrets, err
	}
}

// changing wraps a change: it is audited, and answered with new credentials
// where it made some.
func (s *server) changing(name string, apply func(context.Context, request) (Applied, error)) verb {
	return func(ctx context.Context, q request) (any, error) {
		applied, err := apply(ctx, q)
		if err != nil {
			return nil, err
		}
		if !applied.Unchanged {
			s.audit(Change{name, applied.Entry.Kind, q.ID, applied.Entry.Patient(), q.By, s.registry.options.Now().UTC()})
		}
		result := Result{Entry: applied.Entry, Behind: applied.Behind, Unchanged: applied.Unchanged}
		if name == "add" || name == "rotate" {
			credentials, err := s.registry.credentialsOf(applied.Entry)
			if err != nil {
				return nil, err
			}
			result.Credentials = &credentials
		}
		return result, nil
	}
}

func (s *server) answer(handle verb) func(micro.Request) {
	return func(m micro.Request) {
		// A change waits for the watch, so requests must not wait for each other.
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), changeDeadline)
			defer cancel()
			reply := reply(ctx, m.Data(), handle)
			reply.Subject = m.Reply()
			// The answer does not go through m, which belongs to the service again
			// once its handler has returned.
			if err := s.registry.nc.PublishMsg(reply); err != nil {
				refused := refusal(codeInternal, "the answer cannot be sent: "+err.Error())
				refused.Subject = reply.Subject
				_ = s.registry.nc.PublishMsg(refused)
			}
		}()
	}
}

func reply(ctx context.Context, data []byte, handle verb) *nats.Msg {
	var q request
	if err := json.Unmarshal(data, &q); err != nil {
		return refusal(codeInvalid, "the request is not JSON of a request's form")
	}
	if !isText(q.By) {
		return refusal(codeInvalid, "the name of who asks must be printable and not long")
	}
	if !q.Expires.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, q.Expires)
		defer cancel()
	}
	if ctx.Err() != nil {
		return refusal(codeLate, "the request came too late and was not carried out; if it was not, the clocks of operator and gate are apart")
	}
	result, err := handle(ctx, q)
	if err != nil {
		return refusal(codeOf(err), err.Error())
	}
	if data, err = json.Marshal(result); err != nil {
		return refusal(codeInternal, err.Error())
	}
	return &nats.Msg{Data: data}
}

func refusal(code, text string) *nats.Msg {
	return &nats.Msg{Header: nats.Header{micro.ErrorCodeHeader: {code}, micro.ErrorHeader: {text}}}
}

// Codes of errors on the wire, those of HTTP where one fits.
const (
	codeInvalid  = "400"
	codeBadID    = "422"
	codeKey      = "424"
	codeUnknown  = "404"
	codeLate     = "408"
	codeExists   = "409"
	codeConflict = "412"
	codeInternal = "500"
)

func codeOf(err error) string {
	switch {
	case errors.Is(err, ErrUnknown):
		return codeUnknown
	case errors.Is(err, ErrExists):
		return codeExists
	case errors.Is(err, ErrConflict):
		return codeConflict
	case errors.Is(err, ErrBadID):
		return codeBadID
	case errors.Is(err, ErrKey):
		return codeKey
	case errors.Is(err, ErrInvalid):
		return codeInvalid
	}
	return codeInternal
}
