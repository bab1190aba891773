package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// consumerVariable names the environment variable that holds the consumer's
// NATS URL, the same as for pulsegate's verbs.
const consumerVariable = "PULSEGATE_CONSUMER_URL"

// consumerURL returns the URL that was given, in a file, or by the environment.
func consumerURL(given, file string) (string, error) {
	where := "--nats"
	switch {
	case given != "":
	case file != "":
		text, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("--nats-file: %w", err)
		}
		where, given = "--nats-file: "+file, strings.TrimSpace(string(text))
	default:
		where, given = "$"+consumerVariable, os.Getenv(consumerVariable)
		if given == "" {
			return "", fmt.Errorf("say where NATS is with --nats URL, --nats-file FILE or $%s; the service keeps the URL in consumer.url of its data directory", consumerVariable)
		}
	}
	if hosts(given) == "" {
		return "", fmt.Errorf("%s: not a NATS URL, as nats://consumer:PASSWORD@127.0.0.1:4222 is one", where)
	}
	return given, nil
}

// hosts returns host:port of one or several URLs, without their credentials,
// and nothing where one is no URL of NATS. Errors of net/url would quote it.
func hosts(urls string) string {
	var all []string
	for one := range strings.SplitSeq(urls, ",") {
		u, err := url.Parse(strings.TrimSpace(one))
		if err != nil || u.Host == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) {
			return ""
		}
		all = append(all, u.Host)
	}
	return strings.Join(all, ", ")
}

// dialConsumer connects. refuse is called when NATS does not permit something.
func dialConsumer(urls string, refuse context.CancelCauseFunc) (*nats.Conn, error) {
	refused := func(_ *nats.Conn, _ *nats.Subscription, err error) {
		if errors.Is(err, nats.ErrPermissionViolation) {
			refuse(fmt.Errorf("NATS at %s does not let this user read the stream of readings: give the consumer's URL", hosts(urls)))
		}
	}
	nc, err := nats.Connect(urls, nats.Name("device-sim settle"), nats.Timeout(5*time.Second), nats.ErrorHandler(refused))
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired):
		return nil, fmt.Errorf("NATS at %s refuses these credentials: give the consumer's URL", hosts(urls))
	case err != nil:
		return nil, fmt.Errorf("no NATS at %s: %w", hosts(urls), err)
	}
	return nc, nil
}
