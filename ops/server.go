package ops

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/covey-ml/covey/comm"
)

// Config says where a worker shows its numbers, and to whom.
type Config struct {
	// Addr is HOST:PORT. An empty host is loopback, and a port of 0 one that is free. Beyond loopback TLS or a Token is required.
	Addr string
	// TLS is the cluster's configuration, which has both sides show certificates; nil: none.
	TLS *tls.Config
	// Token is what a request must bring for all but /healthz and /readyz, as in "Authorization: Bearer TOKEN". Empty: none is
	// needed, and there are no profiles.
	Token string
	Meter *Meter       // required
	Log   *slog.Logger // hears of connections that went wrong; nil: nobody does
	Clock comm.Clock   // nil: the real one
}

// Deadlines and bounds of the server. Who connects is not trusted before he has shown something.
const (
	headerTime  = 5 * time.Second  // for a request to arrive, and for TLS to begin
	answerTime  = 10 * time.Second // for an answer to be taken; a profile has its own length more
	idleTime    = 60 * time.Second // between two requests of a connection: a scraper comes four times a minute
	mostHeader  = 8 << 10
	mostConns   = 64
	mostProfile = 300 // seconds
	leastToken  = 16  // characters
)

// EnvToken is the environment variable in which a token may stand.
const EnvToken = "COVEY_OPS_TOKEN"

// Server shows a worker over HTTP:
//
//	/healthz       200 while the process answers
//	/readyz        200 while it has a seat in a generation and steps go on, else 503 and why
//	/metrics       its numbers, as Prometheus reads them
//	/status        its Status, as JSON
//	/debug/pprof/  profiles; not there without a token
type Server struct {
	ln     net.Listener
	http   *http.Server
	scheme string
	ended  chan struct{}
}

// Serve listens, and answers until Close.
func Serve(ctx context.Context, c Config) (*Server, error) {
	host, port, err := net.SplitHostPort(c.Addr)
	if err != nil {
		return nil, fmt.Errorf("ops: %q is no address: expected HOST:PORT, as in 127.0.0.1:9090, or :9090 for loopback", c.Addr)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	if err := CheckToken(c.Token); err != nil {
		return nil, err
	}
	if c.TLS != nil && c.TLS.ClientAuth != tls.RequireAndVerifyClientCert && c.Token == "" {
		return nil, errors.New("ops: a TLS configuration that lets everybody in, and no token: give one of them")
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, fmt.Errorf("ops: %w", err)
	}
	if a, ok := ln.Addr().(*net.TCPAddr); c.TLS == nil && c.Token == "" && !(ok && a.IP.IsLoopback()) {
		ln.Close()
		return nil, fmt.Errorf("ops: %s is beyond loopback: give the cluster's certificates (--tls DIR), or a token (--ops-token FILE, or %s)", c.Addr, EnvToken)
	}
	return serve(ln, c), nil
}

// serve answers on a listener that is as the configuration wants it.
func serve(ln net.Listener, c Config) *Server {
	if c.Clock == nil {
		c.Clock = comm.RealClock()
	}
	s := &Server{ln: ln, scheme: "http", ended: make(chan struct{})}
	ln = &few{Listener: ln, free: make(chan struct{}, mostConns), closed: make(chan struct{})}
	errs := log.New(io.Discard, "", 0)
	if c.Log != nil {
		errs = slog.NewLogLogger(c.Log.Handler(), slog.LevelWarn)
	}
	s.http = &http.Server{Handler: handler(c), ReadHeaderTimeout: headerTime, ReadTimeout: headerTime, WriteTimeout: answerTime,
		IdleTimeout: idleTime, MaxHeaderBytes: mostHeader, ErrorLog: errs}
	if c.TLS != nil {
		conf := c.TLS.Clone()
		conf.NextProtos = []string{"http/1.1"} // HTTP/2 would put many requests on one of the few connections
		ln = tls.NewListener(ln, conf)
		s.scheme = "https"
	}
	c.Clock.Go(func() {
		s.http.Serve(ln)
		close(s.ended)
	})
	return s
}

// Addr is where the server listens.
func (s *Server) Addr() string { return s.ln.Addr().String() }

// URL is what to give covey top.
func (s *Server) URL() string { return s.scheme + "://" + s.Addr() }

// Close ends all connections and returns when the server has ended.
func (s *Server) Close() error {
	err := s.http.Close()
	<-s.ended
	return err
}

// CheckToken refuses a token that is easy to guess, or that fits into no header. An empty one is no token, and all right.
func CheckToken(token string) error {
	if token == "" {
		return nil
	}
	if len(token) < leastToken {
		return fmt.Errorf("ops: a token of %d characters is easy to guess: at least %d, as openssl rand -hex 16 makes them", len(token), leastToken)
	}
	for i := range len(token) {
		if token[i] <= ' ' || token[i] > '~' {
			return fmt.Errorf("ops: character %d of the token is none that a header can hold: use letters and digits", i+1)
		}
	}
	return nil
}

func handler(c Config) http.Handler {
	mux := http.NewServeMux()
	page := func(path string, f http.HandlerFunc) { mux.HandleFunc("GET "+path, f) }
	m := c.Meter
	page("/healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	page("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		ok, why := m.Ready()
		if !ok {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		fmt.Fprintln(w, why)
	})
	page("/metrics", only(c.Token, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		var b bytes.Buffer // as a whole, so that a slow reader does not hold what is read of the runtime
		m.WriteMetrics(&b)
		w.Write(b.Bytes())
	}))
	page("/status", only(c.Token, func(w http.ResponseWriter, _ *http.Request) {
		b, err := json.Marshal(m.whole())
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(append(b, '\n'))
	}))
	if c.Token != "" {
		page("/debug/pprof/", only(c.Token, brief(pprof.Index)))
		page("/debug/pprof/cmdline", only(c.Token, pprof.Cmdline))
		page("/debug/pprof/symbol", only(c.Token, pprof.Symbol))
		page("/debug/pprof/profile", only(c.Token, brief(pprof.Profile)))
		page("/debug/pprof/trace", only(c.Token, brief(pprof.Trace)))
	}
	return safe(mux, c.TLS == nil && c.Token == "")
}

