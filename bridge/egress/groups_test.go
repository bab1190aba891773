package egress

import (
	"fmt"
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/bridge/reading"
)

// TestThoseWhoHaveGivenUpAreLeftOut lets many wait for one group, of whom few
// have not given up, as in a long outage.
func TestThoseWhoHaveGivenUpAreLeftOut(t *testing.T) {
	const all, patient = 100_000, 10
	gs, err := newGroups(Options{}, func(token uint64) bool { return token%(all/patient) == 0 })
	if err != nil {
		t.Fatal(err)
	}
	key := groupKey{"p-1", "w-1", time.Unix(0, 0)}
	for token := range uint64(all) {
		if r, err := gs.join(key, candidate{reading.Identity{}, token}, time.Unix(0, 0)); r != nil || err != nil {
			t.Fatal(r, err)
		}
	}
	g := gs.byKey[key]
	if n := len(g.waiting); n > 3*patient+17 || len(gs.turns.lines["w-1"]) != 1 {
		t.Errorf("%d are held for %d who wait, %d look-ups are queued", n, patient, len(gs.turns.lines["w-1"]))
	}
	if !gs.wanted(g) || len(g.waiting) != patient {
		t.Errorf("%d wait, want %d", len(g.waiting), patient)
	}
}

// TestDevicesTakeTurns lets one device, whose captures are replayed, wait in a
// long line beside two others.
func TestDevicesTakeTurns(t *testing.T) {
	of := func(device string, minute int64) *group {
		return &group{key: groupKey{"p-1", device, time.Unix(60*minute, 0)}}
	}
	line := newTurns()
	for minute := range int64(lineLength) {
		if !line.push(of("w-1", minute)) {
			t.Fatalf("the line is full after %d", minute)
		}
	}
	if line.push(of("w-1", lineLength)) {
		t.Error("a line has no end")
	}
	for minute := range int64(2) {
		if !line.push(of("w-2", minute)) || !line.push(of("w-3", minute)) {
			t.Fatal("one device's line keeps another out")
		}
	}
	var got []string
	for range 7 {
		g := line.pop()
		got = append(got, fmt.Sprint(g.key.device, "/", g.key.minute.Unix()/60))
	}
	if want := "[w-1/0 w-2/0 w-3/0 w-1/1 w-2/1 w-3/1 w-1/2]"; fmt.Sprint(got) != want {
		t.Errorf("the turns are %v, want %s", got, want)
	}
	for left := lineLength - 3; left > 0; left-- {
		if line.pop() == nil {
			t.Fatalf("%d are lost", left)
		}
	}
	if line.pop() != nil || len(line.lines) != 0 || len(line.devices) != 0 {
		t.Error("something is left")
	}
}
