// Package config holds the service's one configuration: a struct, its defaults, and loading that takes a YAML file,
// environment variables and flags, each overriding the one before it, and refuses whatever it does not know.
package config

import "time"

// Config is everything that can be set. The yaml tag is a setting's name in the file; its dotted path, in upper case and
// joined by underscores after PULSEGATE_, is the environment variable.
type Config struct {
	// Data is the data directory. Load replaces an empty one by the default, see [DefaultData].
	Data string `yaml:"data" env:"DATA"`
	// MQTT is the broker that devices connect to.
	MQTT MQTT `yaml:"mqtt" envPrefix:"MQTT_"`
	// Source is another MQTT broker to take readings from, beside or in place of the embedded one.
	Source Source `yaml:"source" envPrefix:"SOURCE_"`
	// HTTP serves health and metrics.
	HTTP HTTP `yaml:"http" envPrefix:"HTTP_"`
	// Limits bound what one sender may cost.
	Limits Limits `yaml:"limits" envPrefix:"LIMITS_"`
	// Keys is what the devices' secrets come from.
	Keys Keys `yaml:"keys" envPrefix:"KEYS_"`
	// Freshness decides which readings count as current.
	Freshness Freshness `yaml:"freshness" envPrefix:"FRESHNESS_"`
	// Presence is when a device counts as in trouble.
	Presence Presence `yaml:"presence" envPrefix:"PRESENCE_"`
	// ReplayMemory is this process' own memory of what it saw; JetStream decides in the end.
	ReplayMemory ReplayMemory `yaml:"replay_memory" envPrefix:"REPLAY_MEMORY_"`
	// NATS is the embedded server, or the real one to connect to.
	NATS NATS `yaml:"nats" envPrefix:"NATS_"`
	// Store is what is kept in JetStream and how.
	Store Store `yaml:"store" envPrefix:"STORE_"`
	// Consumers names the durable pull consumers to create on VITALS; in the environment separated by commas.
	Consumers []string `yaml:"consumers" env:"CONSUMERS"`
	// Log is the service's own log.
	Log Log `yaml:"log" envPrefix:"LOG_"`
}

// MQTT configures the embedded broker.
type MQTT struct {
	// Listen is a TCP address for MQTT without TLS, host:port; port 0 takes a free one, and empty is none.
	Listen string `yaml:"listen" env:"LISTEN"`
	// Topic is the pattern of the topics that readings are published on; {device_id} is exactly one whole level.
	Topic string `yaml:"topic" env:"TOPIC"`
	// MaxConnections is the number of connections served at once.
	MaxConnections int `yaml:"max_connections" env:"MAX_CONNECTIONS"`
	// MaxConnectionsPerAddress bounds those of one IP address, behind which a whole hospital may be.
	MaxConnectionsPerAddress int `yaml:"max_connections_per_address" env:"MAX_CONNECTIONS_PER_ADDRESS"`
	// ProxyProtocol lists the addresses, as CIDR blocks, whose connections begin with a PROXY protocol header that tells
	// the client's address: load balancers. From others such a header is an error.
	ProxyProtocol []string `yaml:"proxy_protocol" env:"PROXY_PROTOCOL"`
	// ReceiveMaximum is the number of unacknowledged readings per connection, 1 to 65535 (MQTT 5, 3.2.2.3.3).
	ReceiveMaximum int `yaml:"receive_maximum" env:"RECEIVE_MAXIMUM"`
	// InFlight is the number of unacknowledged readings over all connections.
	InFlight int `yaml:"in_flight" env:"IN_FLIGHT"`
	// InFlightBytes is the size of the packets of those, which hold topics and properties too.
	InFlightBytes Bytes `yaml:"in_flight_bytes" env:"IN_FLIGHT_BYTES"`
	// Anonymous is one of the Anonymous constants: whether a client id alone lets a device in where a password would.
	Anonymous string `yaml:"anonymous" env:"ANONYMOUS"`
	// TLS is for MQTT over TLS, and for WebSocket with the scheme wss.
	TLS MQTTTLS `yaml:"tls" envPrefix:"TLS_"`
	// WebSocket is for MQTT over WebSocket.
	WebSocket WebSocket `yaml:"websocket" envPrefix:"WEBSOCKET_"`
}

// The values of MQTT.Anonymous.
const (
	AnonymousRefuse   = "refuse"   // a password is demanded
	AnonymousLoopback = "loopback" // none is, provided that all who can ask are on this machine
	AnonymousForce    = "force"    // none is, on any address
)

// The values of MQTTTLS.Client.
const (
	ClientPassword    = "password"    // user name and password
	ClientCertificate = "certificate" // a certificate whose common name is the client id
	ClientBoth        = "both"
)

