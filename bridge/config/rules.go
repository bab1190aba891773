package config

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// devicePlaceholder is the level of MQTT.Topic that stands for the device.
const devicePlaceholder = "{device_id}"

// longestTopic is in bytes: MQTT 5, 1.5.4 bounds a string to 65535, and an id is at most 64.
const longestTopic = 65535 - 64

// rule is what one setting may be, whatever the others are.
type rule struct {
	allowed string
	// check returns the problem in words that follow the value, or "". It is given the setting's own type.
	check func(value any) string
}

// rules has one rule for each leaf.
func rules() map[string]rule {
	const (
		tick = Duration(100 * time.Millisecond) // the least that JetStream takes for an age or a window
		hour = Duration(time.Hour)
		year = 365 * 24 * hour
	)
	return map[string]rule{
		"data":                             text("a directory; empty for the default"),
		"mqtt.listen":                      optionalAddress(),
		"mqtt.topic":                       {"MQTT topic levels, one of them exactly " + devicePlaceholder + ", without wildcards", checkTopic},
		"mqtt.max_connections":             between(1, 10_000_000),
		"mqtt.max_connections_per_address": between(1, 10_000_000),
		"mqtt.proxy_protocol":              {"a list of CIDR blocks, such as 10.0.0.0/8 or 192.0.2.7/32", checkBlocks},
		"mqtt.receive_maximum":             between(1, 65_535),
		"mqtt.in_flight":                   between(1, 10_000_000),
		"mqtt.in_flight_bytes":             between(16*KiB, 1*TiB),
		"mqtt.anonymous":                   oneOf(AnonymousRefuse, AnonymousLoopback, AnonymousForce),
		"mqtt.tls.listen":                  optionalAddress(),
		"mqtt.tls.cert":                    text("a file's path"),
		"mqtt.tls.key":                     text("a file's path"),
		"mqtt.tls.client":                  oneOf(ClientPassword, ClientCertificate, ClientBoth),
		"mqtt.tls.client_ca":               text("a file's path"),
		"mqtt.websocket.listen":            optionalAddress(),
		"mqtt.websocket.scheme":            oneOf(SchemePlain, SchemeSecure),
		"mqtt.websocket.origins":           {"a list of origins, such as https://ward.example.org or http://localhost:3000", checkOrigins},
		"source.url":                       {"mqtt://, mqtts://, ws:// or wss:// with a host, several separated by commas, user and password apart; empty for none", checkBroker},
		"source.topics":                    {"a list of MQTT topic filters, such as wearables/+/vitals; empty for mqtt.topic", checkFilters},
		"source.share":                     {"1 to 64 letters, digits, _ or -; empty for no shared subscription", checkShare},
		"source.client_id":                 text("an MQTT client identifier, the replica's own; empty for one made from the host's name"),
		"source.user":                      text("text"),
		"source.password":                  {"text", checkSecret},
		"source.tls.ca":                    text("a file's path"),
		"source.tls.cert":                  text("a file's path"),
		"source.tls.key":                   text("a file's path"),
		"limits.device_rate":               between(1, 1_000_000),
		"limits.device_burst":              between(1, 10_000_000),
		"limits.address_rate":              between(1, 10_000_000),
		"limits.address_burst":             between(1, 100_000_000),
		"limits.forged_rate":               between(1, 10_000_000),
		"limits.lockout_after":             between(1, 1_000_000),
		"limits.lockout":                   between(tick, 24*hour),
		"limits.rejection_rate":            between(1, 100_000),
		"http.listen":                      address(),
		"http.pprof":                       truth(),
		"http.tls.cert":                    text("a file's path"),
		"http.tls.key":                     text("a file's path"),
		"keys.master":                      {"the text of a master key file: lines of 64 hexadecimal digits, each with or without an id before them", checkMaster},
		"keys.master_file":                 text("a file's path"),
		"freshness.max_age":                between(tick, 24*hour),
		"freshness.max_future":             between(Duration(0), hour),
		"freshness.late":                   oneOf(LateKeep, LateRefuse),
		"freshness.max_late":               between(tick, 100*year),
		"freshness.clock_tolerance":        between(Duration(time.Millisecond), hour),
		"presence.silent_after":            offOr(between(tick, 30*24*hour)),
		"presence.refused_after":           offOr(between(tick, 30*24*hour)),
		"presence.clock_drift":             offOr(between(tick, 24*hour)),
		"replay_memory.max_readings":       between(1, 1_000_000_000),
		"nats.url":                         {"nats://, tls://, ws:// or wss:// with a host, several separated by commas; empty for the embedded server", checkURL},
		"nats.url_file":                    text("a file's path"),
		"nats.listen":                      address(),
		"nats.sync":                        {"always, or a duration from 1ms to 1h", checkSync},
		"nats.user":                        text("text"),
		"nats.password":                    {"text", checkSecret},
		"nats.token":                       {"text", checkSecret},
		"nats.nkey_file":                   text("a file's path"),
		"nats.creds_file":                  text("a file's path"),
		"nats.tls.ca":                      text("a file's path"),
		"nats.tls.cert":                    text("a file's path"),
		"nats.tls.key":                     text("a file's path"),
		"store.deadline":                   between(tick, hour),
		"store.unavailable_after":          between(tick, hour),
		"store.republish":                  truth(),
		"store.replicas":                   oneOf(1, 3, 5),
		"store.duplicate_window":           between(tick, year),
		"store.vitals.max_bytes":           between(64*KiB, 1024*TiB),
		"store.vitals.max_age":             between(tick, 100*year),
		"store.rejections.max_bytes":       between(64*KiB, 1024*TiB),
		"store.rejections.max_age":         between(tick, 100*year),
		"store.audit.max_bytes":            between(64*KiB, 1024*TiB),
		"store.audit.max_age":              between(tick, 100*year),
		"store.devices.max_bytes":          between(64*KiB, 1024*TiB),
		"consumers":                        {"a list of different names, each of 1 to 64 letters, digits, _ or -", checkConsumers},
		"log.level":                        oneOf("trace", "debug", "info", "warn", "error"),
		"log.format":                       oneOf(FormatAuto, FormatJSON, FormatConsole),
	}
}

