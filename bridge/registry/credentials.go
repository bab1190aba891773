package registry

import (
	"bufio"
	"bytes"
	"crypto/sha256"
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
	// Key is the HMAC-SHA256 signing key as 64 hexadecimal digits.
	Key string `json:"key"`
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
		if key, err := hex.DecodeString(c.Key); err != nil || len(key) != 0 && len(key) != sha256.Size {
			return nil, fmt.Errorf("line %d: key must be 64 hexadecimal digits", n)
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
