package config

import "fmt"

// Validate checks each setting, and then those that depend on one another. Its error is an *Error for the first problem.
func (c Config) Validate() error {
	allRules := rules()
	for _, l := range leaves() {
		value := l.value(&c).Interface()
		if problem := allRules[l.key].check(value); problem != "" {
			return &Error{Key: l.key, Problem: shown(l, value) + " " + problem, Allowed: allRules[l.key].allowed}
		}
	}
	for _, check := range []func(Config) *Error{oneOfTwo, embedded, authentication, certificates, window, lateness, source, listeners, clients, webSocket, anonymous, profiles} {
		if problem := check(c); problem != nil {
			return problem
		}
	}
	return nil
}

func shown(l leaf, value any) string {
	if l.list() {
		return "the list"
	}
	return quote(l, fmt.Sprint(value))
}

// oneOfTwo refuses two that may differ.
func oneOfTwo(c Config) *Error {
	if c.NATS.URL != "" && c.NATS.URLFile != "" {
		return &Error{Key: "nats.url_file", Problem: "cannot be used together with nats.url; set one of them"}
	}
	if c.Keys.Master != "" && c.Keys.MasterFile != "" {
		return &Error{Key: "keys.master_file", Problem: "cannot be used together with keys.master; set one of them"}
	}
	return nil
}

// embedded refuses what only a server of one's own can do, instead of ignoring it.
func embedded(c Config) *Error {
	if c.NATS.URL != "" || c.NATS.URLFile != "" {
		return nil
	}
	for _, setting := range []struct{ key, value string }{
		{"nats.user", c.NATS.User},
		{"nats.password", string(c.NATS.Password)},
		{"nats.token", string(c.NATS.Token)},
		{"nats.nkey_file", c.NATS.NkeyFile},
		{"nats.creds_file", c.NATS.CredsFile},
		{"nats.tls.ca", c.NATS.TLS.CA},
		{"nats.tls.cert", c.NATS.TLS.Cert},
		{"nats.tls.key", c.NATS.TLS.Key},
	} {
		if setting.value != "" {
			return &Error{Key: setting.key, Problem: "has no effect on the embedded server, which makes its own credentials; set nats.url or nats.url_file too, or leave it out"}
		}
	}
	if c.Store.Replicas != 1 {
		return &Error{Key: "store.replicas", Problem: "more than one replica needs a cluster, and the embedded server is alone; set nats.url or nats.url_file, or use 1"}
	}
	return nil
}

// authentication allows one way to log in.
func authentication(c Config) *Error {
	if c.NATS.User != "" && c.NATS.Password == "" {
		return &Error{Key: "nats.user", Problem: "needs nats.password"}
	}
	if c.NATS.Password != "" && c.NATS.User == "" {
		return &Error{Key: "nats.password", Problem: "needs nats.user"}
	}
	first := ""
	for _, way := range []struct{ key, value string }{
		{"nats.user", c.NATS.User},
		{"nats.token", string(c.NATS.Token)},
		{"nats.nkey_file", c.NATS.NkeyFile},
		{"nats.creds_file", c.NATS.CredsFile},
	} {
		if way.value != "" && first != "" {
			return &Error{Key: way.key, Problem: "cannot be used together with " + first + "; set one of them"}
		}
		if way.value != "" {
			first = way.key
		}
	}
	return nil
}

// certificates come with their keys.
func certificates(c Config) *Error {
	for _, pair := range []struct{ section, cert, key string }{
		{"nats.tls", c.NATS.TLS.Cert, c.NATS.TLS.Key},
		{"mqtt.tls", c.MQTT.TLS.Cert, c.MQTT.TLS.Key},
		{"source.tls", c.Source.TLS.Cert, c.Source.TLS.Key},
		{"http.tls", c.HTTP.TLS.Cert, c.HTTP.TLS.Key},
	} {
		if pair.cert != "" && pair.key == "" {
			return &Error{Key: pair.section + ".cert", Problem: "needs " + pair.section + ".key"}
		}
		if pair.key != "" && pair.cert == "" {
			return &Error{Key: pair.section + ".key", Problem: "needs " + pair.section + ".cert"}
		}
	}
	return nil
}

// window keeps JetStream's memory at least as long as a copy of a reading could still pass the check of freshness.
func window(c Config) *Error {
	const key = "store.duplicate_window"
	least := c.Freshness.MaxAge + c.Freshness.MaxFuture + c.Store.Deadline + 2*c.Freshness.ClockTolerance
	if c.Store.DuplicateWindow < least {
		return &Error{
			Key:     key,
			Problem: fmt.Sprintf("%q is shorter than freshness.max_age + freshness.max_future + store.deadline + 2 * freshness.clock_tolerance", c.Store.DuplicateWindow),
			Allowed: fmt.Sprintf("at least %v", least),
		}
	}
	if c.Store.DuplicateWindow > c.Store.Vitals.MaxAge {
		return &Error{
			Key:     key,
			Problem: fmt.Sprintf("%q is longer than store.vitals.max_age", c.Store.DuplicateWindow),
			Allowed: fmt.Sprintf("at most %v", c.Store.Vitals.MaxAge),
		}
	}
	return nil
}

// lateness keeps late readings within what the stream retains, by which they are known to be new.
func lateness(c Config) *Error {
	const key = "freshness.max_late"
	switch {
	case c.Freshness.Late != LateKeep:
		return nil
	case c.Freshness.MaxLate <= c.Freshness.MaxAge:
		return &Error{Key: key, Problem: fmt.Sprintf("%q is not longer than freshness.max_age, so that nothing could be late; set freshness.late to refuse for that", c.Freshness.MaxLate), Allowed: fmt.Sprintf("more than %v", c.Freshness.MaxAge)}
	case c.Freshness.MaxLate+c.Store.DuplicateWindow > c.Store.Vitals.MaxAge:
		// A copy may have been stored somewhat before its timestamp, and be stored
		// again somewhat after it was judged: the window is longer than both.
		return &Error{Key: key, Problem: fmt.Sprintf("%q and store.duplicate_window are together longer than store.vitals.max_age: what the stream has forgotten could be stored again", c.Freshness.MaxLate), Allowed: fmt.Sprintf("at most %v", c.Store.Vitals.MaxAge-c.Store.DuplicateWindow)}
	}
	return nil
}

// profiles keeps what a program's inside looks like, and the right to slow it down by looking, to this machine.
func profiles(c Config) *Error {
	if !c.HTTP.Pprof || loopback(c.HTTP.Listen) {
		return nil
	}
	return &Error{
		Key:     "http.pprof",
		Problem: "would serve profiles of the program to everybody who reaches http.listen, and " + c.HTTP.Listen + " is not loopback; listen on 127.0.0.1 (--http-listen), or leave it off",
	}
}
