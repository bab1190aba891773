package engine

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
)

// DefaultWait is how long Open waits for a remote server where Remote.Wait is zero: long enough for one that is
// starting beside the gate.
const DefaultWait = 10 * time.Second

const (
	retryPause     = 250 * time.Millisecond
	requestTimeout = 5 * time.Second
)

// Remote names a real NATS server and how the gate proves itself there. At most one of User, Token, NKeyFile and
// CredsFile is set; none where the URL carries credentials or TLS' client certificate is enough.
type Remote struct {
	// URL is one nats:// or tls:// URL, or several of one cluster separated by commas.
	URL string
	// URLFile, instead of URL, is a file that holds it with its credentials, readable by its owner only.
	URLFile string
	// User and Password log in by password, Token by token.
	User, Password, Token string
	// NKeyFile holds a user's NKey seed, CredsFile a user's JWT and seed.
	NKeyFile, CredsFile string
	TLS                 TLS
	// Wait bounds how long Open waits for the server. Zero is DefaultWait.
	Wait time.Duration
}

// TLS names PEM files: the authority that signed the server's certificate (empty: the system's authorities), and the
// gate's own certificate and key (both or neither). Setting any makes TLS mandatory.
type TLS struct {
	CA, Cert, Key string
}

// dial connects to the remote server and makes sure that it is one that Pulsegate can store in.
func (e *Engine) dial(ctx context.Context, o Options) (err error) {
	if e.conn, e.url, err = Connect(ctx, o.Remote, o.Log); err != nil {
		return err
	}
	return checkServer(e.conn, e.url)
}

// Connect reaches a server and logs in, and does no more. It returns the URL without credentials too. Each error is one
// line that says what to do.
func Connect(ctx context.Context, r Remote, log zerolog.Logger) (conn *nats.Conn, clean string, err error) {
	if r, err = r.addressed(); err != nil {
		return nil, "", err
	}
	if clean, err = withoutCredentials(r.URL); err != nil {
		return nil, "", err
	}
	login, err := r.login()
	if err != nil {
		return nil, "", err
	}
	wait := r.Wait
	if wait == 0 {
		wait = DefaultWait
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if conn, err = connect(ctx, r.URL, append(connectionOptions(log), login...)); err != nil {
		return nil, "", connectError(clean, wait, err)
	}
	return conn, clean, nil
}

// addressed returns the remote with the URL that its file holds, read once here, so that a wrong file is named.
func (r Remote) addressed() (Remote, error) {
	if r.URLFile == "" {
		return r, nil
	}
	text, err := readPrivate(r.URLFile)
	if err != nil {
		return r, fmt.Errorf("file of the NATS URL: %w", err)
	}
	if r.URL = text; text == "" {
		return r, fmt.Errorf("file of the NATS URL: %s is empty: it holds nats://USER:PASSWORD@HOST:PORT", r.URLFile)
	}
	return r, nil
}

// connect tries until the context ends, except where trying again cannot help.
func connect(ctx context.Context, urls string, options []nats.Option) (*nats.Conn, error) {
	deadline, _ := ctx.Deadline()
	last := nats.ErrTimeout
	for time.Now().Before(deadline) && ctx.Err() == nil {
		timeout := min(time.Until(deadline), requestTimeout)
		conn, err := nats.Connect(urls, append(options, nats.Timeout(timeout))...)
		if err == nil {
			return conn, nil
		}
		if last = err; !passing(err) {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryPause):
		}
	}
	return nil, last
}

// passing reports whether the failure is of the network, such as a server that is still starting. A refused login or a
// certificate that does not verify stays so.
func passing(err error) bool {
	if tlsAlert(err) {
		return false
	}
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, nats.ErrNoServers) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, io.EOF)
}

// tlsAlert reports whether the server ended the handshake. By then it has shown its own certificate, so what it
// refuses is the gate's.
func tlsAlert(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error"
}

