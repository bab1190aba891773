package registry_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/micro"

	"github.com/pulsegate/pulsegate/bridge/registry"
)

// verbs are what operators may ask for, in a fixed order.
var verbs = []string{"add", "assign", "rotate", "revoke", "restore", "carry", "remove", "show", "list", "credentials", "keys"}

// FuzzRequest asks a registry on a real NATS for anything, with an operator's
// credentials. Whatever it is, it is answered; what it changed is what it was
// told, and can be used.
func FuzzRequest(f *testing.F) {
	const sound = `{"kind":"device","id":"w-1","patient_id":"p-1","ward":"7","labels":{"a":"b"},"key":"a2V5","by":"ann"}`
	for i := range verbs {
		for _, request := range []string{
			sound, strings.Replace(sound, `"key"`, `"state":"revoked","overlap":1,"after":"w","k"`, 1),
			`{"kind":"gateway","id":"g-1","carries":["w-1"],"prefixes":["x-"]}`, `{"id":"g-1"}`,
			`{"id":"w-1","overlap":-9223372036854775808}`, `{"id":"w-1","expires":"2000-01-01T00:00:00Z"}`, `{"id":"w-1","by":"a\nb"}`,
			`{"kind":"device","id":"_"}`, `{"kind":"device","id":"a.b"}`, `{"kind":"device","id":">","patient_id":"*"}`, `{"kind":"master"}`, `{}`, `null`, `[`, ``,
		} {
			f.Add(byte(i), []byte(request))
		}
	}
	s := newSite(f)
	r := s.replica(f)
	service, err := registry.Serve(r, "1.2.3", func(registry.Change) {})
	must(f, err)
	f.Cleanup(func() { must(f, service.Stop()) })
	_, operator := s.operator(f)
	f.Fuzz(func(t *testing.T, verb byte, request []byte) {
		if int(verb) >= len(verbs) {
			t.Skip("there is no such verb")
		}
		asked := verbs[verb]
		m, err := operator.RequestWithContext(within(t), "gate.registry."+asked, request)
		must(t, err)
		code, text := m.Header.Get(micro.ErrorCodeHeader), m.Header.Get(micro.ErrorHeader)
		if code == "500" || (code == "") != (text == "") || code != "" && len(m.Data) > 0 {
			t.Fatalf("%s: code %q, %q, with %q", asked, code, text, m.Data)
		}
		if n := r.Disabled(); n > 0 {
			t.Fatalf("%s made %d entries that cannot be used", asked, n)
		}
		if code == "" {
			keepsItsWord(t, r, asked, m.Data)
		}
	})
}

// keepsItsWord compares the answer to a change with what is stored.
func keepsItsWord(t *testing.T, r *registry.Registry, verb string, answer []byte) {
	t.Helper()
	if !json.Valid(answer) {
		t.Fatalf("%s is answered by %q", verb, answer)
	}
	var result registry.Result
	switch verb {
	case "show", "list", "credentials", "keys":
		return
	}
	must(t, json.Unmarshal(answer, &result))
	if len(result.Behind) > 0 {
		t.Errorf("%s: %v are behind", verb, result.Behind)
	}
	stored, err := r.Show(within(t), result.Entry.Kind, result.Entry.ID)
	if verb == "remove" {
		wantError(t, err, registry.ErrUnknown)
		return
	}
	if err != nil || !reflect.DeepEqual(stored, result.Entry) {
		t.Errorf("%s is answered by %+v, and stored is %+v, %v", verb, result.Entry, stored, err)
	}
}
