package config

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// checkBroker wants credentials apart: a URL is shown in logs.
func checkBroker(value any) string {
	brokers := value.(ServerURL)
	if brokers == "" {
		return ""
	}
	for broker := range strings.SplitSeq(string(brokers), ",") {
		parsed, err := url.Parse(strings.TrimSpace(broker))
		switch {
		case err != nil || parsed.Hostname() == "" || !slices.Contains([]string{"mqtt", "mqtts", "ws", "wss"}, parsed.Scheme):
			return "is not an MQTT URL"
		case parsed.User != nil:
			return "has credentials in it; set source.user and source.password"
		}
	}
	return ""
}

// checkFilters holds each to MQTT 5, 4.7.
func checkFilters(value any) string {
	for _, filter := range value.([]string) {
		levels := strings.Split(filter, "/")
		for i, level := range levels {
			if strings.ContainsAny(level, "+#") && (len(level) > 1 || level == "#" && i < len(levels)-1) {
				return "has " + strconv.Quote(filter) + ", in which a wildcard is not a whole level, or # is not the last"
			}
		}
		switch {
		case filter == "" || !utf8.ValidString(filter) || strings.ContainsFunc(filter, unicode.IsControl):
			return "has an entry that is no topic filter"
		case levels[0] == "$share":
			return "has " + strconv.Quote(filter) + "; the group of a shared subscription is source.share"
		}
	}
	return ""
}

func checkShare(value any) string {
	if name := value.(string); name != "" && !consumerName.MatchString(name) {
		return "is no name"
	}
	return ""
}

// source refuses what has no effect without a broker.
func source(c Config) *Error {
	s := c.Source
	if s.URL == "" {
		for _, setting := range []struct{ key, value string }{
			{"source.topics", strings.Join(s.Topics, ",")},
			{"source.share", s.Share},
			{"source.client_id", s.ClientID},
			{"source.user", s.User},
			{"source.password", string(s.Password)},
			{"source.tls.ca", s.TLS.CA},
			{"source.tls.cert", s.TLS.Cert},
		} {
			if setting.value != "" {
				return &Error{Key: setting.key, Problem: "has no effect without source.url; set it (--mqtt-source), or leave this out"}
			}
		}
		return nil
	}
	if s.Password != "" && s.User == "" {
		return &Error{Key: "source.password", Problem: "needs source.user [MQTT-3.1.2-22]"}
	}
	if s.TLS != (TLS{}) && !strings.Contains(string(s.URL), "mqtts://") && !strings.Contains(string(s.URL), "wss://") {
		return &Error{Key: "source.tls", Problem: "has no effect without TLS; let source.url begin with mqtts:// or wss://, or leave it out"}
	}
	return nil
}
