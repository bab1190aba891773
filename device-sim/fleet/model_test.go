package fleet

import (
	"math"
	"testing"
	"time"
)

func TestPatientsStayWithinLifeAndMoveSmoothly(t *testing.T) {
	seen := make(map[Condition]bool)
	for index := range uint64(20) {
		p := newPatient(1, index)
		lastSpO2, lastHeartRate := p.next(time.Second)
		for range 3600 {
			spo2, heartRate := p.next(time.Second)
			seen[p.condition] = true
			if spo2 < 85 || spo2 > 100 || heartRate < 30 || heartRate > 150 {
				t.Fatalf("patient %d in %v: SpO2 %g, heart rate %g", index, p.condition, spo2, heartRate)
			}
			if math.Abs(spo2-lastSpO2) > 4 || math.Abs(heartRate-lastHeartRate) > 10 {
				t.Fatalf("patient %d jumps in %v", index, p.condition)
			}
			lastSpO2, lastHeartRate = spo2, heartRate
		}
	}
	if !seen[Rest] || !seen[Activity] || !seen[Sleep] || seen[Deterioration] {
		t.Errorf("in an hour the patients were seen in %v", seen)
	}
}

func TestDoomedPatientsBecomeUrgent(t *testing.T) {
	for index := range uint64(20) {
		p := newPatient(1, index)
		p.doomed = true
		var spo2, heartRate float64
		for range int((latestOnset + 2*time.Minute) / time.Second) {
			spo2, heartRate = p.next(time.Second)
		}
		if p.condition != Deterioration || spo2 > 91 || heartRate < 111 {
			t.Errorf("patient %d in %v: SpO2 %g, heart rate %g", index, p.condition, spo2, heartRate)
		}
	}
}

func TestChooseIsTheShare(t *testing.T) {
	for _, c := range []struct {
		n     int
		share float64
		want  int
	}{{10, 0, 0}, {10, 0.01, 1}, {50, 0.1, 5}, {100, 0.07, 7}, {3, 1, 3}} {
		if got := choose(c.n, c.share, 9); len(got) != c.want {
			t.Errorf("%g of %d are %d, want %d", c.share, c.n, len(got), c.want)
		}
	}
}