// MQTTTLS configures TLS for devices. Cert, Key and ClientCA are paths of PEM files, which are read again when they change.
type MQTTTLS struct {
	// Listen is a TCP address for MQTT over TLS, host:port; port 0 takes a free one, and empty is none.
	Listen string `yaml:"listen" env:"LISTEN"`
	// Cert is the server's certificate, followed by intermediate ones.
	Cert string `yaml:"cert" env:"CERT"`
	// Key is the server's private key.
	Key string `yaml:"key" env:"KEY"`
	// Client is one of the Client constants: what a client must show over TLS.
	Client string `yaml:"client" env:"CLIENT"`
	// ClientCA holds the authorities that sign clients' certificates; nobody else's are taken.
	ClientCA string `yaml:"client_ca" env:"CLIENT_CA"`
}

// The values of WebSocket.Scheme.
const (
	SchemePlain  = "ws"
	SchemeSecure = "wss" // TLS, as MQTT.TLS says
)

// WebSocket configures MQTT over WebSocket (MQTT 5, 6).
type WebSocket struct {
	// Listen is a TCP address, host:port; port 0 takes a free one, and empty is none.
	Listen string `yaml:"listen" env:"LISTEN"`
	// Scheme is one of the Scheme constants.
	Scheme string `yaml:"scheme" env:"SCHEME"`
	// Origins are the web origins (RFC 6454) whose pages may connect, beside those of the same host; in the environment
	// separated by commas. Who sends no Origin is no browser, and may always.
	Origins []string `yaml:"origins" env:"ORIGINS"`
}

// Source configures the subscription to another MQTT broker; without URL there is none, and the rest has no effect.
type Source struct {
	// URL is that of one broker, or of several of one cluster separated by commas: mqtt, mqtts, ws or wss, without credentials.
	URL ServerURL `yaml:"url" env:"URL"`
	// Topics are the topic filters; empty is MQTT.Topic with + in place of {device_id}. In the environment separated by commas.
	Topics []string `yaml:"topics" env:"TOPICS"`
	// Share is the group of the shared subscription that replicas divide the readings by (MQTT 5, 4.8.2); empty is none.
	Share string `yaml:"share" env:"SHARE"`
	// ClientID is the MQTT client identifier, its own for each replica and the same after a restart; empty is made from the
	// host's name.
	ClientID string `yaml:"client_id" env:"CLIENT_ID"`
	// User logs in, alone or together with Password.
	User string `yaml:"user" env:"USER"`
	// Password belongs to User.
	Password Secret `yaml:"password" env:"PASSWORD"`
	// TLS is for mqtts and wss.
	TLS TLS `yaml:"tls" envPrefix:"TLS_"`
}

// HTTP configures the server for health and metrics.
type HTTP struct {
	// Listen is a TCP address, host:port; port 0 takes a free one.
	Listen string `yaml:"listen" env:"LISTEN"`
	// Pprof serves the Go runtime's profiles too, under /debug/pprof/; Listen must be a loopback address then.
	Pprof bool `yaml:"pprof" env:"PPROF"`
	// TLS makes it HTTPS.
	TLS HTTPTLS `yaml:"tls" envPrefix:"TLS_"`
}

// HTTPTLS names PEM files, which are read again when they change; empty is plain HTTP.
type HTTPTLS struct {
	// Cert is the server's certificate, followed by intermediate ones.
	Cert string `yaml:"cert" env:"CERT"`
	// Key is the server's private key.
	Key string `yaml:"key" env:"KEY"`
}

// Limits are token buckets: so many a second, and so many at once after a rest. What is over a limit is slowed down, and
// refused only if that does not help.
type Limits struct {
	// DeviceRate and DeviceBurst bound the readings of one device.
	DeviceRate  int `yaml:"device_rate" env:"DEVICE_RATE"`
	DeviceBurst int `yaml:"device_burst" env:"DEVICE_BURST"`
	// AddressRate and AddressBurst bound the messages from one IP address.
	AddressRate  int `yaml:"address_rate" env:"ADDRESS_RATE"`
	AddressBurst int `yaml:"address_burst" env:"ADDRESS_BURST"`
	// ForgedRate bounds the messages, of all senders together, that no right signature of their sender's is on.
	ForgedRate int `yaml:"forged_rate" env:"FORGED_RATE"`
	// LockoutAfter is how many failed logins or bad signatures from one address under one name are taken before that pair
	// gets one attempt a second for the time Lockout.
	LockoutAfter int      `yaml:"lockout_after" env:"LOCKOUT_AFTER"`
	Lockout      Duration `yaml:"lockout" env:"LOCKOUT"`
	// RejectionRate is how many rejections a second are stored of one outcome, device and address; the others are counted
	// in a summary.
	RejectionRate int `yaml:"rejection_rate" env:"REJECTION_RATE"`
}

