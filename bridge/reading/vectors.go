package reading

import (
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

//go:embed vectors.json
var vectorsJSON string

// VectorsVersion is the version of the format of the test vectors.
const VectorsVersion = 1

// Vector is one message with everything that its outcome depends on. The
// format is described in docs/signed-reading.md.
type Vector struct {
	// Name is unique and made of lower-case letters, digits and underscores.
	Name string
	// Description says in words what the vector shows.
	Description string
	// Payload and Topic are the message as it came.
	Payload []byte
	Topic   string
	// Connected is the device that the connection authenticated as; empty where
	// there is no connection to compare with.
	Connected string
	// Now is the verifier's time.
	Now time.Time
	// TopicPattern, MaxAge, MaxFuture and Late are the verifier's configuration.
	TopicPattern      string
	MaxAge, MaxFuture time.Duration
	Late              string
	// Devices are all that are registered.
	Devices []VectorDevice
	// Stored are the readings that were stored before and are remembered.
	Stored []Identity
	// Outcome is the one that a verifier must come to.
	Outcome string
	// Reading and Generation are what an accepted message says and which
	// generation of the device's keys signed it; nil and 0 for the others.
	Reading    *Reading
	Generation uint32
}

// VectorDevice is a registered device of a vector.
type VectorDevice struct {
	ID, Patient string
	Revoked     bool
	// Keys are those in force, the newest first.
	Keys []VectorKey
}

// VectorKey is a signing key of a device of a vector.
type VectorKey struct {
	Generation uint32
	Secret     []byte
}

// VectorsJSON returns the file of test vectors as it is, for implementations in
// other languages.
func VectorsJSON() string { return vectorsJSON }

// Vectors returns the test vectors, each with the file's defaults filled in.
func Vectors() ([]Vector, error) {
	var file vectorFile
	if err := strictly(vectorsJSON, &file); err != nil {
		return nil, fmt.Errorf("vectors: %w", err)
	}
	if file.Version != VectorsVersion {
		return nil, fmt.Errorf("vectors: version %d; this program reads version %d", file.Version, VectorsVersion)
	}
	all := make([]Vector, len(file.Vectors))
	for i, f := range file.Vectors {
		v, err := f.vector(file.Defaults)
		if err != nil {
			return nil, fmt.Errorf("vector %s: %w", f.Name, err)
		}
		all[i] = v
	}
	return all, nil
}

// vectorFile is the form of vectors.json.
type vectorFile struct {
	Format      string        `json:"format"`
	Version     int           `json:"version"`
	Description string        `json:"description"`
	Defaults    circumstances `json:"defaults"`
	Vectors     []vectorEntry `json:"vectors"`
}

// circumstances are what a vector may state for itself or leave to the
// defaults. Pointers tell the two apart.
type circumstances struct {
	Topic        *string         `json:"topic,omitempty"`
	Connected    *string         `json:"connected,omitempty"`
	Now          *time.Time      `json:"now,omitempty"`
	TopicPattern *string         `json:"topic_pattern,omitempty"`
	MaxAge       *float64        `json:"max_age_s,omitempty"`
	MaxFuture    *float64        `json:"max_future_s,omitempty"`
	Late         *string         `json:"late,omitempty"`
	Devices      *[]vectorDevice `json:"devices,omitempty"`
	Stored       *[]string       `json:"stored,omitempty"`
}

type vectorDevice struct {
	DeviceID  string      `json:"device_id"`
	PatientID string      `json:"patient_id"`
	Revoked   bool        `json:"revoked"`
	Keys      []vectorKey `json:"keys"`
}

type vectorKey struct {
	Generation uint32 `json:"generation"`
	Key        string `json:"key"`
}

type vectorEntry struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	circumstances
	Payload       *string        `json:"payload,omitempty"`
	PayloadBase64 []byte         `json:"payload_base64,omitempty"`
	Outcome       string         `json:"outcome"`
	Generation    uint32         `json:"generation,omitempty"`
	Reading       *vectorReading `json:"reading,omitempty"`
}

type vectorReading struct {
	DeviceID  string  `json:"device_id"`
	PatientID string  `json:"patient_id"`
	Timestamp int64   `json:"timestamp_us"`
	Seq       *uint64 `json:"seq,omitempty"`
	SpO2      float64 `json:"spo2"`
	HeartRate float64 `json:"heart_rate"`
}

func (f vectorEntry) vector(d circumstances) (Vector, error) {
	v := Vector{
		Name: f.Name, Description: f.Description, Outcome: f.Outcome, Generation: f.Generation,
		Payload: f.PayloadBase64,
		Topic:   pick(f.Topic, d.Topic), Connected: pick(f.Connected, d.Connected), Now: pick(f.Now, d.Now),
		TopicPattern: pick(f.TopicPattern, d.TopicPattern), Late: pick(f.Late, d.Late),
		MaxAge: seconds(pick(f.MaxAge, d.MaxAge)), MaxFuture: seconds(pick(f.MaxFuture, d.MaxFuture)),
	}
	if f.Payload != nil {
		v.Payload = []byte(*f.Payload)
	}
	if r := f.Reading; r != nil {
		v.Reading = r.reading()
	}
	for _, digits := range pick(f.Stored, d.Stored) {
		var id Identity
		if n, err := hex.Decode(id[:], []byte(digits)); err != nil || n != len(id) {
			return v, fmt.Errorf("stored: not 64 hex digits")
		}
		v.Stored = append(v.Stored, id)
	}
	for _, device := range pick(f.Devices, d.Devices) {
		registered, err := device.device()
		if err != nil {
			return v, err
		}
		v.Devices = append(v.Devices, registered)
	}
	return v, nil
}

func (d vectorDevice) device() (VectorDevice, error) {
	v := VectorDevice{ID: d.DeviceID, Patient: d.PatientID, Revoked: d.Revoked}
	for _, k := range d.Keys {
		secret, err := hex.DecodeString(k.Key)
		if err != nil {
			return v, fmt.Errorf("device %s: a key is not hexadecimal", d.DeviceID)
		}
		v.Keys = append(v.Keys, VectorKey{Generation: k.Generation, Secret: secret})
	}
	return v, nil
}

func (r vectorReading) reading() *Reading {
	v := &Reading{
		DeviceID: r.DeviceID, PatientID: r.PatientID, Timestamp: time.UnixMicro(r.Timestamp).UTC(),
		SpO2: r.SpO2, HeartRate: r.HeartRate, HasSeq: r.Seq != nil,
	}
	if r.Seq != nil {
		v.Seq = *r.Seq
	}
	return v
}

func pick[T any](own, otherwise *T) (value T) {
	switch {
	case own != nil:
		return *own
	case otherwise != nil:
		return *otherwise
	}
	return value
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func strictly(text string, into any) error {
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	return d.Decode(into)
}
