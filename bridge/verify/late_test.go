package verify_test

import (
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/bridge/reading"
	"github.com/pulsegate/pulsegate/bridge/verify"
)

const maxLate = 72 * time.Hour

func keeping(t testing.TB, now func() time.Time, d verify.Directory) *verify.Verifier {
	t.Helper()
	v, err := verify.New(verify.Config{
		Topic: "wearables/{device_id}/vitals", MaxAge: maxAge, MaxFuture: maxFuture, Late: verify.LateKeep, MaxLate: maxLate,
	}, d, verify.Trusted(now))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// rotatedAndAssigned has had three keys and three patients: the second of each
// from two hours ago until one hour ago.
func rotatedAndAssigned() *verify.Device {
	ago := func(hours int) time.Time { return judgedAt.Add(-time.Duration(hours) * time.Hour) }
	return &verify.Device{
		ID: "w-1", Patient: "p-3", Since: ago(1),
		Former: []verify.Assignment{{Patient: "p-2", From: ago(2), Until: ago(1)}, {Patient: "p-1", Until: ago(2)}},
		Keys: []verify.Key{
			{Generation: 3, Secret: []byte("the third key, which is in force")},
			{Generation: 2, Secret: otherKey, Until: ago(1)},
			{Generation: 1, Secret: trueKey, Until: ago(2)},
		},
	}
}

// TestLate judges what is not current: by whom the device was worn, and by which
// key it signed, when the reading was measured.
func TestLate(t *testing.T) {
	d := rotatedAndAssigned()
	third, second, first := d.Keys[0].Secret, d.Keys[1].Secret, d.Keys[2].Secret
	const minute = time.Minute
	for name, c := range map[string]struct {
		age     time.Duration
		patient string
		key     []byte
		want    verify.Outcome
	}{
		"current":                                      {0, "p-3", third, verify.Accepted},
		"current, as old as may be":                    {maxAge, "p-3", third, verify.Accepted},
		"a little older":                               {maxAge + time.Microsecond, "p-3", third, verify.Late},
		"since the assignment began":                   {60 * minute, "p-3", third, verify.Late},
		"before the assignment began":                  {60*minute + 1e3, "p-3", third, verify.WrongPatient},
		"the former patient's last":                    {60*minute + 1e3, "p-2", third, verify.Late},
		"the former patient's first":                   {120 * minute, "p-2", third, verify.Late},
		"the former patient, after him":                {60 * minute, "p-2", third, verify.WrongPatient},
		"the former patient, now":                      {0, "p-2", third, verify.WrongPatient},
		"the former patient, before him":               {120*minute + 1e3, "p-2", third, verify.WrongPatient},
		"the first patient":                            {120*minute + 1e3, "p-1", first, verify.Late},
		"the first patient, after him":                 {120 * minute, "p-1", second, verify.WrongPatient},
		"nobody's patient":                             {90 * minute, "p-4", second, verify.WrongPatient},
		"the former key's last":                        {60*minute + 1e3, "p-2", second, verify.Late},
		"the former key, after it":                     {60 * minute, "p-3", second, verify.BadSignature},
		"the former key, now":                          {0, "p-3", second, verify.BadSignature},
		"the former key, of the future":                {-maxFuture, "p-3", second, verify.BadSignature},
		"the former key, before it":                    {121 * minute, "p-1", second, verify.Late}, // signed later than measured
		"the first key's last":                         {120*minute + 1e3, "p-1", first, verify.Late},
		"the first key, after it":                      {120 * minute, "p-2", first, verify.BadSignature},
		"as late as may be":                            {maxLate, "p-1", first, verify.Late},
		"later than that":                              {maxLate + time.Microsecond, "p-1", first, verify.Stale},
		"later than that, of the patient of now":       {maxLate + time.Microsecond, "p-3", first, verify.Stale},
		"later than that, of nobody":                   {maxLate + time.Microsecond, "p-4", first, verify.WrongPatient},
		"of the future":                                {-maxFuture - time.Microsecond, "p-3", third, verify.Future},
		"another's key":                                {90 * minute, "p-2", []byte("a key that nobody ever had at all"), verify.BadSignature},
		"the former key, and no reading":               {90 * minute, "", second, verify.BadSignature},
		"the key in force, and no reading":             {90 * minute, "", third, verify.InvalidReading},
		"the former key, of the former patient, now":   {0, "p-2", second, verify.BadSignature},
		"the former key, right patient, just measured": {0, "p-3", first, verify.BadSignature},
	} {
		m := sound()
		m.enrolled, m.patient, m.key, m.measured = *d, c.patient, c.key, judgedAt.Add(-c.age)
		s := keeping(t, func() time.Time { return judgedAt }, m.directory()).Session("w-1")
		v := s.Check(m.topic, m.payload(t))
		if v.Outcome != c.want || (v.Reason == "") != (c.want == verify.Accepted) {
			t.Errorf("%s: %v (%s), want %v", name, v.Outcome, v.Reason, c.want)
		}
		if told := c.want != verify.BadSignature; v.Authentic != told {
			t.Errorf("%s: authentic is %v", name, v.Authentic)
		}
		if again := s.Recheck(v); (v.Outcome == verify.Accepted || v.Outcome == verify.Late) && again.Outcome != v.Outcome {
			t.Errorf("%s: asked again it is %v (%s)", name, again.Outcome, again.Reason)
		}
	}
}

// TestMeasuredJustBeforeAChange is about readings that are fresh, but not of the
// patient or key of now.
func TestMeasuredJustBeforeAChange(t *testing.T) {
	const before, after = 3 * time.Second, time.Second
	change := judgedAt.Add(-2 * time.Second)
	assigned := enrolled(verify.Key{Generation: 1, Secret: trueKey})
	assigned.Patient, assigned.Since, assigned.Former = "p-2", change, []verify.Assignment{{Patient: "p-1", Until: change}}
	rotated := enrolled(verify.Key{Generation: 2, Secret: otherKey}, verify.Key{Generation: 1, Secret: trueKey, Until: change})
	for _, c := range []struct {
		name   string
		device *verify.Device
		age    time.Duration
		want   verify.Outcome
		strict verify.Outcome
	}{
		{"assigned, measured before", assigned, before, verify.Late, verify.WrongPatient},
		{"assigned, measured after", assigned, after, verify.WrongPatient, verify.WrongPatient},
		{"rotated, measured before", rotated, before, verify.Late, verify.BadSignature},
		{"rotated, measured after", rotated, after, verify.BadSignature, verify.BadSignature},
	} {
		m := sound()
		m.enrolled, m.measured = *c.device, judgedAt.Add(-c.age)
		v := keeping(t, func() time.Time { return judgedAt }, m.directory()).Session("w-1").Check(m.topic, m.payload(t))
		if v.Outcome != c.want {
			t.Errorf("%s: %v (%s), want %v", c.name, v.Outcome, v.Reason, c.want)
		}
		if v := verifierAt(t, judgedAt, m.directory()).Session("w-1").Check(m.topic, m.payload(t)); v.Outcome != c.strict {
			t.Errorf("%s, late ones refused: %v (%s), want %v", c.name, v.Outcome, v.Reason, c.strict)
		}
	}
}

// TestRecheckMakesLate lets an accepted reading wait until it is no longer
// current, and a late one until it would be.
func TestRecheckMakesLate(t *testing.T) {
	first := verify.Key{Generation: 1, Secret: trueKey}
	changedAt := judgedAt.Add(time.Second)
	assigned := enrolled(first)
	assigned.Patient, assigned.Since, assigned.Former = "p-2", changedAt, []verify.Assignment{{Patient: "p-1", Until: changedAt}}
	rotated := enrolled(verify.Key{Generation: 2, Secret: otherKey}, verify.Key{Generation: 1, Secret: trueKey, Until: changedAt})
	readded := enrolled(verify.Key{Generation: 1, Secret: otherKey})
	for name, c := range map[string]struct {
		then *verify.Device
		want verify.Outcome
	}{
		"assigned":                {assigned, verify.Late},
		"rotated":                 {rotated, verify.Late},
		"removed and added again": {readded, verify.BadSignature},
		"revoked":                 {changed(enrolled(first), func(d *verify.Device) { d.Revoked = true }), verify.RevokedDevice},
	} {
		devices := &current{directory: directory{"w-1": enrolled(first)}}
		now := judgedAt
		s := keeping(t, func() time.Time { return now }, devices).Session("w-1")
		was := s.Check("wearables/w-1/vitals", sound().payload(t))
		if was.Outcome != verify.Accepted {
			t.Fatalf("it is %v at first (%s)", was.Outcome, was.Reason)
		}
		now, devices.directory = judgedAt.Add(2*time.Second), directory{"w-1": c.then}
		if v := s.Recheck(was); v.Outcome != c.want {
			t.Errorf("%s: %v (%s), want %v", name, v.Outcome, v.Reason, c.want)
		}
	}
	devices := &current{directory: directory{"w-1": assigned}}
	now := changedAt.Add(time.Second)
	s := keeping(t, func() time.Time { return now }, devices).Session("w-1")
	was := s.Check("wearables/w-1/vitals", sound().payload(t))
	devices.directory = directory{"w-1": enrolled(first)}
	if v := s.Recheck(was); was.Outcome != verify.Late || v.Outcome != verify.Late {
		t.Errorf("it was %v and is %v once the device is assigned back, want late", was.Outcome, v.Outcome)
	}
}

// TestLateReasonsNameNothing keeps ids out of what is told.
func TestLateReasonsNameNothing(t *testing.T) {
	m := sound()
	m.measured = judgedAt.Add(-time.Hour)
	v := keeping(t, func() time.Time { return judgedAt }, m.directory()).Session("w-1").Check(m.topic, m.payload(t))
	if want := "measured 1h0m0s ago: stored, but not as current"; v.Reason != want || v.Identity == (reading.Identity{}) {
		t.Errorf("the reason is %q, want %q", v.Reason, want)
	}
}
