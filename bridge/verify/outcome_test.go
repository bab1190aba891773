package verify_test

import (
	"slices"
	"testing"

	"github.com/pulsegate/pulsegate/bridge/verify"
)

func TestOutcomesAreTheClosedSet(t *testing.T) {
	want := []string{
		"accepted", "malformed", "unknown_device", "revoked_device", "bad_signature", "invalid_reading", "wrong_device",
		"wrong_patient", "late", "stale", "future", "duplicate", "will", "retained", "rate_limited",
	}
	var spelled []string
	for _, o := range verify.Outcomes() {
		spelled = append(spelled, o.String())
	}
	if !slices.Equal(spelled, want) {
		t.Errorf("outcomes are %q, want %q", spelled, want)
	}
	if verify.RateLimited.String() != "rate_limited" || verify.Duplicate.String() != "duplicate" {
		t.Error("the spellings have shifted against the constants")
	}
	if s := verify.Outcome(200).String(); s != "outcome(200)" {
		t.Errorf("an outcome outside the set is %q", s)
	}
}
