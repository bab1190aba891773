package monitor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"
)

// Server serves /healthz, /readyz and /metrics, and profiles if it is to.
type Server struct {
	http *http.Server
	tcp  net.Listener
}

// Options say how a Server is to work.
type Options struct {
	// Listen is the TCP address, host:port.
	Listen string
	// TLS makes it HTTPS; nil is plain HTTP.
	TLS *tls.Config
	// Profiles says whether /debug/pprof/ is there.
	Profiles Profiles
	Log      zerolog.Logger
}

// Profiles says whether the Go runtime's profiles are served. Whoever reaches
// them can slow the program down.
type Profiles bool

// Serve listens and serves. ready returns why the gate is not ready, or nil.
func Serve(o Options, m *Metrics, ready func() error) (*Server, error) {
	tcp, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("http: cannot listen on %s: %w; --http-listen chooses another address", o.Listen, err)
	}
	if o.TLS != nil {
		tcp = tls.NewListener(tcp, o.TLS)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, nil) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { answer(w, ready()) })
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	if o.Profiles {
		serveProfiles(mux)
	}
	s := &Server{tcp: tcp, http: &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute,
		ErrorLog: stdlog.New(debugLog{o.Log}, "", 0),
	}}
	go func() {
		if err := s.http.Serve(tcp); !errors.Is(err, http.ErrServerClosed) {
			o.Log.Error().Err(err).Msg("the HTTP server ended")
		}
	}()
	return s, nil
}

// serveProfiles leaves out the command line, which may hold a URL with a password.
func serveProfiles(mux *http.ServeMux) {
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
}

// debugLog turns the HTTP server's lines, which strangers cause, into details.
type debugLog struct{ zerolog.Logger }

// Write logs one line.
func (d debugLog) Write(line []byte) (int, error) {
	d.Debug().Msg(strings.TrimSpace(string(line)))
	return len(line), nil
}

func answer(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, err.Error()+"\n")
		return
	}
	_, _ = io.WriteString(w, "ok\n")
}

// Addr is the address that the server listens on.
func (s *Server) Addr() net.Addr { return s.tcp.Addr() }

// Close lets requests finish until ctx is done.
func (s *Server) Close(ctx context.Context) error { return s.http.Shutdown(ctx) }
