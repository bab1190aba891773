package bridge

import (
	"errors"
	"time"

	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/ingress"
	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/bridge/verify"
)

// passage is one message on its way through the gate.
type passage struct {
	*caller
	message ingress.Message
	// received is when it began, by the machine's clock.
	received time.Time
	// revision is the registry's that the verdict was reached by, or an earlier.
	revision uint64
	verdict  verify.Verdict
	// fallen is what has become of the verdict while the reading waited.
	fallen *verify.Verdict
	done   func(ingress.Disposition)
}

// confirmed says whether the verdict may be acted on as it is: this replica has
// the right to judge, and a lag of its registry could not have made a difference.
func (p *passage) confirmed() bool {
	switch p.verdict.Outcome {
	case verify.UnknownDevice, verify.RevokedDevice, verify.BadSignature, verify.WrongDevice, verify.WrongPatient, verify.Late:
		return false
	}
	// The verdict's time makes a lease look older than it is, never fresher.
	return p.verdict.Doubt == nil && p.registry.Leased(p.verdict.Now)
}

// confirm goes on when the registry is known to be up to date. It may come from
// any goroutine, so a message that must be judged again gets a session of its
// own.
func (p *passage) confirm(current bool) {
	if current && (p.registry.Revision() != p.revision || p.verdict.Doubt != nil || p.old()) {
		p.verdict = p.judge(p.newSession(), p.message)
	}
	// Others that waited may have taken long before this one's turn came.
	if !current || p.verdict.Doubt != nil || !p.sure() {
		p.done(ingress.Disposition{Stored: ingress.Failed})
		return
	}
	p.proceed()
}

// old says whether the verdict was reached too long ago to count as present: the
// duplicate window allows for the store's deadline, not for that of the registry
// besides.
func (p *passage) old() bool {
	now, _ := p.clock.Read()
	return now.Sub(p.verdict.Now) > time.Second
}

// proceed acts on the verdict.
func (p *passage) proceed() {
	v := &p.verdict
	switch v.Outcome {
	case verify.Accepted:
	case verify.Late:
		p.store.PublishLate(p.record(), p.answeredLate)
		return
	default:
		p.refuse()
		return
	}
	switch p.memory.Reserve(v.Identity, v.Now, p.expiry(), p.copied) {
	case verify.First:
		p.store.Publish(p.record(), p.answered)
	case verify.Stored:
		p.copied(true)
	case verify.Pending:
	}
}

// expiry is until when a copy of the reading may come.
func (p *passage) expiry() time.Time { return p.verdict.Reading.Timestamp.Add(p.remembered) }

func (p *passage) record() egress.Record {
	v := &p.verdict
	return egress.Record{
		Identity: v.Identity, Patient: v.Reading.PatientID, Device: v.Device.ID, Payload: p.message.Payload, Timestamp: v.Reading.Timestamp,
		Generation: v.Generation, Age: v.Age(), Received: v.Now, Stands: p.stands,
	}
}

// errFallen says that something else would become of a reading by now.
var errFallen = errors.New("the reading no longer passes the checks as it did")

var errSlept = errors.New("it waited longer than the store's deadline")

// stands is asked before a reading that waited is published.
func (p *passage) stands() error {
	v := p.session.Recheck(p.verdict)
	now, _ := p.clock.Read()
	switch {
	case now.Round(0).Sub(p.verdict.Now.Round(0)) > p.patience+2*time.Second:
		// The machine has slept: neither is it current any more, nor does JetStream
		// still know an earlier attempt.
		return errSlept
	case v.Doubt != nil || !p.sure():
		return egress.ErrNotYet
	case v.Outcome != p.verdict.Outcome:
		p.fallen = &v
		return errFallen
	}
	return nil
}