func connectError(clean string, wait time.Duration, err error) error {
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked):
		return fmt.Errorf("NATS at %s refused the credentials (%w): check the user and password, token, NKey or creds file", clean, err)
	case untrusted && strings.Contains(err.Error(), "expired"):
		return fmt.Errorf("NATS at %s has a certificate that does not verify (%w): give it a new one, or set the clock that is wrong", clean, err)
	case untrusted:
		return fmt.Errorf("NATS at %s has a certificate that does not verify (%w): give the authority that signed it", clean, err)
	case tlsAlert(err):
		return fmt.Errorf("NATS at %s refused the TLS connection (%w): give a client certificate and key that its authority signed", clean, err)
	case errors.Is(err, nats.ErrSecureConnWanted):
		return fmt.Errorf("NATS at %s offers no TLS, which the gate was told to use: enable it there, or give neither tls:// nor certificates", clean)
	case passing(err):
		return fmt.Errorf("NATS at %s cannot be reached within %s (%w): check the address and that the server runs", clean, wait, err)
	}
	return fmt.Errorf("connect to NATS at %s: %w", clean, err)
}

// withoutCredentials checks the URLs and leaves their user parts out. Its errors quote nothing that may be secret.
func withoutCredentials(urls string) (string, error) {
	var clean []string
	for text := range strings.SplitSeq(urls, ",") {
		text = strings.TrimSpace(text)
		if !strings.Contains(text, "://") {
			text = "nats://" + text
		}
		u, err := url.Parse(text)
		if err != nil || u.Hostname() == "" {
			return "", errors.New("the NATS URL is not one: give nats://HOST:PORT or tls://HOST:PORT, several separated by commas")
		}
		switch u.Scheme {
		case "nats", "tls", "ws", "wss":
		default:
			return "", fmt.Errorf("the NATS URL begins with %s://: give nats://HOST:PORT or tls://HOST:PORT", u.Scheme)
		}
		clean = append(clean, u.Scheme+"://"+u.Host)
	}
	return strings.Join(clean, ","), nil
}

// login turns the credentials into options, each file read once here, so that a wrong one is named.
func (r Remote) login() ([]nats.Option, error) {
	// A server that refuses a good login for a while, such as one whose accounts are being reloaded, must not end the
	// reconnecting.
	options := []nats.Option{nats.IgnoreAuthErrorAbort()}
	var given []string
	if strings.Contains(r.URL, "@") {
		given = append(given, "part of the URL")
	}
	if r.User != "" {
		given = append(given, "user")
		options = append(options, nats.UserInfo(r.User, r.Password))
	}
	if r.Token != "" {
		given = append(given, "token")
		options = append(options, nats.Token(r.Token))
	}
	if r.NKeyFile != "" {
		given = append(given, "NKey file")
		option, err := nats.NkeyOptionFromSeed(r.NKeyFile)
		if err != nil {
			return nil, fmt.Errorf("NKey file %s: %w; give the file with the user's seed (SU...)", r.NKeyFile, plain(err))
		}
		options = append(options, option)
	}
	if r.CredsFile != "" {
		given = append(given, "creds file")
		if err := readable(r.CredsFile); err != nil {
			return nil, fmt.Errorf("creds file: %w; give the file that nsc made for the gate's user", err)
		}
		options = append(options, nats.UserCredentials(r.CredsFile))
	}
	if len(given) > 1 {
		return nil, fmt.Errorf("NATS credentials given as %s: give one of them", strings.Join(given, " and "))
	}
	secured, err := r.TLS.options()
	return append(options, secured...), err
}

func (t TLS) options() ([]nats.Option, error) {
	var options []nats.Option
	if (t.Cert == "") != (t.Key == "") {
		return nil, errors.New("NATS TLS: a client certificate needs its key, and a key its certificate: give both or neither")
	}
	for _, path := range []string{t.CA, t.Cert, t.Key} {
		if err := readable(path); path != "" && err != nil {
			return nil, fmt.Errorf("NATS TLS: %w; give a PEM file that this user may read", err)
		}
	}
	if t.CA != "" {
		options = append(options, nats.RootCAs(t.CA))
	}
	if t.Cert != "" {
		options = append(options, nats.ClientCert(t.Cert, t.Key))
	}
	return options, nil
}

func readable(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return file.Close()
}

// plain drops the path, which the caller names, and anything that might quote the seed.
func plain(err error) error {
	if path, ok := errors.AsType[*os.PathError](err); ok {
		return path.Err
	}
	return errors.New("no NKey seed in it")
}
