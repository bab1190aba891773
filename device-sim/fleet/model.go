package fleet

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// Condition is what a simulated patient is doing.
type Condition uint8

// The conditions of a patient. A deteriorating one stays so.
const (
	Rest Condition = iota
	Activity
	Sleep
	Deterioration
)

var conditions = [...]string{"rest", "activity", "sleep", "deterioration"}

func (c Condition) String() string {
	if int(c) < len(conditions) {
		return conditions[c]
	}
	return fmt.Sprintf("condition(%d)", uint8(c))
}

// aims are the values that a condition draws a patient to, and how quickly.
type aims struct {
	spo2, heartRate float64
	// settle is the time after which about two thirds of the way are done.
	settle time.Duration
	// shortest and longest bound how long the condition lasts.
	shortest, longest time.Duration
}

// towards are the aims of each condition. Those of deterioration are a single 3
// in NEWS2 both for SpO2 (at most 91 %) and for the pulse (at least 131).
var towards = [...]aims{
	Rest:          {97, 72, 20 * time.Second, time.Minute, 5 * time.Minute},
	Activity:      {96, 105, 30 * time.Second, 30 * time.Second, 2 * time.Minute},
	Sleep:         {95.5, 58, time.Minute, 2 * time.Minute, 10 * time.Minute},
	Deterioration: {84, 138, 15 * time.Second, 0, 0},
}

// The moments between which a patient that is to deteriorate begins to.
const (
	earliestOnset = 5 * time.Second
	latestOnset   = 30 * time.Second
)

// patient is a seeded physiological model: values are drawn smoothly to what the
// condition aims at, with a wandering deviation and a sensor's noise.
type patient struct {
	random    *rand.Rand
	condition Condition
	// left is what remains of the condition, untilOnset what remains before
	// deterioration in a doomed patient.
	left, untilOnset time.Duration
	doomed           bool
	spo2, heartRate  float64
	wander           float64
	// offset makes patients differ from each other, in beats per minute.
	offset float64
}

func newPatient(seed, index uint64) *patient {
	p := &patient{random: rand.New(rand.NewPCG(seed, index))}
	p.offset = p.random.NormFloat64() * 6
	p.untilOnset = earliestOnset + time.Duration(p.random.Int64N(int64(latestOnset-earliestOnset)))
	p.enter(Condition(p.random.IntN(int(Deterioration))))
	p.spo2 = towards[p.condition].spo2
	p.heartRate = towards[p.condition].heartRate + p.offset
	return p
}

func (p *patient) enter(c Condition) {
	p.condition = c
	if spread := towards[c].longest - towards[c].shortest; spread > 0 {
		p.left = towards[c].shortest + time.Duration(p.random.Int64N(int64(spread)))
	}
}

// next lets the time go on by step and returns what the sensor shows then, as
// whole percent and whole beats per minute.
func (p *patient) next(step time.Duration) (spo2, heartRate float64) {
	p.proceed(step)
	aim := towards[p.condition]
	part := 1 - math.Exp(-step.Seconds()/aim.settle.Seconds())
	p.wander += part * (p.random.NormFloat64()*3 - p.wander)
	p.spo2 += part * (aim.spo2 - p.spo2)
	p.heartRate += part * (aim.heartRate + p.offset + p.wander - p.heartRate)
	spo2 = p.spo2 + p.random.NormFloat64()*0.4
	heartRate = p.heartRate + p.random.NormFloat64()
	return clamp(spo2, 50, 100), clamp(heartRate, 30, 220)
}

func (p *patient) proceed(step time.Duration) {
	if p.condition == Deterioration {
		return
	}
	p.untilOnset -= step
	if p.doomed && p.untilOnset < 0 {
		p.enter(Deterioration)
		return
	}
	p.left -= step
	if p.left <= 0 {
		// Sleep and activity are left for rest, and rest for one of them.
		next := Rest
		if p.condition == Rest {
			next = Activity + Condition(p.random.IntN(2))
		}
		p.enter(next)
	}
}

func clamp(value, low, high float64) float64 {
	return math.Round(min(max(value, low), high))
}
