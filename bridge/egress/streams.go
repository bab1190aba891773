package egress

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Names of the streams, their subjects, and the registry's bucket.
const (
	StreamVitals     = "VITALS"
	StreamRejections = "REJECTIONS"
	StreamAudit      = "AUDIT"
	BucketDevices    = "devices"

	// SubjectLive is what triage subscribes to: vitals.live.<patient>.<device>.
	SubjectLive = "vitals.live.>"
	// SubjectLate is for whoever keeps the record:
	// vitals.late.<patient>.<device>.<minute>, as LateSubject makes it.
	SubjectLate = "vitals.late.>"

	// subjectGate stands before a subject where the gate publishes.
	subjectGate = "gate.in."
	subjectIn   = subjectGate + "vitals.live."
	// maxStored is the largest message in VITALS, in bytes: a reading and its
	// headers.
	maxStored = 8 << 10
)

// Limits bound one stream.
type Limits struct {
	// MaxBytes is the size of the stream; it must be more than 0.
	MaxBytes int64
	// MaxAge is how long a message is kept; 0 is for ever.
	MaxAge time.Duration
}

// Layout says how the streams are to be.
type Layout struct {
	Vitals, Rejections, Audit, Devices Limits
	// Replicas is 1, 3 or 5.
	Replicas int
	// DuplicateWindow is how long JetStream remembers a Nats-Msg-Id.
	DuplicateWindow time.Duration
	// Republish shows core NATS subscribers what has been stored.
	Republish Republish
	// Consumers are durable pull consumers of SubjectLive to be made.
	Consumers []string
}

// Republish says whether VITALS republishes.
type Republish bool

// Total is what all streams together may take of the store, in bytes.
func (l Layout) Total() int64 {
	return l.Vitals.MaxBytes + l.Rejections.MaxBytes + l.Audit.MaxBytes + l.Devices.MaxBytes
}

func (l Layout) streams() []jetstream.StreamConfig {
	vitals := jetstream.StreamConfig{
		Name: StreamVitals, Description: "readings that Pulsegate verified",
		Subjects:         []string{"gate.in.vitals.>"},
		SubjectTransform: &jetstream.SubjectTransformConfig{Source: "gate.in.vitals.>", Destination: "vitals.>"},
		// A full store must refuse the new, not forget the old.
		Discard: jetstream.DiscardNew, MaxMsgSize: maxStored,
		MaxBytes: l.Vitals.MaxBytes, MaxAge: l.Vitals.MaxAge, Duplicates: l.DuplicateWindow,
	}
	if l.Republish {
		vitals.RePublish = &jetstream.RePublish{Source: "vitals.>", Destination: "vitals.>"}
	}
	rejections := jetstream.StreamConfig{
		Name: StreamRejections, Description: "what Pulsegate refused", Subjects: []string{"rejected.>"},
		MaxBytes: l.Rejections.MaxBytes, MaxAge: l.Rejections.MaxAge,
	}
	audit := jetstream.StreamConfig{
		Name: StreamAudit, Description: "who changed what, who failed to log in, who fell silent",
		// Subscribers see what is stored, and so each event of several replicas once.
		Subjects:         []string{subjectGate + "audit.>"},
		SubjectTransform: &jetstream.SubjectTransformConfig{Source: subjectGate + "audit.>", Destination: "audit.>"},
		RePublish:        &jetstream.RePublish{Source: "audit.>", Destination: "audit.>"},
		MaxBytes:         l.Audit.MaxBytes, MaxAge: l.Audit.MaxAge,
	}
	all := []jetstream.StreamConfig{vitals, rejections, audit}
	for i := range all {
		all[i].Storage, all[i].Retention = jetstream.FileStorage, jetstream.LimitsPolicy
		all[i].Replicas, all[i].AllowDirect = l.Replicas, true
		all[i].MaxMsgs, all[i].MaxMsgsPerSubject = -1, -1
	}
	return all
}

