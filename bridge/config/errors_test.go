package config

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

func TestErrorsInTheFile(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"unknown key", "\nlisten: x\n", `FILE:2: unknown key "listen"; allowed here: data, mqtt, source, http, limits, keys, freshness, presence, replay_memory, nats, store, consumers, log`},
		{"unknown key below", "mqtt:\n  listen: :1\n  port: 1\n", `FILE:3: unknown key "port"; allowed here: listen, topic, max_connections, max_connections_per_address, proxy_protocol, receive_maximum, in_flight, in_flight_bytes, anonymous, tls, websocket`},
		{"unknown key two below", "store:\n  vitals: {size: 1}\n", `FILE:2: unknown key "size"; allowed here: max_bytes, max_age`},
		{"dotted key", "mqtt.listen: x\n", `FILE:1: unknown key "mqtt.listen"; allowed here: data, mqtt, `},
		{"part of a name", "m: {}\n", `FILE:1: unknown key "m"`},
		{"key that is a number", "3: x\n", `FILE:1: a key that is not plain text; allowed here: data`},
		{"merge key", "<<: {data: x}\n", `FILE:1: a key that is not plain text`},
		{"duplicate", "log:\n  level: info\n  level: warn\n", `FILE:3: duplicate key "level", first at FILE:2`},
		{"duplicate section", "log: {level: info}\nlog: {format: json}\n", `FILE:2: duplicate key "log", first at FILE:1`},
		{"several documents", "data: /a\n---\ndata: /b\n", `FILE: more than one document`},
		{"directive", "%YAML 1.2\n---\ndata: /a\n", `FILE: more than one document or a directive`},
		{"syntax", "log: {level: info\n", `FILE:1: not YAML: `},
		{"list for a document", "- a\n", `FILE:1: a list where keys are expected; allowed: data, mqtt`},
		{"text for a section", "mqtt: :1883\n", `FILE:1: mqtt: a single value where keys are expected; allowed: listen, topic`},
		{"section for a value", "data: {x: y}\n", `FILE:1: data: a mapping is not text; allowed: a directory`},
		{"no value", "mqtt:\n  listen:\n", `FILE:2: mqtt.listen: no value is not text; allowed: host:port`},
		{"anchor", "data: &a /x\n", `FILE:1: data: an anchor, alias or tag is not text`},
		{"tag", "data: !!str /x\n", `FILE:1: data: an anchor, alias or tag is not text`},
		{"not a number", "mqtt:\n  receive_maximum: abc\n", `FILE:2: mqtt.receive_maximum: "abc" is not a whole number; allowed: 1 to 65535`},
		{"fraction", "mqtt:\n  receive_maximum: 1.5\n", `FILE:2: mqtt.receive_maximum: "1.5" is not a whole number; allowed: 1 to 65535`},
		{"overflow", "mqtt: {in_flight: 99999999999999999999}\n", `FILE:1: mqtt.in_flight: "99999999999999999999" is not a whole number`},
		{"out of range", "mqtt: {receive_maximum: 65536}\n", `FILE:1: mqtt.receive_maximum: "65536" is out of range; allowed: 1 to 65535`},
		{"empty number", "mqtt: {in_flight: ''}\n", `FILE:1: mqtt.in_flight: an empty value is not a whole number`},
		{"bool", "store: {republish: yes}\n", `FILE:1: store.republish: "yes" is not true or false; allowed: true, false`},
		{"bool as number", "store: {republish: 1}\n", `FILE:1: store.republish: "1" is not true or false`},
		{"duration without unit", "freshness: {max_age: 60}\n", `FILE:1: freshness.max_age: "60" is not a duration; allowed: 100ms to 24h`},
		{"size", "store: {audit: {max_bytes: 1GX}}\n", `FILE:1: store.audit.max_bytes: "1GX" is not a size; allowed: 64KiB to 1024TiB`},
		{"size with a comma", "store: {audit: {max_bytes: '1,5GiB'}}\n", `"1,5GiB" is not a size`},
		{"negative size", "store: {audit: {max_bytes: -1}}\n", `"-1" is out of range`},
		{"sync zero", "nats: {sync: 0s}\n", `FILE:1: nats.sync: "0s" is not a duration; allowed: always, or`},
		{"sync long", "nats: {sync: 2h}\n", `FILE:1: nats.sync: "2h" is out of range`},
		{"late", "freshness: {late: drop}\n", `FILE:1: freshness.late: "drop" is none of them; allowed: keep, refuse`},
		{"late forgotten", "freshness: {max_late: 168h}\n", `FILE:1: freshness.max_late: "168h" and store.duplicate_window are together longer than store.vitals.max_age: what the stream has forgotten could be stored again; allowed: at most 167h50m`},
		{"nothing late", "freshness: {max_late: 60s}\n", `FILE:1: freshness.max_late: "1m" is not longer than freshness.max_age, so that nothing could be late; set freshness.late to refuse for that; allowed: more than 1m`},
		{"source with a password", "source: {url: 'mqtt://u:s3cret@broker'}\n", `FILE:1: source.url: the value has credentials in it; set source.user and source.password; allowed: mqtt://, mqtts://, ws:// or wss:// with a host, several separated by commas, user and password apart; empty for none`},
		{"source of another kind", "source: {url: 'nats://broker'}\n", `FILE:1: source.url: the value is not an MQTT URL; allowed: mqtt://, mqtts://, ws:// or wss:// with a host, several separated by commas, user and password apart; empty for none`},
		{"source topic", "source: {url: 'mqtt://broker', topics: [a/b+/c]}\n", `FILE:1: source.topics: the list has "a/b+/c", in which a wildcard is not a whole level, or # is not the last; allowed: a list of MQTT topic filters, such as wearables/+/vitals; empty for mqtt.topic`},
		{"shared source topic", "source: {url: 'mqtt://broker', topics: [$share/g/a]}\n", `FILE:1: source.topics: the list has "$share/g/a"; the group of a shared subscription is source.share; allowed: a list of MQTT topic filters, such as wearables/+/vitals; empty for mqtt.topic`},
		{"source without a broker", "source: {user: me}\n", `FILE:1: source.user: has no effect without source.url; set it (--mqtt-source), or leave this out`},
		{"address", "mqtt: {listen: localhost}\n", `FILE:1: mqtt.listen: "localhost" is not host:port; allowed: host:port`},
		{"port", "http: {listen: ':65536'}\n", `FILE:1: http.listen: ":65536" has no valid port`},
		{"topic without device", "mqtt: {topic: wearables/vitals}\n", `FILE:1: mqtt.topic: "wearables/vitals" does not have {device_id} as exactly one whole level`},
		{"topic with a part", "mqtt: {topic: 'w/d-{device_id}'}\n", `does not have {device_id} as exactly one whole level`},
		{"topic with two", "mqtt: {topic: '{device_id}/{device_id}'}\n", `does not have {device_id} as exactly one whole level`},
		{"topic with a part too", "mqtt: {topic: '{device_id}/x{device_id}'}\n", `does not have {device_id} as exactly one whole level`},
		{"topic wildcard", "mqtt: {topic: '+/{device_id}'}\n", `has a wildcard`},
		{"topic placeholder", "mqtt: {topic: '{patient}/{device_id}'}\n", `has another placeholder`},
		{"topic dollar", "mqtt: {topic: '$SYS/{device_id}'}\n", `begins with $`},
		{"topic NUL", "mqtt: {topic: \"a\\0/{device_id}\"}\n", `has a character that MQTT does not allow`},
		{"topic length", "mqtt: {topic: '{device_id}/" + strings.Repeat("abcdefgh", 20) + "'}\nlog: {level: x}\n", `FILE:2: log.level`},
		{"replicas", "store: {replicas: 2}\n", `FILE:1: store.replicas: "2" is none of them; allowed: 1, 3, 5`},
		{"replicas embedded", "store: {replicas: 3}\n", `FILE:1: store.replicas: more than one replica needs a cluster`},
		{"window", "store:\n  duplicate_window: 78s\n", `FILE:2: store.duplicate_window: "1m18s" is shorter than freshness.max_age`},
		{"window by max_age", "freshness: {max_age: 15m}\n", `default value: store.duplicate_window: "10m" is shorter than freshness.max_age + freshness.max_future + store.deadline + 2 * freshness.clock_tolerance; allowed: at least 15m19s`},
		{"window over retention", "store: {vitals: {max_age: 1m}}\n", `store.duplicate_window: "10m" is longer than store.vitals.max_age; allowed: at most 1m`},
		{"consumers text", "consumers: triage\n", `FILE:1: consumers: a single value is not a list; allowed: a list of different names`},
		{"consumers nested", "consumers: [[a]]\n", `FILE:1: consumers: a list in the list is not text`},
		{"consumers comma", "consumers: ['a,b']\n", `FILE:1: consumers: the list has an entry that is no name`},
		{"consumers twice", "consumers: [a, a]\n", `FILE:1: consumers: the list has "a" twice`},
		{"level", "log: {level: loud}\n", `FILE:1: log.level: "loud" is none of them; allowed: trace, debug, info, warn, error`},
		{"format", "log: {format: xml}\n", `FILE:1: log.format: "xml" is none of them; allowed: auto, json, console`},
		{"password embedded", "nats: {user: u, password: p}\n", `FILE:1: nats.user: has no effect on the embedded server`},
		{"two addresses", "nats:\n  url: nats://h\n  url_file: /f\n", `FILE:3: nats.url_file: cannot be used together with nats.url`},
		{"two masters", "keys:\n  master: '" + strings.Repeat("0", 64) + "'\n  master_file: /f\n", `FILE:3: keys.master_file: cannot be used together with keys.master`},
		{"user alone", "nats: {url: 'nats://h', user: u}\n", `FILE:1: nats.user: needs nats.password`},
		{"password alone", "nats: {url: 'nats://h', password: p}\n", `FILE:1: nats.password: needs nats.user`},
		{"two ways", "nats:\n  url: nats://h\n  token: t\n  creds_file: c\n", `FILE:4: nats.creds_file: cannot be used together with nats.token`},
		{"certificate alone", "nats: {url: 'nats://h', tls: {cert: c}}\n", `FILE:1: nats.tls.cert: needs nats.tls.key`},
		{"key alone", "nats: {url: 'nats://h', tls: {key: c}}\n", `FILE:1: nats.tls.key: needs nats.tls.cert`},
		{"URL", "nats: {url: 'http://h'}\n", `FILE:1: nats.url: the value is not a NATS URL; allowed: nats://`},
		{"mask", "nats: {url: 'nats://h', user: u, password: '****'}\n", `FILE:1: nats.password: the value holds the mask **** that`},
		{"masked URL", "nats: {url: 'nats://****@h'}\n", `FILE:1: nats.url: the value holds the mask`},
		{"masked master", "keys: {master: '****'}\n", `FILE:1: keys.master: the value holds the mask`},
		{"TLS without certificate", "mqtt: {tls: {listen: ':8883'}}\n", `FILE:1: mqtt.tls.listen: needs mqtt.tls.cert`},
		{"TLS certificate alone", "mqtt: {tls: {listen: ':8883', cert: c}}\n", `FILE:1: mqtt.tls.cert: needs mqtt.tls.key`},
		{"TLS certificate for nothing", "mqtt: {tls: {cert: c, key: k}}\n", `FILE:1: mqtt.tls.cert: has no effect without mqtt.tls.listen`},
		{"wss without certificate", "mqtt: {websocket: {listen: ':1', scheme: wss}}\n", `FILE:1: mqtt.websocket.scheme: wss needs mqtt.tls.cert`},
		{"scheme for nothing", "mqtt: {websocket: {scheme: wss}}\n", `FILE:1: mqtt.websocket.scheme: has no effect without mqtt.websocket.listen`},
		{"origins for nothing", "mqtt: {websocket: {origins: ['https://h']}}\n", `FILE:1: mqtt.websocket.origins: has no effect without`},
		{"origin with a path", "mqtt: {websocket: {listen: ':1', origins: ['https://h/']}}\n", `FILE:1: mqtt.websocket.origins: the list has an entry that is no origin`},
		{"origin without a scheme", "mqtt: {websocket: {listen: ':1', origins: [h]}}\n", `the list has an entry that is no origin`},
		{"balancer without a length", "mqtt: {proxy_protocol: [192.0.2.7]}\n", `FILE:1: mqtt.proxy_protocol: the list has an entry that is no CIDR block; allowed: a list of CIDR blocks`},
		{"balancer in IPv6's way", "mqtt: {proxy_protocol: ['10.0.0.0/8', '::ffff:10.0.0.0/104']}\n", `FILE:1: mqtt.proxy_protocol: the list has "::ffff:10.0.0.0/104", which is IPv4 written as IPv6; write it as IPv4, with a prefix shorter by 96; allowed`},
		{"client", "mqtt: {tls: {client: none}}\n", `FILE:1: mqtt.tls.client: "none" is none of them; allowed: password, certificate, both`},
		{"client without authority", "mqtt: {tls: {listen: ':1', cert: c, key: k, client: both}}\n", `FILE:1: mqtt.tls.client: needs mqtt.tls.client_ca`},
		{"authority for nothing", "mqtt: {tls: {listen: ':1', cert: c, key: k, client_ca: a}}\n", `FILE:1: mqtt.tls.client_ca: has no effect while`},
		{"client certificates without TLS", "mqtt: {tls: {client: both, client_ca: a}}\n", `FILE:1: mqtt.tls.client: has no effect without mqtt.tls.cert`},
		{"anonymous", "mqtt: {anonymous: true}\n", `FILE:1: mqtt.anonymous: "true" is none of them; allowed: refuse, loopback, force`},
		{"anonymous off loopback", "mqtt:\n  listen: 0.0.0.0:1883\n  anonymous: loopback\n", `FILE:3: mqtt.anonymous: would let everybody who reaches mqtt.listen in as any device without a password, and 0.0.0.0:1883 is not loopback`},
		{"anonymous everywhere", "mqtt: {listen: ':1883', anonymous: loopback}\n", `and :1883 is not loopback`},
		{"anonymous by name", "mqtt: {listen: 'ward:1883', anonymous: loopback}\n", `and ward:1883 is not loopback`},
		{"profiles off loopback", "http:\n  listen: 0.0.0.0:8080\n  pprof: true\n", `FILE:3: http.pprof: would serve profiles of the program to everybody who reaches http.listen, and 0.0.0.0:8080 is not loopback; listen on 127.0.0.1 (--http-listen), or leave it off`},
		{"anonymous on a second address", "mqtt: {anonymous: loopback, websocket: {listen: ':1'}}\n", `who reaches mqtt.websocket.listen in`},
		{"HTTP certificate alone", "http: {tls: {cert: c}}\n", `FILE:1: http.tls.cert: needs http.tls.key`},
		{"HTTP key alone", "http: {tls: {key: k}}\n", `FILE:1: http.tls.key: needs http.tls.cert`},
		{"UTF-8", "data: \xff\n", `FILE: the file is not valid UTF-8`},
		{"size of the file", strings.Repeat("#\n", maxFile/2+1), `FILE: the file is larger than 32KiB`},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := write(t, test.text)
			_, err := Load(Sources{File: file, Environ: []string{home}})
			wantError(t, err, strings.ReplaceAll(test.want, "FILE", file))
		})
	}
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %s", want)
	}
	if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got  %s\nwant %s", err, want)
	}
	if problem := (*Error)(nil); !errors.As(err, &problem) {
		t.Errorf("%T is no *Error", err)
	}
}

