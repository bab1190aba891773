package bridge

import (
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/bridge/verify"
)

// TestWhoSentWhatIsRefused brings no device into trouble by what others send in
// its name. TestGatewaysReadings has those of gateways.
func TestWhoSentWhatIsRefused(t *testing.T) {
	measured := time.Unix(1763766000, 0)
	verdict := func(o verify.Outcome, device string, authentic bool) verify.Verdict {
		v := verify.Verdict{Outcome: o, Authentic: authentic}
		if device != "" {
			v.Device = &verify.Device{ID: device}
		}
		v.Reading.Timestamp = measured
		return v
	}
	device := registry.Identity{ID: "w-1", Kind: registry.KindDevice}
	for name, c := range map[string]struct {
		caller  *caller
		verdict verify.Verdict
		sender  string
		shows   bool // its clock
	}{
		"its own, of the future":           {&caller{identity: device, proven: true}, verdict(verify.Future, "w-1", true), "w-1", true},
		"its own, stale":                   {&caller{identity: device, proven: true}, verdict(verify.Stale, "w-1", true), "w-1", true},
		"its own, of another patient":      {&caller{identity: device, proven: true}, verdict(verify.WrongPatient, "w-1", true), "w-1", false},
		"a wrong key":                      {&caller{identity: device, proven: true}, verdict(verify.BadSignature, "w-1", false), "w-1", false},
		"another topic":                    {&caller{identity: device, proven: true}, verdict(verify.Malformed, "", false), "w-1", false},
		"another's, replayed":              {&caller{identity: device, proven: true}, verdict(verify.WrongDevice, "w-2", true), "w-1", false},
		"another's, forged":                {&caller{identity: device, proven: true}, verdict(verify.BadSignature, "w-2", false), "w-1", false},
		"without a password, forged":       {&caller{identity: device}, verdict(verify.BadSignature, "w-1", false), "", false},
		"without a password, authentic":    {&caller{identity: device}, verdict(verify.Future, "w-1", true), "w-1", true},
		"without a password, another's":    {&caller{identity: device}, verdict(verify.WrongDevice, "w-2", true), "", false},
		"from another broker, authentic":   {&caller{purse: purse{shared: true}}, verdict(verify.Stale, "w-1", true), "", false},
		"from another broker, forged":      {&caller{purse: purse{shared: true}}, verdict(verify.BadSignature, "w-1", false), "", false},
		"from another broker, of nobody":   {&caller{purse: purse{shared: true}}, verdict(verify.UnknownDevice, "", false), "", false},
		"by a gateway, forged":             {&caller{identity: registry.Identity{ID: "g-1", Kind: registry.KindGateway}, proven: true}, verdict(verify.BadSignature, "w-1", false), "", false},
		"by a gateway, on another topic":   {&caller{identity: registry.Identity{ID: "g-1", Kind: registry.KindGateway}, proven: true}, verdict(verify.Malformed, "", false), "", false},
		"more than the address may, so be": {&caller{identity: device, proven: true}, verdict(verify.RateLimited, "", false), "w-1", false},
	} {
		p := passage{caller: c.caller, verdict: c.verdict}
		sender, at := p.sender()
		if sender != c.sender || at.Equal(measured) != c.shows {
			t.Errorf("%s: sent by %q, which shows %v", name, sender, at)
		}
	}
}
