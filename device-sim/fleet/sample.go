package fleet

import (
	"strconv"
	"time"
)

// Sample is what a wearable says in one reading.
type Sample struct {
	// Device and Patient must be ids (reading.ValidID): they are not escaped.
	Device, Patient string
	Timestamp       time.Time
	Seq             uint64
	// SpO2 is in percent, HeartRate in beats per minute.
	SpO2, HeartRate float64
}

// Text returns the sample as the text to be signed: one flat JSON object, the
// timestamp in seconds since 1970 with three decimals.
func (s Sample) Text() []byte {
	b := make([]byte, 0, 256)
	b = append(b, `{"device_id":"`...)
	b = append(b, s.Device...)
	b = append(b, `","patient_id":"`...)
	b = append(b, s.Patient...)
	b = append(b, `","timestamp":`...)
	b = appendSeconds(b, s.Timestamp)
	b = append(b, `,"seq":`...)
	b = strconv.AppendUint(b, s.Seq, 10)
	b = append(b, `,"spo2":`...)
	b = strconv.AppendFloat(b, s.SpO2, 'f', -1, 64)
	b = append(b, `,"heart_rate":`...)
	b = strconv.AppendFloat(b, s.HeartRate, 'f', -1, 64)
	return append(b, '}')
}

func appendSeconds(b []byte, t time.Time) []byte {
	milliseconds := t.UnixMilli()
	b = strconv.AppendInt(b, milliseconds/1000, 10)
	b = append(b, '.')
	rest := milliseconds % 1000
	return append(b, byte('0'+rest/100), byte('0'+rest/10%10), byte('0'+rest%10))
}
