package main

import (
	"context"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/pulsegate/pulsegate/bridge/registry"
)

// compare finds out which devices of the file are enrolled already, or returns
// what contradicts.
func (i *importing) compare(ctx context.Context) error {
	devices, err := i.client.List(ctx, registry.KindDevice)
	if err != nil {
		return err
	}
	gateways, err := i.client.List(ctx, registry.KindGateway)
	if err != nil {
		return err
	}
	known := make(map[string]registry.Entry, len(devices)+len(gateways))
	for _, e := range append(devices, gateways...) {
		known[e.ID] = e
	}
	i.enrolled = map[string]registry.Entry{}
	var wrong problems
	for _, row := range i.rows {
		e, ok := known[row.DeviceID]
		switch {
		case !ok:
		case e.Kind != registry.KindDevice:
			wrong.add(row.place, "the id %s belongs to a %s: choose another", row.DeviceID, e.Kind)
		case e.Patient() != row.PatientID:
			wrong.add(row.place, "%w", otherPatient(row, e.Patient()))
		default:
			i.enrolled[row.DeviceID] = e
		}
	}
	return i.compareKeys(wrong)
}

// compareKeys adds those rows whose key the enrolled device does not have.
func (i *importing) compareKeys(wrong problems) error {
	with := slices.DeleteFunc(slices.Clone(i.rows), func(row deviceRow) bool {
		_, ok := i.enrolled[row.DeviceID]
		return !ok || row.key == nil
	})
	different := make([]error, len(with))
	err := forAll(i.cmd, "comparing keys", len(with), func(ctx context.Context, n int) error {
		different[n] = i.sameKey(ctx, with[n])
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	for n, err := range different {
		if err != nil {
			wrong.add(with[n].place, "%w", err)
		}
	}
	return wrong.err()
}

// sameKey returns an error if the row has a key that the enrolled device does
// not have, in any generation that is kept.
func (i *importing) sameKey(ctx context.Context, row deviceRow) error {
	if row.key == nil {
		return nil
	}
	keys, err := i.client.Keys(ctx, row.DeviceID)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if secret, err := hex.DecodeString(k.Key); err == nil && subtle.ConstantTimeCompare(secret, row.key) == 1 {
			return nil
		}
	}
	return fmt.Errorf("device %s is enrolled with another key: correct the line, or remove the device first", row.DeviceID)
}

func otherPatient(row deviceRow, patient string) error {
	return fmt.Errorf("device %s is enrolled for patient %s, not %s: correct the line, or remove the device first", row.DeviceID, patient, row.PatientID)
}

func appendNew(list []string, one string) []string {
	if slices.Contains(list, one) {
		return list
	}
	return append(list, one)
}
