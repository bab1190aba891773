//go:build linux && !race

package faults

// pace is how many readings a second each device sends.
const pace = 50.0

func raceFlags() []string { return nil }