// only lets a request through that brings the token. The comparison takes as long whatever is wrong with it.
func only(token string, f http.HandlerFunc) http.HandlerFunc {
	if token == "" {
		return f
	}
	want := sha256.Sum256([]byte(token))
	return func(w http.ResponseWriter, r *http.Request) {
		scheme, came, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		is := sha256.Sum256([]byte(came))
		if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(is[:], want[:]) != 1 {
			w.Header().Set("WWW-Authenticate", `Bearer realm="covey"`)
			http.Error(w, "this needs the token, as in: Authorization: Bearer TOKEN", http.StatusUnauthorized)
			return
		}
		f(w, r)
	}
}

// brief bounds how long a profile takes.
func brief(f http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if v := r.FormValue("seconds"); v != "" {
			if s, err := strconv.ParseFloat(v, 64); err != nil || !(s > 0 && s <= mostProfile) {
				http.Error(w, fmt.Sprintf("seconds is %.20q: expected a number up to %d", v, mostProfile), http.StatusBadRequest)
				return
			}
		}
		f(w, r)
	}
}

// safe sets the headers that keep a browser from making more of an answer than it is. Where whoever reaches the port may read, it
// also refuses requests that name another host: pages of other sites reach loopback by names of theirs.
func safe(next http.Handler, open bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		if open && !here(r.Host) {
			http.Error(w, "ask for this by the address 127.0.0.1, [::1] or localhost", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// here tells whether the host of a request is loopback, by name or number.
func here(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// few is a listener with a bound on its open connections; who comes when there are too many waits, until the deadlines have
// made room.
type few struct {
	net.Listener
	free   chan struct{}
	once   sync.Once
	closed chan struct{}
}

func (l *few) Accept() (net.Conn, error) {
	select {
	case l.free <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.free
		return nil, err
	}
	return &counted{Conn: c, free: l.free}, nil
}

func (l *few) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// counted is a connection that makes room when it is closed.
type counted struct {
	net.Conn
	once sync.Once
	free chan struct{}
}

func (c *counted) Close() error {
	c.once.Do(func() { <-c.free })
	return c.Conn.Close()
}
