package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/pulsegate/pulsegate/bridge/reading"
	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/bridge/verify"
	"github.com/pulsegate/pulsegate/cmd/pulsegate/diagnose"
)

// devices is where verify takes devices from. It implements verify.Directory;
// since that has no room for an error, the error is kept.
type devices struct {
	topic string
	// at is when is judged.
	at time.Time
	// unchecked says what cannot be compared for lack of knowledge, or "".
	unchecked string
	find      func(id string) (enrolled, error)
	close     func()
	err       error
	// found is the topic's device, others are further keys to try.
	found  []diagnose.Key
	others []diagnose.Key
}

// enrolled is a device as its source knows it: with all keys that are kept, the
// newest first. Generation 0 is an unknown one.
type enrolled struct {
	registry.Credentials
	since   time.Time
	former  []verify.Assignment
	revoked bool
	keys    []verify.Key
}

// openDevices makes the source that the flags name.
func openDevices(cmd *cobra.Command, payload []byte, at time.Time) (*devices, error) {
	source, err := onlyOne(cmd, "device", "key", "key-file", "credentials")
	if err != nil {
		return nil, err
	}
	if cmd.Flags().Changed("patient") && source != "key" && source != "key-file" {
		return nil, errors.New("--patient goes with --key or --key-file; otherwise the device's patient is known")
	}
	d := &devices{at: at, close: func() {}}
	d.topic, _ = cmd.Flags().GetString("topic")
	switch source {
	case "key", "key-file":
		err = d.fromKey(cmd, source, payload)
	case "credentials":
		err = d.fromFile(cmd)
	default:
		err = d.fromService(cmd)
	}
	if err == nil && d.topic == "" {
		err = fmt.Errorf("no topic: give --topic, such as --topic wearables/w-0001/vitals; see `%s --help`", cmd.CommandPath())
	}
	if err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *devices) fromKey(cmd *cobra.Command, source string, payload []byte) error {
	key, err := givenKey(cmd, source)
	if err != nil {
		return err
	}
	patient, _ := cmd.Flags().GetString("patient")
	if patient == "" {
		d.unchecked = "whether the device is assigned to that patient (say whose it is with --patient)"
		// What does not parse is refused before patients are compared.
		if r, err := reading.Parse(payload); err == nil {
			patient = r.PatientID
		}
	}
	d.find = func(id string) (enrolled, error) {
		return enrolled{Credentials: registry.Credentials{DeviceID: id, PatientID: patient}, keys: []verify.Key{{Secret: key}}}, nil
	}
	return nil
}

func (d *devices) fromFile(cmd *cobra.Command) error {
	name, _ := cmd.Flags().GetString("credentials")
	file, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("--credentials: %w", err)
	}
	defer file.Close()
	all, err := registry.ReadCredentials(file)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if d.topic == "" && len(all) == 1 {
		d.topic = all[0].Topic
	}
	byID := make(map[string]enrolled, len(all))
	for _, c := range all {
		key, err := parseKey(c.Key, "the key of "+c.DeviceID)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		byID[c.DeviceID] = enrolled{Credentials: c, keys: []verify.Key{{Secret: key}}}
		d.others = append(d.others, diagnose.Key{Name: "the key of " + c.DeviceID, Secret: key})
	}
	d.find = func(id string) (enrolled, error) {
		if e, ok := byID[id]; ok {
			return e, nil
		}
		return enrolled{}, registry.ErrUnknown
	}
	return nil
}

func (d *devices) fromService(cmd *cobra.Command) error {
	nc, err := connect(cmd, operator)
	if err != nil {
		return err
	}
	d.close = nc.Close
	d.find = func(id string) (enrolled, error) {
		e, err := askDevice(cmd.Context(), nc, id)
		return e, forbidden(cmd, err)
	}
	id, _ := cmd.Flags().GetString("device")
	if id == "" {
		return nil
	}
	e, err := d.find(id)
	if err != nil {
		return err
	}
	if d.topic == "" {
		d.topic = e.Topic
	}
	for _, k := range e.keys {
		d.others = append(d.others, diagnose.Key{Name: fmt.Sprintf("generation %d of the key of %s", k.Generation, id), Secret: k.Secret})
	}
	return nil
}

func askDevice(ctx context.Context, nc *nats.Conn, id string) (enrolled, error) {
	client := registry.NewClient(nc, whoami())
	entry, err := client.Show(ctx, registry.KindDevice, id)
	if err != nil {
		return enrolled{}, err
	}
	e := enrolled{revoked: entry.State == registry.Revoked}
	e.since, e.former = entry.History()
	if e.Credentials, err = client.Credentials(ctx, id); err != nil {
		return e, err
	}
	keys, err := client.Keys(ctx, id)
	if err != nil {
		return e, err
	}
	for _, k := range keys {
		secret, err := parseKey(k.Key, "the key of "+id)
		if err != nil {
			return e, err
		}
		e.keys = append(e.keys, verify.Key{Generation: k.Generation, Secret: secret, Until: k.Until})
	}
	if len(e.keys) == 0 {
		return e, unusable(id)
	}
	return e, nil
}

// Device implements verify.Directory.
func (d *devices) Device(id string) (*verify.Device, bool) {
	e, err := d.find(id)
	if err != nil {
		if !errors.Is(err, registry.ErrUnknown) {
			d.err = err
		}
		return nil, false
	}
	d.found = nil
	for _, k := range e.keys {
		d.found = append(d.found, d.candidate(k, e.Password))
	}
	return &verify.Device{ID: e.DeviceID, Patient: e.PatientID, Since: e.since, Former: e.former, Revoked: e.revoked, Keys: e.keys}, true
}

// candidate is one of the topic's device's keys; one that has ended is a slip.
func (d *devices) candidate(k verify.Key, password string) diagnose.Key {
	if k.Until.IsZero() || d.at.Before(k.Until) {
		return diagnose.Key{Name: "the device's key", InForce: true, Secret: k.Secret, Password: password}
	}
	return diagnose.Key{Name: fmt.Sprintf("generation %d of the device's key, which ended at %s", k.Generation, k.Until.Format(time.RFC3339)), Secret: k.Secret}
}

// candidates are the keys that may have signed, the right ones first.
func (d *devices) candidates() []diagnose.Key { return append(d.found, d.others...) }
