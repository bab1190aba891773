package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"

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
	// unchecked says what cannot be compared for lack of knowledge, or "".
	unchecked string
	find      func(id string) (enrolled, error)
	close     func()
	err       error
	// found is the topic's device, others are further keys to try.
	found  []diagnose.Key
	others []diagnose.Key
}

// enrolled is a device as its source knows it. Generation 0 is an unknown one.
type enrolled struct {
	registry.Credentials
	generation uint32
}

// openDevices makes the source that the flags name.
func openDevices(cmd *cobra.Command, payload []byte) (*devices, error) {
	source, err := onlyOne(cmd, "device", "key", "key-file", "credentials")
	if err != nil {
		return nil, err
	}
	if cmd.Flags().Changed("patient") && source != "key" && source != "key-file" {
		return nil, errors.New("--patient goes with --key or --key-file; otherwise the device's patient is known")
	}
	d := &devices{close: func() {}}
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
		return enrolled{Credentials: registry.Credentials{DeviceID: id, PatientID: patient, Key: hex.EncodeToString(key)}}, nil
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
		byID[c.DeviceID] = enrolled{Credentials: c}
		key, err := parseKey(c.Key, "the key of "+c.DeviceID)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
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
	d.find = func(id string) (enrolled, error) { return askDevice(cmd.Context(), nc, id) }
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
	key, err := parseKey(e.Key, "the key of "+id)
	d.others = []diagnose.Key{{Name: "the key of " + id, Secret: key}}
	return err
}

func askDevice(ctx context.Context, nc *nats.Conn, id string) (enrolled, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	client := registry.NewClient(nc)
	credentials, err := client.Credentials(ctx, id)
	if err != nil {
		return enrolled{}, err
	}
	entry, err := client.Show(ctx, id)
	return enrolled{credentials, entry.Generation}, err
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
	key, err := parseKey(e.Key, "the key of "+id)
	if err != nil {
		d.err = err
		return nil, false
	}
	d.found = []diagnose.Key{{Name: "the device's key", InForce: true, Secret: key, Password: e.Password}}
	return &verify.Device{ID: e.DeviceID, Patient: e.PatientID, Keys: []verify.Key{{Generation: e.generation, Secret: key}}}, true
}

// candidates are the keys that may have signed, the right ones first.
func (d *devices) candidates() []diagnose.Key { return append(d.found, d.others...) }
