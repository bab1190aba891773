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

const (
	// subjects is where a gate serves the registry to operators, who have no
	// other way into the bucket: whoever may ask JetStream can have its answer
	// delivered to any subject of the account.
	subjects = "gate.registry"
	// changeDeadline bounds one change.
	changeDeadline = 10 * time.Second
	// page is how many entries one answer of list holds.
	page = 500
)

// request is what an operator asks.
type request struct {
	DeviceID  string `json:"device_id,omitempty"`
	PatientID string `json:"patient_id,omitempty"`
	After     string `json:"after,omitempty"`
}

// Change is what has been changed, for the audit.
type Change struct {
	Verb      string    `json:"verb"`
	DeviceID  string    `json:"device_id"`
	PatientID string    `json:"patient_id,omitempty"`
	Time      time.Time `json:"time"`
}

// Serve answers operators on NATS until the returned service is stopped; of
// several replicas one answers. audit is told of every change.
func Serve(nc *nats.Conn, r *Registry, version string, audit func(Change)) (micro.Service, error) {
	service, err := micro.AddService(nc, micro.Config{
		Name: "pulsegate-registry", Version: version, Description: "Pulsegate's registry of devices",
	})
	if err != nil {
		return nil, fmt.Errorf("serving the registry: %w", err)
	}
	s := &server{nc: nc, registry: r, audit: audit}
	group := service.AddGroup(subjects)
	for verb, handle := range map[string]func(context.Context, request) (any, error){
		"add": s.add, "remove": s.remove, "show": s.show, "list": s.list, "credentials": s.credentials,
	} {
		if err := group.AddEndpoint(verb, micro.HandlerFunc(s.answer(handle))); err != nil {
			return nil, errors.Join(fmt.Errorf("serving the registry: %w", err), service.Stop())
		}
	}
	return service, nil
}

type server struct {
	nc       *nats.Conn
	registry *Registry
	audit    func(Change)
}

func (s *server) answer(handle func(context.Context, request) (any, error)) func(micro.Request) {
	return func(m micro.Request) {
		// A change waits for the watch, so requests must not wait for each other.
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), changeDeadline)
			defer cancel()
			reply := s.reply(ctx, m.Data(), handle)
			reply.Subject = m.Reply()
			// The answer does not go through m, which belongs to the service again
			// once its handler has returned.
			_ = s.nc.PublishMsg(reply)
		}()
	}
}

func (s *server) reply(ctx context.Context, data []byte, handle func(context.Context, request) (any, error)) *nats.Msg {
	var q request
	if err := json.Unmarshal(data, &q); err != nil {
		return refusal(codeInvalid, "the request is not JSON")
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

func (s *server) add(ctx context.Context, q request) (any, error) {
	c, err := s.registry.Add(ctx, q.DeviceID, q.PatientID)
	if err == nil {
		s.audit(Change{Verb: "add", DeviceID: q.DeviceID, PatientID: q.PatientID, Time: s.registry.options.Now().UTC()})
	}
	return c, err
}

func (s *server) remove(ctx context.Context, q request) (any, error) {
	err := s.registry.Remove(ctx, q.DeviceID)
	if err == nil {
		s.audit(Change{Verb: "remove", DeviceID: q.DeviceID, Time: s.registry.options.Now().UTC()})
	}
	return struct{}{}, err
}

func (s *server) show(_ context.Context, q request) (any, error) { return s.registry.Show(q.DeviceID) }

func (s *server) list(_ context.Context, q request) (any, error) {
	return s.registry.List(q.After, page), nil
}

func (s *server) credentials(_ context.Context, q request) (any, error) {
	return s.registry.Credentials(q.DeviceID)
}

// Codes of errors on the wire, those of HTTP.
const (
	codeInvalid  = "400"
	codeUnknown  = "404"
	codeConflict = "409"
	codeInternal = "500"
)

func codeOf(err error) string {
	switch {
	case errors.Is(err, ErrUnknown):
		return codeUnknown
	case errors.Is(err, ErrExists):
		return codeConflict
	case errors.Is(err, ErrBadID):
		return codeInvalid
	}
	return codeInternal
}