// Ensure creates the streams, the bucket and the consumers, or checks those
// that are there. A stream that contradicts is an error that says which setting
// and how to mend it; bounds that were raised in the layout are raised in the
// stream. It returns the registry's bucket.
func Ensure(ctx context.Context, nc *nats.Conn, l Layout) (jetstream.KeyValue, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("jetstream: %w", err)
	}
	if _, err := fits(ctx, js, l); err != nil {
		return nil, err
	}
	for _, want := range l.streams() {
		if err := ensureStream(ctx, js, want); err != nil {
			return nil, err
		}
	}
	for _, name := range l.Consumers {
		if err := ensureConsumer(ctx, js, name); err != nil {
			return nil, err
		}
	}
	return ensureBucket(ctx, js, l)
}

// fits compares the streams' limits with those of the account, where it has any.
func fits(ctx context.Context, js jetstream.JetStream, l Layout) (*jetstream.AccountInfo, error) {
	info, err := js.AccountInfo(ctx)
	switch {
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return nil, errors.New("NATS has no JetStream for this account: enable it, as configs/nats/ shows")
	case err != nil:
		return nil, fmt.Errorf("asking JetStream for its limits: %w", err)
	}
	need := l.Total() * int64(l.Replicas)
	if limit := info.Limits.MaxStore; limit > 0 && need > limit {
		return info, fmt.Errorf("the streams may grow to %d bytes with %d replicas, but the account's JetStream may hold %d: lower store.*.max_bytes or raise the account's limit", need, l.Replicas, limit)
	}
	return info, nil
}

func ensureStream(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) error {
	stream, err := js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if _, err = js.CreateStream(ctx, want); err != nil {
			return fmt.Errorf("creating stream %s of %d bytes: %w%s", want.Name, want.MaxBytes, err, hint(err))
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking at stream %s: %w", want.Name, err)
	}
	have := stream.CachedInfo().Config
	if formerAudit(have) {
		if have, err = renewAudit(ctx, js, have, want); err != nil {
			return err
		}
	}
	if faults := contradictions(have, want); len(faults) > 0 {
		return fmt.Errorf("stream %s is not as Pulsegate needs it: %s; adapt the configuration to it, or, on a NATS of your own, the stream with `nats stream edit %s`; what could delete messages is never done by itself", want.Name, strings.Join(faults, "; "), want.Name)
	}
	return grow(ctx, js, have, want)
}

func hint(err error) string {
	var api *jetstream.APIError
	if errors.As(err, &api) && (api.ErrorCode == 10047 || api.ErrorCode == 10028 || api.ErrorCode == 10023) {
		return ": lower store.*.max_bytes, or give JetStream more room"
	}
	return ""
}

// contradictions lists what in a stream would break a promise of the gate.
func contradictions(have, want jetstream.StreamConfig) []string {
	var faults []string
	differ := func(what string, have, want any) {
		if have != want {
			faults = append(faults, fmt.Sprintf("%s is %v, not %v", what, have, want))
		}
	}
	differ("subjects", strings.Join(have.Subjects, ","), strings.Join(want.Subjects, ","))
	differ("subject transform", transform(have), transform(want))
	switch {
	case want.Name == StreamAudit:
		differ("republish", republish(have), republish(want))
	case have.RePublish != nil:
		differ("republish", republish(have), republishAll)
	}
	differ("mirror", have.Mirror != nil, false)
	differ("number of sources", len(have.Sources), 0)
	differ("retention", have.Retention, want.Retention)
	differ("storage", have.Storage, want.Storage)
	// Persisting later would acknowledge what a crash can still lose.
	differ("persistence", have.PersistMode, want.PersistMode)
	differ("discard", have.Discard, want.Discard)
	differ("acknowledgement off", have.NoAck, false)
	differ("sealed", have.Sealed, false)
	differ("direct get", have.AllowDirect, true)
	differ("replicas", have.Replicas, want.Replicas)
	differ("messages' limit", have.MaxMsgs, want.MaxMsgs)
	differ("messages' limit per subject", have.MaxMsgsPerSubject, want.MaxMsgsPerSubject)
	if have.MaxMsgSize >= 0 && have.MaxMsgSize < want.MaxMsgSize {
		differ("message size", have.MaxMsgSize, want.MaxMsgSize)
	}
	if shrinks(int64(have.MaxAge), int64(want.MaxAge)) {
		faults = append(faults, fmt.Sprintf("it keeps messages %v, and the configured %v would delete some", have.MaxAge, want.MaxAge))
	}
	if shrinks(have.MaxBytes, want.MaxBytes) {
		faults = append(faults, fmt.Sprintf("it holds %d bytes, and the configured %d are fewer", have.MaxBytes, want.MaxBytes))
	}
	return faults
}

