package registry

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Credentials are what a wearable, or a simulator of one, needs to know. One
// such object a line is what `pulsegate device add --json` prints.
type Credentials struct {
	DeviceID  string `json:"device_id"`
	PatientID string `json:"patient_id"`
	// Topic is the MQTT topic that the device publishes on.
	Topic string `json:"topic"`
	// Username and Password are for MQTT CONNECT.
	Username string `json:"username"`
	Password string `json:"password"`
	// Key is the HMAC-SHA256 signing key in hexadecimal: 64 digits, or 32 to 256
	// for an imported one.
	Key string `json:"key"`
}

// Credentials returns what a device or gateway needs to know, secrets included;
// a gateway has no topic, patient and key of its own. This replica must have
// applied the entry.
func (r *Registry) Credentials(id string) (Credentials, error) {
	m := r.find(id)
	if m == nil {
		return Credentials{}, fmt.Errorf("device %q: %w", id, ErrUnknown)
	}
	return r.credentials(m)
}

// credentialsNow is Credentials of the entry as the bucket has it now.
func (r *Registry) credentialsNow(ctx context.Context, id string) (Credentials, error) {
	stored, err := r.get(ctx, KindDevice, id)
	if err != nil {
		return Credentials{}, err
	}
	e, err := parseEntry(id, stored.Value())
	if err != nil {
		return Credentials{}, damaged(KindDevice, id, err)
	}
	return r.credentialsOf(e)
}

// credentialsOf does not need the entry to be applied.
func (r *Registry) credentialsOf(e Entry) (Credentials, error) {
	e = e.clone()
	m, err := r.memberOf(&e)
	if err != nil {
		return Credentials{}, fmt.Errorf("%s %s: %w", e.Kind, e.ID, err)
	}
	return r.credentials(m)
}

func (r *Registry) credentials(m *member) (Credentials, error) {
	c := Credentials{DeviceID: m.id, Username: m.id, Password: r.password(m, m.master)}
	if m.gateway {
		return c, nil
	}
	key, err := r.secret(m, m.keys()[0])
	if err != nil {
		return Credentials{}, fmt.Errorf("%s %s: %w", m.kind(), m.id, err)
	}
	c.PatientID, c.Topic, c.Key = m.patient, r.options.Topic(m.id), hex.EncodeToString(key)
	return c, nil
}

// ReadCredentials reads lines of JSON objects, leaving out empty ones. An error
// names the line and what is wrong, never a secret.
func ReadCredentials(r io.Reader) ([]Credentials, error) {
	var all []Credentials
	lines := bufio.NewScanner(r)
	n := 0
	for lines.Scan() {
		n++
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		var c Credentials
		if err := json.Unmarshal(line, &c); err != nil {
			return nil, fmt.Errorf("line %d: not a JSON object as `pulsegate device add --json` prints it", n)
		}
		if c.DeviceID == "" || c.PatientID == "" || c.Topic == "" || c.Username == "" {
			return nil, fmt.Errorf("line %d: device_id, patient_id, topic and username must all be there", n)
		}
		if key, err := hex.DecodeString(c.Key); err != nil || len(key) != 0 && (len(key) < minKey || len(key) > maxKey) {
			return nil, fmt.Errorf("line %d: key must be 64 hexadecimal digits, or %d to %d for an imported key", n, 2*minKey, 2*maxKey)
		}
		all = append(all, c)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("line %d: reading credentials: %w", n+1, err)
	}
	if len(all) == 0 {
		return nil, errors.New("no credentials: expected lines as `pulsegate device add --json` prints them")
	}
	return all, nil
}
