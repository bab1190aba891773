package fleet

import (
	"context"
	"errors"
	"time"

	"github.com/pulsegate/pulsegate/bridge/registry"
)

const (
	// The victim sends so many readings, so quickly, and comes back so often.
	victimReadings = 3
	victimPeriod   = 100 * time.Millisecond
	victimPause    = 10 * time.Second
	// freshFor is how long its last reading is worth replaying: below the 60 s
	// for which a gate takes one, so that only being a replay speaks against it.
	freshFor = 30 * time.Second
)

// ErrNothingFresh says that the victim has sent nothing of late.
var ErrNothingFresh = errors.New("the victim has no fresh reading")

// Victim is an honest device that is switched on for a few readings now and then.
// While it is off an attacker who stole its MQTT password may be it: the session
// has one holder at a time, so that neither takes the other's.
type Victim struct {
	wearable *wearable
	patient  *patient
	// session holds a value while nobody has the session.
	session chan struct{}
}

func newVictim(w *wearable, p *patient) *Victim {
	v := &Victim{wearable: w, patient: p, session: make(chan struct{}, 1)}
	v.session <- struct{}{}
	return v
}

// Stolen returns what an attacker has of the victim: all but its signing key.
func (v *Victim) Stolen() registry.Credentials {
	c := v.wearable.credentials
	c.Key = ""
	return c
}

// Borrow waits until the victim is off, and returns the payload that it had
// acknowledged last and the function that gives the session back, which must be
// called when the borrower has disconnected. The error is the context's, or
// ErrNothingFresh.
func (v *Victim) Borrow(ctx context.Context) (payload []byte, giveBack func(), err error) {
	select {
	case <-v.session:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	c := v.wearable.latest.Load()
	if c == nil || v.wearable.clock().Sub(c.at) > freshFor {
		v.giveBack()
		return nil, nil, ErrNothingFresh
	}
	return c.payload, v.giveBack, nil
}

func (v *Victim) giveBack() { v.session <- struct{}{} }

// run switches the device on and off until the context ends. Having no victim
// is fine.
func (v *Victim) run(ctx context.Context) error {
	if v == nil {
		return nil
	}
	for ctx.Err() == nil {
		if err := v.appear(ctx, ctx, victimReadings); err != nil {
			return err
		}
		select {
		case <-time.After(victimPause):
		case <-ctx.Done():
		}
	}
	if len(v.wearable.outbox) == 0 {
		return nil
	}
	leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), v.wearable.drain)
	defer cancel()
	return v.appear(leaving, ctx, 0)
}

// appear takes the session within waiting's time and sends so many readings
// while playing goes on.
func (v *Victim) appear(waiting, playing context.Context, readings int) error {
	select {
	case <-v.session:
	case <-waiting.Done():
		return nil
	}
	defer v.giveBack()
	return v.wearable.play(playing, &burst{patient: v.patient, period: victimPeriod, length: readings})
}