// Keys holds the secrets that those of the devices are derived from.
type Keys struct {
	// Master is the text of a master key file, in place of that file in the data directory; empty is the file.
	Master Secret `yaml:"master" env:"MASTER"`
	// MasterFile is the path of the master key file, such as one that replicas share; empty is master.key in the data
	// directory. At most one of the two is set.
	MasterFile string `yaml:"master_file" env:"MASTER_FILE"`
}

// The values of Freshness.Late.
const (
	LateKeep   = "keep"   // what is too old for triage is stored apart from it
	LateRefuse = "refuse" // it is refused as stale
)

// Freshness bounds a reading's signed timestamp.
type Freshness struct {
	// MaxAge is how old a reading may be.
	MaxAge Duration `yaml:"max_age" env:"MAX_AGE"`
	// MaxFuture is how far ahead of the gate's clock a reading may be.
	MaxFuture Duration `yaml:"max_future" env:"MAX_FUTURE"`
	// Late says what becomes of readings older than MaxAge.
	Late string `yaml:"late" env:"LATE"`
	// MaxLate is how old a late reading may be; what is older is stale. With Store.DuplicateWindow it is at most
	// Store.Vitals.MaxAge, since what the stream has forgotten could be stored again.
	MaxLate Duration `yaml:"max_late" env:"MAX_LATE"`
	// ClockTolerance is how far the clocks of gates and NATS may be apart: a margin of the duplicate window. A gate whose
	// clock is further off judges nothing.
	ClockTolerance Duration `yaml:"clock_tolerance" env:"CLOCK_TOLERANCE"`
}

// Presence says when a device's trouble is announced in the audit; 0 is never.
type Presence struct {
	// SilentAfter is how long a device may go without a current reading.
	SilentAfter Duration `yaml:"silent_after" env:"SILENT_AFTER"`
	// RefusedAfter is how long everything that a device sends itself may be refused.
	RefusedAfter Duration `yaml:"refused_after" env:"REFUSED_AFTER"`
	// ClockDrift is how far a device's clock may be off. Less than Freshness.MaxAge announces it before readings are late.
	ClockDrift Duration `yaml:"clock_drift" env:"CLOCK_DRIFT"`
}

// ReplayMemory bounds the memory of identities.
type ReplayMemory struct {
	// MaxReadings is the number of readings remembered at once.
	MaxReadings int `yaml:"max_readings" env:"MAX_READINGS"`
}

// NATS configures the embedded server where URL and URLFile are empty, and else the connection to a real one.
type NATS struct {
	// URL is one server or several separated by commas; empty means embedded. It may hold credentials, so it prints masked.
	URL ServerURL `yaml:"url" env:"URL"`
	// URLFile is the path of a file that holds what URL would, credentials included; at most one of the two is set.
	URLFile string `yaml:"url_file" env:"URL_FILE"`
	// Listen is the embedded server's TCP address, host:port; port 0 takes a free one.
	Listen string `yaml:"listen" env:"LISTEN"`
	// Sync is when the embedded server calls fsync.
	Sync Sync `yaml:"sync" env:"SYNC"`
	// User logs in together with Password.
	User string `yaml:"user" env:"USER"`
	// Password belongs to User.
	Password Secret `yaml:"password" env:"PASSWORD"`
	// Token logs in alone.
	Token Secret `yaml:"token" env:"TOKEN"`
	// NkeyFile is the path of a file that holds an NKey seed.
	NkeyFile string `yaml:"nkey_file" env:"NKEY_FILE"`
	// CredsFile is the path of a NATS credentials file.
	CredsFile string `yaml:"creds_file" env:"CREDS_FILE"`
	// TLS is for the connection to a real server.
	TLS TLS `yaml:"tls" envPrefix:"TLS_"`
}

// TLS names PEM files.
type TLS struct {
	// CA is the path of the authorities that the server's certificate is checked against; empty means the system's.
	CA string `yaml:"ca" env:"CA"`
	// Cert is the path of the client's certificate.
	Cert string `yaml:"cert" env:"CERT"`
	// Key is the path of the client's private key.
	Key string `yaml:"key" env:"KEY"`
}

