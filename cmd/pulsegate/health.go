package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const (
	// healthLimit bounds the whole question, below what container engines and
	// orchestrators usually allow for one.
	healthLimit = 2 * time.Second
	// longestReason bounds what is shown of the answer, in bytes.
	longestReason = 1024
	// healthAgain is how long after one answer the next is asked for.
	healthAgain = 250 * time.Millisecond
)

func newHealth() *cobra.Command {
	var address string
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "health [--http ADDR] [--wait DURATION]",
		Short: "Ask a running service whether it is ready",
		Long: `Ask a running service whether it is ready, as its /readyz says. The exit status is 0
only if it is. Meant for health checks where there is no other client, as in the
container image, and with --wait for what must not begin sooner.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			scheme := "http"
			if address == "" {
				c, err := loadConfig(cmd)
				if err != nil {
					return err
				}
				address = c.HTTP.Listen
				if c.HTTP.TLS.Cert != "" {
					scheme = "https"
				}
			}
			if err := awaitReady(cmd.Context(), wait, scheme, reachable(address)); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "ready")
			return err
		},
	}
	cmd.Flags().StringVar(&address, "http", "", "the service's HTTP `address`, host:port (default http.listen of the configuration)")
	cmd.Flags().DurationVar(&wait, "wait", 0, "how long to ask again until it is ready (default ask once)")
	cmd.Flags().String("config", "", "YAML `file` of the service (or $PULSEGATE_CONFIG)")
	return cmd
}

// reachable makes of an address to listen on one to connect to: an unspecified
// host names none.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort("localhost", port)
	}
	return address
}

// awaitReady asks until the service is ready or the time is over, and at least
// once. Its error is then the last answer.
func awaitReady(ctx context.Context, wait time.Duration, scheme, address string) error {
	over := time.After(wait)
	for {
		err := askReady(ctx, scheme, address)
		if err == nil {
			return nil
		}
		select {
		case <-over:
			return err
		case <-ctx.Done():
			return err
		case <-time.After(healthAgain):
		}
	}
}

func askReady(ctx context.Context, scheme, address string) error {
	ctx, cancel := context.WithTimeout(ctx, healthLimit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+address+"/readyz", nil)
	if err != nil {
		return fmt.Errorf("--http %q: give host:port", address)
	}
	// A proxy of the environment would answer for the service.
	client := http.Client{Transport: &http.Transport{
		// It asks its own host by an address that no certificate names, and tells
		// no secret.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}}
	answer, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("no Pulsegate answers at %s (%w): start it with `pulsegate serve`", address, err)
	}
	defer answer.Body.Close()
	reason, err := io.ReadAll(io.LimitReader(answer.Body, longestReason))
	switch {
	case answer.StatusCode == http.StatusOK:
		return nil
	case err != nil || answer.StatusCode != http.StatusServiceUnavailable:
		return fmt.Errorf("what answers at %s is no Pulsegate: HTTP status %s", address, answer.Status)
	}
	return fmt.Errorf("not ready: %s", strings.TrimSpace(string(reason)))
}