// shrinks compares two limits of which 0 or less means none.
func shrinks(have, want int64) bool { return want > 0 && (have <= 0 || have > want) }

func transform(c jetstream.StreamConfig) string {
	if c.SubjectTransform == nil {
		return "none"
	}
	return c.SubjectTransform.Source + " to " + c.SubjectTransform.Destination
}

// republishAll is what republish says of VITALS where it is on.
const republishAll = "vitals.> to vitals.>"

func republish(c jetstream.StreamConfig) string {
	if c.RePublish == nil {
		return "off"
	}
	return c.RePublish.Source + " to " + c.RePublish.Destination
}

// ErrWindowRaised says that a stream's duplicate window has just been raised.
// JetStream fills the longer memory only when it starts, so for as long as the
// new window copies of earlier readings would not be recognised.
var ErrWindowRaised = errors.New("the duplicate window has been raised")

// grow applies what takes nothing away: higher limits, a longer duplicate
// window, republish on or off.
func grow(ctx context.Context, js jetstream.JetStream, have, want jetstream.StreamConfig) error {
	raised := have.Duplicates < want.Duplicates
	same := have.MaxBytes == want.MaxBytes && have.MaxAge == want.MaxAge && republish(have) == republish(want)
	if same && !raised {
		return nil
	}
	have.MaxBytes, have.MaxAge, have.RePublish = want.MaxBytes, want.MaxAge, want.RePublish
	have.Duplicates = max(have.Duplicates, want.Duplicates)
	if _, err := js.UpdateStream(ctx, have); err != nil {
		return fmt.Errorf("raising the limits of stream %s: %w%s", want.Name, err, hint(err))
	}
	if raised && want.Name == StreamVitals {
		return fmt.Errorf("stream %s: %w to %v: restart NATS, or wait that long, and start again", want.Name, ErrWindowRaised, want.Duplicates)
	}
	return nil
}

// ensureConsumer makes a durable pull consumer. Consumers of readings cannot
// make their own: a push consumer's deliver subject could forge.
func ensureConsumer(ctx context.Context, js jetstream.JetStream, name string) error {
	_, err := js.Consumer(ctx, StreamVitals, name)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		_, err = js.CreateConsumer(ctx, StreamVitals, jetstream.ConsumerConfig{
			Durable: name, FilterSubject: SubjectLive, AckPolicy: jetstream.AckExplicitPolicy,
			DeliverPolicy: jetstream.DeliverAllPolicy, MaxAckPending: 10_000,
		})
	}
	if err != nil {
		return fmt.Errorf("consumer %s of stream %s: %w", name, StreamVitals, err)
	}
	return nil
}

func ensureBucket(ctx context.Context, js jetstream.JetStream, l Layout) (jetstream.KeyValue, error) {
	kv, err := js.KeyValue(ctx, BucketDevices)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket: BucketDevices, Description: "Pulsegate's registry of devices",
			Storage: jetstream.FileStorage, MaxBytes: l.Devices.MaxBytes, Replicas: l.Replicas,
		})
	}
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w%s", BucketDevices, err, hint(err))
	}
	return kv, ensureStream(ctx, js, bucketStream(l))
}

// bucketStream is what of the bucket's stream matters: a registry that forgets,
// or that takes entries from elsewhere, would change who is let in.
func bucketStream(l Layout) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: "KV_" + BucketDevices, Subjects: []string{"$KV." + BucketDevices + ".>"},
		Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew,
		Replicas: l.Replicas, AllowDirect: true, MaxMsgs: -1, MaxMsgsPerSubject: 1, MaxBytes: l.Devices.MaxBytes,
	}
}
