// Package faults holds tests only: it breaks running gates, NATS servers,
// networks and disks under load, and settles afterwards what devices sent
// against what is stored. Whatever breaks, nothing that was acknowledged is
// lost, nothing is stored twice, and nothing is stored that no device signed.
//
// The programs are real processes, built by the test. Devices are those of
// device-sim/fleet. A fault's moment is that of an acknowledgement, drawn by a
// seeded generator; the seed is in each test's log, and -faults.seed repeats it.
//
//	go test ./bridge/faults                                 the short set
//	go test ./bridge/faults -faults=long -timeout=40m -v    the full counts
//
// Each scenario logs a line "fault=NAME runs=N sent=... acknowledged=...
// stored=... late=... lost=... twice=... forged=...". The tests need Linux.
package faults