// answered settles the reservation by the store's answer.
func (p *passage) answered(answer egress.Confirmation, err error) {
	id := p.verdict.Identity
	switch {
	case errors.Is(err, errFallen):
		p.memory.GiveBack(id, p.expiry())
		// It may be late now: of a patient or a key that has ended meanwhile.
		p.verdict = *p.fallen
		p.proceed()
	case err != nil:
		p.memory.GiveBack(id, p.expiry())
		p.notStored(err)
	default:
		if !p.memory.Keep(id, p.expiry()) {
			p.metrics.NotRemembered()
		}
		p.stored(answer)
	}
}

// answeredLate needs no reservation: the store has told whether the reading was
// there before.
func (p *passage) answeredLate(answer egress.Confirmation, err error) {
	switch {
	case errors.Is(err, errFallen):
		p.verdict = *p.fallen
		p.refuse()
	case errors.Is(err, egress.ErrTooMany):
		// It would fail for ever, and hold up all that follows it.
		p.verdict.Outcome, p.verdict.Reason = verify.RateLimited, err.Error()
		p.refuse()
	case err != nil:
		p.notStored(err)
	case answer.Duplicate:
		p.copied(true)
	default:
		p.metrics.Decided(verify.Late)
		p.presence.Late(&p.held, p.verdict.Device.ID, p.sighting())
		p.metrics.StoredLate(p.now().Sub(p.received))
		p.done(ingress.Disposition{Outcome: verify.Late, Reason: p.verdict.Reason})
	}
}

func (p *passage) notStored(err error) {
	p.metrics.StoreFailed()
	p.sampled.Warn("a verified reading was not stored and is not acknowledged", func(e *zerolog.Event) { e.Err(err).Str("device", p.verdict.Device.ID) })
	p.done(ingress.Disposition{Stored: ingress.Failed})
}

func (p *passage) stored(answer egress.Confirmation) {
	v := &p.verdict
	if answer.Duplicate {
		p.copied(true)
		return
	}
	p.metrics.Decided(verify.Accepted)
	p.presence.Live(&p.held, v.Device.ID, p.sighting())
	p.metrics.Stored(answer.Took, p.now().Sub(p.received), v.Age()+answer.Took)
	if len(v.Device.Keys) > 1 {
		p.registry.Signed(v.Device.ID, v.Generation)
	}
	if v.Generation != v.Device.Keys[0].Generation {
		p.metrics.PreviousKey()
	}
	p.done(ingress.Disposition{Outcome: verify.Accepted})
}

// copied ends a copy as its first ended: acknowledged if that is stored.
func (p *passage) copied(stored bool) {
	if !stored {
		p.done(ingress.Disposition{Stored: ingress.Failed})
		return
	}
	p.verdict.Outcome, p.verdict.Reason = verify.Duplicate, "this reading is stored already"
	p.refuse()
}

// refuse records why a message is not forwarded, and tells its sender; the
// reason only if he holds the key, since others could learn from it.
func (p *passage) refuse() {
	v := &p.verdict
	p.metrics.Decided(v.Outcome)
	p.refusals.record(p)
	p.missed()
	d := ingress.Disposition{Outcome: v.Outcome, AboutTopic: v.AboutTopic}
	if v.Authentic && v.Outcome != verify.Duplicate {
		d.Reason = v.Reason
	}
	p.done(d)
	if v.Outcome == verify.BadSignature {
		p.suspect()
	}
}

// device is the one that a refusal is about, if it is enrolled.
func (p *passage) device() string {
	switch {
	case p.verdict.Device != nil:
		return p.verdict.Device.ID
	case p.message.Form != ingress.Published:
		return p.identity.ID
	}
	return ""
}

// suspect closes a device's connection that goes on sending bad signatures. A
// gateway's stays, and is only slowed: others depend on it.
func (p *passage) suspect() {
	if p.purse.shared || p.identity.Kind == registry.KindGateway || !p.fair.failed(p.fair.signatures, p.purse.pair, p.now()) || p.cut.Swap(true) {
		return
	}
	p.sampled.Warn("disconnected and locked out at that address for its bad signatures", func(e *zerolog.Event) { e.Str("id", p.identity.ID).Str("remote", p.remote) })
	p.hangUp(p.identity.ID)
}