func TestErrorsElsewhere(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.yaml")
	for _, test := range []struct {
		name    string
		sources Sources
		want    string
	}{
		{"missing file", Sources{File: missing}, missing + ": the configuration file cannot be read: no such file or directory"},
		{"missing file by flag", Sources{Flags: parseFlags(t, "--config", missing)}, missing + ": the configuration file cannot be read"},
		{"missing file by variable", Sources{Environ: []string{"PULSEGATE_CONFIG=" + missing}}, missing + ": the configuration file cannot be read"},
		{"directory", Sources{File: t.TempDir()}, "cannot be read: is a directory"},
		{"unknown variable", Sources{Environ: []string{"PULSEGATE_MQTT_LISTN=x"}}, "environment variable PULSEGATE_MQTT_LISTN: unknown; allowed: for instance PULSEGATE_MQTT_LISTEN, "},
		{"variable of a verb", Sources{Environ: []string{"PULSEGATE_OPERATOR_URL=x"}}, "environment variable PULSEGATE_OPERATOR_URL: unknown"},
		{"a typed port", Sources{Environ: []string{"PULSEGATE_MQTT_PORT=1883"}}, "environment variable PULSEGATE_MQTT_PORT: unknown"},
		{"variable's type", Sources{Environ: []string{"PULSEGATE_MQTT_RECEIVE_MAXIMUM=abc"}}, `environment variable PULSEGATE_MQTT_RECEIVE_MAXIMUM: mqtt.receive_maximum: "abc" is not a whole number; allowed: 1 to 65535`},
		{"variable's value", Sources{Environ: []string{"PULSEGATE_LOG_LEVEL=loud"}}, `environment variable PULSEGATE_LOG_LEVEL: log.level: "loud" is none of them; allowed: trace`},
		{"profiles flag", Sources{Flags: parseFlags(t, "--http-listen=:8080", "--http-pprof")}, "flag --http-pprof: http.pprof: would serve profiles"},
		{"anonymous flag", Sources{Flags: parseFlags(t, "--mqtt-listen=:1", "--mqtt-anonymous")}, "flag --mqtt-anonymous: mqtt.anonymous: would let everybody"},
		{"variable's list", Sources{Environ: []string{"PULSEGATE_CONSUMERS=a, b"}}, "environment variable PULSEGATE_CONSUMERS: consumers: the list has an entry that is no name"},
		{"flag's value", Sources{Flags: parseFlags(t, "--log-level=loud")}, `flag --log-level: log.level: "loud" is none of them`},
		{"empty flag", Sources{Flags: parseFlags(t, "--mqtt-listen=")}, `flag --mqtt-listen: mqtt.listen: empty, and so are mqtt.tls.listen, mqtt.websocket.listen and source.url`},
		{"data directory", Sources{Flags: parseFlags(t, "--data=a\nb")}, "flag --data: data: the value has a control character"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.sources.Environ = append(test.sources.Environ, home)
			_, err := Load(test.sources)
			wantError(t, err, test.want)
		})
	}
	_, err := Load(Sources{})
	wantError(t, err, "data: there is no default")
}

func TestValidateAloneNamesTheKey(t *testing.T) {
	c := Default()
	c.MQTT.ReceiveMaximum = 0
	wantError(t, c.Validate(), `mqtt.receive_maximum: "0" is out of range; allowed: 1 to 65535`)
	c = Default()
	c.MQTT.Topic = devicePlaceholder + "/" + strings.Repeat("a", longestTopic)
	wantError(t, c.Validate(), "mqtt.topic: the value is too long")
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
}
