package demo

import (
	"cmp"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/pulsegate/pulsegate/bridge/reading"
)

// board holds the state of both sides: what triage would believe if it took
// every publish at its word, and what reaches it through the gate.
type board struct {
	now             func() time.Time
	mu              sync.Mutex
	without, within map[string]patient
	outcomes        map[string]int
	attacked        bool
}

// patient is what a side believes of one.
type patient struct {
	id              string
	spo2, heartRate float64
	// alarmed is when a reading last raised an alarm.
	alarmed time.Time
	// urgent is the urgency at the time of the view.
	urgent urgency
}

// alarmStays is how long an alarm stays on a board, though the next reading be
// normal: somebody is on his way by then.
const alarmStays = 10 * time.Second

// view is one side, the most urgent first.
type view struct {
	patients    []patient
	emergencies int
}

func newBoard(now func() time.Time) *board {
	return &board{now: now, without: map[string]patient{}, within: map[string]patient{}, outcomes: map[string]int{}}
}

// raw is the tap before verification.
func (b *board) raw(_ string, payload []byte) { b.note(b.without, payload) }

// verified takes what came through JetStream.
func (b *board) verified(payload []byte) { b.note(b.within, payload) }

func (b *board) note(side map[string]patient, payload []byte) {
	var p struct {
		PatientID string  `json:"patient_id"`
		SpO2      float64 `json:"spo2"`
		HeartRate float64 `json:"heart_rate"`
	}
	// Ids are checked because they go to a terminal, and bounded in number by
	// the patients that there can be.
	if json.Unmarshal(payload, &p) != nil || !reading.ValidID(p.PatientID) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	old, known := side[p.PatientID]
	if !known && len(side) >= maxPatients {
		return
	}
	one := patient{id: p.PatientID, spo2: p.SpO2, heartRate: p.HeartRate, alarmed: old.alarmed}
	if one.urgency() == emergency {
		one.alarmed = b.now()
	}
	side[p.PatientID] = one
}

// maxPatients is how many a side remembers.
const maxPatients = 10_000

func (b *board) refused(outcome string, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.outcomes[outcome] += n
}

func (b *board) underAttack() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.attacked = true
}

func (b *board) views() (without, within view, refused int, attacked bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range b.outcomes {
		refused += n
	}
	return rank(b.without, b.now()), rank(b.within, b.now()), refused, b.attacked
}

func rank(side map[string]patient, now time.Time) view {
	var v view
	for _, p := range side {
		p.urgent = p.urgency()
		if now.Sub(p.alarmed) < alarmStays {
			p.urgent = emergency
		}
		v.patients = append(v.patients, p)
		if p.urgent == emergency {
			v.emergencies++
		}
	}
	slices.SortFunc(v.patients, func(a, b patient) int {
		return cmp.Or(cmp.Compare(b.urgent, a.urgent), cmp.Compare(b.score(), a.score()), cmp.Compare(a.id, b.id))
	})
	return v
}

// urgency is how triage sorts.
type urgency uint8

const (
	calm urgency = iota
	watchful
	emergency
)

// urgency follows NEWS2: a single sub-score of 3 is urgent.
func (p patient) urgency() urgency {
	switch worst := max(scoreSpO2(p.spo2), scoreHeartRate(p.heartRate)); {
	case worst >= 3:
		return emergency
	case worst == 2:
		return watchful
	}
	return calm
}

// score is the sum of two of NEWS2's seven sub-scores: it orders patients, and
// is no NEWS2 score.
func (p patient) score() int { return scoreSpO2(p.spo2) + scoreHeartRate(p.heartRate) }

// scoreSpO2 is NEWS2's sub-score on SpO2 scale 1.
func scoreSpO2(percent float64) int {
	switch {
	case percent < 92:
		return 3
	case percent < 94:
		return 2
	case percent < 96:
		return 1
	}
	return 0
}

// scoreHeartRate is NEWS2's sub-score for the pulse.
func scoreHeartRate(perMinute float64) int {
	switch {
	case perMinute < 41 || perMinute >= 131:
		return 3
	case perMinute >= 111:
		return 2
	case perMinute < 51 || perMinute >= 91:
		return 1
	}
	return 0
}
