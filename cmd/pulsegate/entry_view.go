package main

import (
	"time"

	"github.com/pulsegate/pulsegate/bridge/registry"
)

// entryView is what devices and gateways have in common in JSON. It holds
// nothing that secrets are made of.
type entryView struct {
	Ward      string            `json:"ward,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
	State     registry.State    `json:"state"`
	Master    string            `json:"master"`
	Added     time.Time         `json:"added"`
	Changed   time.Time         `json:"changed"`
	ChangedBy string            `json:"changed_by,omitempty"`
	// Unchanged is true in the answer to a change that there was no need for.
	Unchanged bool `json:"unchanged,omitempty"`
}

type deviceView struct {
	DeviceID  string `json:"device_id"`
	PatientID string `json:"patient_id"`
	// Generation is the newest key's, Generations are those in force.
	Generation  uint32           `json:"generation"`
	Generations []generationView `json:"generations"`
	// PendingRotation is true until the device has used its newest key.
	PendingRotation bool `json:"pending_rotation,omitempty"`
	entryView
	Assignments []registry.Assignment `json:"assignments,omitempty"`
}

type generationView struct {
	Generation uint32 `json:"generation"`
	// Master names the master key that it is derived from, or sealed under.
	Master   string    `json:"master"`
	Imported bool      `json:"imported,omitempty"`
	From     time.Time `json:"from"`
	Until    time.Time `json:"until,omitzero"`
	// Used is when a rotated key was first used.
	Used time.Time `json:"used,omitzero"`
}

type gatewayView struct {
	GatewayID string   `json:"gateway_id"`
	Carries   []string `json:"carries"`
	Prefixes  []string `json:"prefixes"`
	entryView
}

// viewOf is an entry as it is listed at a time.
func viewOf(e registry.Entry, now time.Time, unchanged bool) any {
	common := entryView{e.Ward, e.Labels, e.State, e.Master, e.Added, e.Changed, e.ChangedBy, unchanged}
	if e.Kind == registry.KindGateway {
		return gatewayView{e.ID, notNil(e.Carries), notNil(e.Prefixes), common}
	}
	return deviceView{
		DeviceID: e.ID, PatientID: e.Patient(), Generation: e.Generation(), Generations: generationsOf(e, now),
		PendingRotation: e.Pending(now), entryView: common,
	}
}

// fullViewOf is viewOf with the history.
func fullViewOf(e registry.Entry, now time.Time) any {
	v := viewOf(e, now, false)
	if device, ok := v.(deviceView); ok {
		device.Assignments = e.Assignments
		return device
	}
	return v
}

func generationsOf(e registry.Entry, now time.Time) []generationView {
	views := []generationView{}
	for _, k := range e.Keys {
		if k.Until.IsZero() || now.Before(k.Until) {
			views = append(views, generationView{k.Generation, k.Master, k.Sealed != nil, k.From, k.Until, k.Used})
		}
	}
	return views
}

// notNil makes an empty list of none, so that JSON shows a list.
func notNil(list []string) []string { return append([]string{}, list...) }
