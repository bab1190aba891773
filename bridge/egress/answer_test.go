package egress_test

import (
	"testing"

	"github.com/pulsegate/pulsegate/bridge/egress"
)

func TestTheAnswerToAFirstIsReadDirectly(t *testing.T) {
	for answer, sequence := range map[string]uint64{
		`{"stream":"VITALS","seq":7}`:                    7,
		`{"stream":"VITALS","seq":18446744073709551615}`: 1<<64 - 1,
		`{"stream":"VITALS","seq":18446744073709551616}`: 0,
		`{"stream":"VITALS","seq":0}`:                    0,
		`{"stream":"VITALS","seq":}`:                     0,
		`{"stream":"VITALS","seq":-7}`:                   0,
		`{"stream":"VITALS","seq":7`:                     0,
		`{"stream":"VITALS","seq":7,"duplicate": true}`:  0,
		`{"stream":"OTHERS","seq":7}`:                    0,
		`{"stream":"VITALS","domain":"d","seq":7}`:       0,
		`{"error":{"code":503},"stream":"","seq":7}`:     0,
	} {
		if got, ok := egress.ReadFirst([]byte(answer)); ok != (sequence > 0) || ok && got != sequence {
			t.Errorf("%s: %d, %v; want %d", answer, got, ok, sequence)
		}
	}
}

// TestTheServerAnswersAFirstAsIsReadDirectly keeps the shortcut from becoming a
// way that nothing takes.
func TestTheServerAnswersAFirstAsIsReadDirectly(t *testing.T) {
	d := openDepot(t)
	d.ensure(t, depotLayout())
	for sequence := range uint64(2) {
		m, err := d.nc.RequestWithContext(soon(t), "gate.in.vitals.live.p-1.w-1", []byte("{}"))
		need(t, err)
		if got, ok := egress.ReadFirst(m.Data); !ok || got != sequence+1 {
			t.Errorf("%s: %d, %v", m.Data, got, ok)
		}
	}
}
