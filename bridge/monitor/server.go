package monitor

import (
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"
)

// Server serves /healthz, /readyz and /metrics.
type Server struct {
	http *http.Server
	tcp  net.Listener
}

// Serve listens and serves. ready returns why the gate is not ready, or nil.
func Serve(listen string, m *Metrics, ready func() error, log zerolog.Logger) (*Server, error) {
	tcp, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("http: cannot listen on %s: %w; --http-listen chooses another address", listen, err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, nil) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { answer(w, ready()) })
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	s := &Server{tcp: tcp, http: &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute,
		ErrorLog: stdlog.New(log, "", 0),
	}}
	go func() {
		if err := s.http.Serve(tcp); !errors.Is(err, http.ErrServerClosed) {
			log.Error().Err(err).Msg("the HTTP server ended")
		}
	}()
	return s, nil
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
