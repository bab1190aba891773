package fleet

import "time"

// source yields what a wearable measures. due is the time since the start of
// playing at which it does.
type source interface {
	next() (due time.Duration, spo2, heartRate float64, ok bool)
}

// endless is a patient measured once a period.
type endless struct {
	patient       *patient
	phase, period time.Duration
	count         int
}

func (e *endless) next() (due time.Duration, spo2, heartRate float64, ok bool) {
	due = e.phase + time.Duration(e.count)*e.period
	e.count++
	spo2, heartRate = e.patient.next(e.period)
	return due, spo2, heartRate, true
}

// burst is a patient measured a few times, quickly.
type burst struct {
	patient *patient
	period  time.Duration
	count   int
	length  int
}

func (b *burst) next() (due time.Duration, spo2, heartRate float64, ok bool) {
	if b.count == b.length {
		return 0, 0, 0, false
	}
	due = time.Duration(b.count) * b.period
	b.count++
	spo2, heartRate = b.patient.next(b.period)
	return due, spo2, heartRate, true
}

// replay plays a recording.
type replay struct {
	rows  []Row
	phase time.Duration
	speed float64
}

func (r *replay) next() (due time.Duration, spo2, heartRate float64, ok bool) {
	if len(r.rows) == 0 {
		return 0, 0, 0, false
	}
	row := r.rows[0]
	r.rows = r.rows[1:]
	due = r.phase + time.Duration(float64(row.At)/r.speed)
	return due, row.SpO2, row.HeartRate, true
}
