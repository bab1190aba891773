package engine

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/pulsegate/pulsegate/configs"
)

// readyTimeout bounds only the opening of the listener; recovering the streams is over before it starts to count.
const readyTimeout = 10 * time.Second

// embed starts the server in the data directory, connects as the gate and writes the other users' URL files.
func (e *Engine) embed(o Options) error {
	users, err := readUsers(o.Dir)
	if err != nil {
		return err
	}
	gate := rand.Text()
	opts, err := serverOptions(o, gate, users)
	if err != nil {
		return err
	}
	if _, err := CheckDisk(o.Dir, o.MaxStore); err != nil {
		return err
	}
	if err := e.start(opts, o); err != nil {
		return err
	}
	address := clientAddress(e.server.Addr())
	e.url = "nats://" + address
	e.conn, err = nats.Connect("", append(connectionOptions(o.Log),
		nats.InProcessServer(e.server), nats.UserInfo("gate", gate))...)
	if err != nil {
		return fmt.Errorf("connect to the embedded NATS server: %w", err)
	}
	return writeUsers(o.Dir, address, users)
}

func (e *Engine) start(opts *server.Options, o Options) error {
	srv, err := server.NewServer(opts)
	if err != nil {
		return fmt.Errorf("embedded NATS server: %w", err)
	}
	log := &serverLog{log: o.Log, fatal: make(chan error, 1)}
	log.starting.Store(true)
	defer log.starting.Store(false)
	srv.SetLoggerV2(log, false, false, false)
	e.server = srv
	srv.Start()
	if len(log.fatal) == 0 && srv.ReadyForConnections(readyTimeout) {
		return nil
	}
	select {
	case err := <-log.fatal:
		return startError(err, o)
	default:
		return fmt.Errorf("the embedded NATS server did not start within %s: see its messages in the log", readyTimeout)
	}
}

func startError(err error, o Options) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("NATS address %s is in use: stop what listens there, or give another with --nats-listen", o.listen())
	}
	return fmt.Errorf("the embedded NATS server (data in %s, address %s) cannot start: %w", o.Dir, o.listen(), err)
}

func (o Options) listen() string {
	if o.Listen == "" {
		return DefaultListen
	}
	return o.Listen
}

func serverOptions(o Options, gate string, users map[string]string) (*server.Options, error) {
	host, port, err := listenAddress(o.listen())
	if err != nil {
		return nil, err
	}
	opts := &server.Options{}
	if err := opts.ProcessConfigString(passwordVariables(gate, users) + configs.NATSAccounts()); err != nil {
		return nil, fmt.Errorf("accounts of the embedded NATS server: %w", err)
	}
	opts.ServerName = "pulsegate"
	opts.Host, opts.Port = host, port
	opts.NoSigs = true
	opts.JetStream = true
	opts.StoreDir = o.Dir
	opts.JetStreamMaxStore = o.MaxStore
	switch o.Sync {
	case "", "always":
		opts.SyncAlways = true
	default:
		if opts.SyncInterval, err = time.ParseDuration(o.Sync); err != nil || opts.SyncInterval <= 0 {
			return nil, fmt.Errorf("sync %q: give always or a duration above zero, such as 2m", o.Sync)
		}
	}
	return opts, nil
}

// passwordVariables defines what accounts.conf refers to. The passwords are letters, digits, "-" and "_" (readUsers
// sees to it), so quoting them is enough.
func passwordVariables(gate string, users map[string]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "GATE_PASSWORD: %q\n", gate)
	for _, name := range userNames() {
		fmt.Fprintf(&b, "%s_PASSWORD: %q\n", strings.ToUpper(name), users[name])
	}
	return b.String()
}

// listenAddress splits host:port; port 0 becomes the server's way of saying "a free one".
func listenAddress(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("NATS address %q: give host:port, such as %s", address, DefaultListen)
	}
	number, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("NATS address %q: the port is a number from 0 to 65535", address)
	}
	if number == 0 {
		return host, server.RANDOM_PORT, nil
	}
	return host, int(number), nil
}

// clientAddress is where a client on this machine reaches the listener: an unspecified address names no host.
func clientAddress(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return a.String()
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(tcp.Port))
}