func between[T cmp.Ordered](least, most T) rule {
	allowed := fmt.Sprintf("%v to %v", least, most)
	return rule{allowed, func(value any) string {
		if v := value.(T); v < least || v > most {
			return "is out of range"
		}
		return ""
	}}
}

func oneOf[T comparable](values ...T) rule {
	var names []string
	for _, v := range values {
		names = append(names, fmt.Sprint(v))
	}
	return rule{strings.Join(names, ", "), func(value any) string {
		if !slices.Contains(values, value.(T)) {
			return "is none of them"
		}
		return ""
	}}
}

// offOr allows 0 besides, for never.
func offOr(r rule) rule {
	return rule{"0s for never, or " + r.allowed, func(value any) string {
		if value == Duration(0) {
			return ""
		}
		return r.check(value)
	}}
}

// truth needs no check: what is neither is not set.
func truth() rule { return rule{"true, false", func(any) string { return "" }} }

func text(allowed string) rule {
	return rule{allowed, func(value any) string {
		if strings.ContainsFunc(value.(string), unicode.IsControl) {
			return "has a control character"
		}
		return ""
	}}
}

func address() rule {
	return rule{"host:port with a port from 0 to 65535, such as 127.0.0.1:1883", checkAddress}
}

func optionalAddress() rule {
	return rule{address().allowed + "; empty for none", func(value any) string {
		if value == "" {
			return ""
		}
		return checkAddress(value)
	}}
}

func checkAddress(value any) string {
	_, port, err := net.SplitHostPort(value.(string))
	if err != nil {
		return "is not host:port"
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "has no valid port"
	}
	return ""
}

func checkTopic(value any) string {
	topic := value.(string)
	rest := strings.ReplaceAll(topic, devicePlaceholder, "")
	levels := slices.DeleteFunc(strings.Split(topic, "/"), func(level string) bool { return level != devicePlaceholder })
	switch {
	case len(levels) != 1 || strings.Count(topic, devicePlaceholder) != 1:
		return "does not have " + devicePlaceholder + " as exactly one whole level"
	case strings.ContainsAny(rest, "{}"):
		return "has another placeholder than " + devicePlaceholder
	case strings.ContainsAny(topic, "+#"):
		return "has a wildcard"
	case strings.HasPrefix(topic, "$"):
		return "begins with $, which MQTT keeps for servers"
	case !utf8.ValidString(topic), strings.ContainsFunc(topic, unicode.IsControl):
		return "has a character that MQTT does not allow"
	case len(topic) > longestTopic:
		return "is too long"
	}
	return ""
}

func checkURL(value any) string {
	servers := value.(ServerURL)
	if servers == "" {
		return ""
	}
	if strings.Contains(string(servers), mask) {
		return masked
	}
	for server := range strings.SplitSeq(string(servers), ",") {
		if _, ok := parseServer(server); !ok {
			return "is not a NATS URL"
		}
	}
	return ""
}

// masked is for those who use the output of `pulsegate config` as their file.
const masked = "holds the mask " + mask + " that `pulsegate config` prints in place of a secret"

func checkSecret(value any) string {
	if string(value.(Secret)) == mask {
		return masked
	}
	if strings.ContainsFunc(string(value.(Secret)), unicode.IsControl) {
		return "has a control character"
	}
	return ""
}

// checkMaster leaves the text to the registry, but for what cannot be one.
func checkMaster(value any) string {
	lines := strings.NewReplacer("\n", "", "\r", "", "\t", "").Replace(string(value.(Secret)))
	return checkSecret(Secret(lines))
}

func checkOrigins(value any) string {
	for _, text := range value.([]string) {
		origin, err := url.Parse(text)
		// Whatever is more than scheme and host never equals what browsers send.
		if err != nil || origin.Scheme != "http" && origin.Scheme != "https" || origin.Hostname() == "" || text != origin.Scheme+"://"+origin.Host {
			return "has an entry that is no origin"
		}
	}
	return ""
}

func checkBlocks(value any) string {
	for _, text := range value.([]string) {
		block, err := netip.ParsePrefix(text)
		switch {
		case err != nil:
			return "has an entry that is no CIDR block"
		case block.Addr().Is4In6():
			// Addresses are compared as IPv4, so it would never match.
			return "has " + strconv.Quote(text) + ", which is IPv4 written as IPv6; write it as IPv4, with a prefix shorter by 96"
		}
	}
	return ""
}

func checkSync(value any) string {
	interval := value.(Sync)
	if interval != SyncAlways && (interval < Sync(time.Millisecond) || interval > Sync(time.Hour)) {
		return "is out of range"
	}
	return ""
}

var consumerName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func checkConsumers(value any) string {
	seen := map[string]bool{}
	for _, name := range value.([]string) {
		if !consumerName.MatchString(name) {
			return "has an entry that is no name"
		}
		if seen[name] {
			return "has " + strconv.Quote(name) + " twice"
		}
		seen[name] = true
	}
	return ""
}
