// Package attack is a closed set of named attacks on the gate. Each declares the
// outcomes that it must meet; one that meets another, or gets through, is a
// finding.
package attack

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/pulsegate/pulsegate/bridge/verify"
)

// The attacks' names.
const (
	ForgedSignature = "forged-signature"
	TamperedValue   = "tampered-value"
	TamperedPatient = "tampered-patient"
	OtherPatient    = "other-patient"
	OtherTopic      = "other-topic"
	OtherDevice     = "other-device"
	Replay          = "replay"
	Stale           = "stale"
	Future          = "future"
	UnknownDevice   = "unknown-device"
	MalformedJSON   = "malformed-json"
	Oversize        = "oversize"
	Will            = "will"
	Retained        = "retained"
)

// Attack is one named attack. Its zero value attacks nothing; they come from
// All and Select.
type Attack struct {
	Name        string
	Description string
	// Expected are the outcomes that it may meet, as bridge/verify spells them.
	Expected []string
	// OwnKey says that the attacker signs with a stolen signing key. Other
	// attacks have MQTT passwords only.
	OwnKey bool
	// NeedsVictim says that it takes over the session of a device that has been
	// switched off.
	NeedsVictim bool
	// craft makes what is published; nil where an attack does more than that.
	craft func(*turn) (shot, error)
	step  func(context.Context, *turn) error
}

// All returns every attack.
func All() []Attack {
	return []Attack{
		forged(ForgedSignature, "a critical reading of another device, signed with 64 random digits",
			verify.BadSignature, forgedSignature),
		forged(TamperedValue, "a captured reading with another SpO2 under the old signature",
			verify.BadSignature, tamperedValue),
		forged(TamperedPatient, "a captured reading with another patient under the old signature",
			verify.BadSignature, tamperedPatient),
		ownKey(OtherPatient, "a true key signs a reading of a patient who wears another device",
			verify.WrongPatient, otherPatient),
		ownKey(OtherTopic, "a true key signs another device's reading, sent on that device's topic",
			verify.BadSignature, otherTopic),
		ownKey(OtherDevice, "a true key signs another device's reading, sent on its own topic",
			verify.WrongDevice, otherDevice),
		{
			Name: Replay, Description: "a stored reading once more, byte for byte, with its device's own password",
			Expected: []string{verify.Duplicate.String()}, NeedsVictim: true, step: replay,
		},
		ownKey(Stale, "a true key signs a reading that is a hundred days old", verify.Stale, stale),
		ownKey(Future, "a true key signs a reading of an hour from now", verify.Future, future),
		forged(UnknownDevice, "a signed reading on the topic of a device that nobody registered",
			verify.UnknownDevice, unknownDevice),
		ownKey(MalformedJSON, "a true key signs what is not JSON", verify.InvalidReading, malformedJSON),
		ownKey(Oversize, "a true key signs more bytes than a reading may have", verify.Malformed, oversize),
		{
			Name: Will, Description: "a forged reading as the will of a connection",
			Expected: []string{verify.Will.String()}, step: will,
		},
		forged(Retained, "a forged reading to be retained for whoever subscribes later",
			verify.Retained, retained),
	}
}

func forged(name, description string, expected verify.Outcome, craft func(*turn) (shot, error)) Attack {
	return Attack{
		Name: name, Description: description, Expected: []string{expected.String()}, craft: craft, step: published(craft),
	}
}

func ownKey(name, description string, expected verify.Outcome, craft func(*turn) (shot, error)) Attack {
	a := forged(name, description, expected, craft)
	a.OwnKey = true
	return a
}

// Select returns the attacks of a comma-separated list of names, each once, in
// the order of All; "all" stands for every one, "none" and nothing for none.
func Select(list string) ([]Attack, error) {
	all := All()
	switch strings.TrimSpace(list) {
	case "all":
		return all, nil
	case "none", "":
		return nil, nil
	}
	wanted := make(map[string]bool)
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		if !slices.ContainsFunc(all, func(a Attack) bool { return a.Name == name }) {
			return nil, fmt.Errorf("attacks: there is none named %q; known are all, none, or some of %s", name, names(all))
		}
		wanted[name] = true
	}
	return slices.DeleteFunc(all, func(a Attack) bool { return !wanted[a.Name] }), nil
}

func names(attacks []Attack) string {
	var list []string
	for _, a := range attacks {
		list = append(list, a.Name)
	}
	return strings.Join(list, ", ")
}

// NeedVictim reports whether one of the attacks needs a victim.
func NeedVictim(attacks []Attack) bool {
	return slices.ContainsFunc(attacks, func(a Attack) bool { return a.NeedsVictim })
}