// Store configures the streams and the bucket.
type Store struct {
	// Deadline is how long one reading may try to be stored.
	Deadline Duration `yaml:"deadline" env:"DEADLINE"`
	// UnavailableAfter is how long nothing may have been heard of the store, or readings have failed and none been stored,
	// until new connections are refused.
	UnavailableAfter Duration `yaml:"unavailable_after" env:"UNAVAILABLE_AFTER"`
	// Republish shows each stored reading to core NATS subscribers as well.
	Republish bool `yaml:"republish" env:"REPUBLISH"`
	// Replicas is the number of servers that hold each stream: 1, 3 or 5.
	Replicas int `yaml:"replicas" env:"REPLICAS"`
	// DuplicateWindow is how long JetStream remembers an identity. It is at least Freshness.MaxAge + Freshness.MaxFuture +
	// Deadline + twice Freshness.ClockTolerance, and at most Vitals.MaxAge.
	DuplicateWindow Duration `yaml:"duplicate_window" env:"DUPLICATE_WINDOW"`
	// Vitals bounds the stream VITALS; when it is full, readings are no longer acknowledged.
	Vitals Stream `yaml:"vitals" envPrefix:"VITALS_"`
	// Rejections bounds the stream REJECTIONS; when it is full, the oldest go.
	Rejections Stream `yaml:"rejections" envPrefix:"REJECTIONS_"`
	// Audit bounds the stream AUDIT.
	Audit Stream `yaml:"audit" envPrefix:"AUDIT_"`
	// Devices bounds the registry's bucket.
	Devices Bucket `yaml:"devices" envPrefix:"DEVICES_"`
}

// Stream bounds one stream.
type Stream struct {
	// MaxBytes is the size in bytes, per replica.
	MaxBytes Bytes `yaml:"max_bytes" env:"MAX_BYTES"`
	// MaxAge is how long a message is kept.
	MaxAge Duration `yaml:"max_age" env:"MAX_AGE"`
}

// Bucket bounds one key-value bucket.
type Bucket struct {
	// MaxBytes is the size in bytes, per replica.
	MaxBytes Bytes `yaml:"max_bytes" env:"MAX_BYTES"`
}

// The values of Log.Format.
const (
	FormatAuto    = "auto" // console on a terminal, else JSON
	FormatJSON    = "json"
	FormatConsole = "console"
)

// Log configures the service's log.
type Log struct {
	// Level is the least severe level logged: trace, debug, info, warn or error.
	Level string `yaml:"level" env:"LEVEL"`
	// Format is one of the Format constants.
	Format string `yaml:"format" env:"FORMAT"`
}

// Default is the configuration where nothing is set. Its Data is empty, since the default depends on the environment.
func Default() Config {
	const day = Duration(24 * time.Hour)
	return Config{
		MQTT: MQTT{
			Listen:                   "127.0.0.1:1883",
			Topic:                    "wearables/" + devicePlaceholder + "/vitals",
			MaxConnections:           100_000,
			MaxConnectionsPerAddress: 20_000,
			ProxyProtocol:            []string{},
			ReceiveMaximum:           64,
			InFlight:                 16_384,
			InFlightBytes:            64 * MiB,
			Anonymous:                AnonymousRefuse,
			TLS:                      MQTTTLS{Client: ClientPassword},
			WebSocket:                WebSocket{Scheme: SchemePlain, Origins: []string{}},
		},
		Source: Source{Topics: []string{}},
		HTTP:   HTTP{Listen: "127.0.0.1:8080"},
		Limits: Limits{
			DeviceRate: 50, DeviceBurst: 4_000, AddressRate: 50_000, AddressBurst: 200_000, ForgedRate: 5_000,
			LockoutAfter: 20, Lockout: Duration(time.Minute), RejectionRate: 5,
		},
		Freshness: Freshness{
			MaxAge:         Duration(60 * time.Second),
			MaxFuture:      Duration(5 * time.Second),
			Late:           LateKeep,
			MaxLate:        Duration(72 * time.Hour),
			ClockTolerance: Duration(2 * time.Second),
		},
		Presence:     Presence{SilentAfter: Duration(5 * time.Minute), RefusedAfter: Duration(time.Minute), ClockDrift: Duration(10 * time.Second)},
		ReplayMemory: ReplayMemory{MaxReadings: 1_000_000},
		NATS:         NATS{Listen: "127.0.0.1:4222", Sync: SyncAlways},
		Store: Store{
			Deadline:         Duration(10 * time.Second),
			UnavailableAfter: Duration(15 * time.Second),
			Republish:        true,
			Replicas:         1,
			DuplicateWindow:  Duration(10 * time.Minute),
			Vitals:           Stream{MaxBytes: 2 * GiB, MaxAge: 7 * day},
			Rejections:       Stream{MaxBytes: 256 * MiB, MaxAge: 30 * day},
			Audit:            Stream{MaxBytes: 64 * MiB, MaxAge: 365 * day},
			Devices:          Bucket{MaxBytes: 64 * MiB},
		},
		Consumers: []string{"triage"},
		Log:       Log{Level: "info", Format: FormatAuto},
	}
}
