package ops

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/common/expfmt"
	names "github.com/prometheus/common/model"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/pki"
	"github.com/covey-ml/covey/train"
)

const token = "correct-horse-battery"

func training(run string) *Meter {
	m := NewMeter(run, comm.RealClock(), Limits{})
	m.Sit(Seat{Generation: 1, Rank: 0, Workers: 2})
	e := m.Events(train.Events{})
	e.Start(train.StartInfo{Steps: 10})
	e.Step(train.StepInfo{Step: 1, Samples: 8, Loss: 2})
	e.Checkpoint(train.CheckpointInfo{Step: 1, Err: errors.New("disk full")})
	return m
}

func start(t *testing.T, c Config) *Server {
	t.Helper()
	s, err := Serve(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// get asks for a page, with a header when one is given, and returns its status and text.
func get(t *testing.T, client *http.Client, url string, header ...string) (int, string, http.Header) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
		req.Header.Set(header[i], header[i+1])
	}
	r, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(b), r.Header
}

func TestPages(t *testing.T) {
	m := training("digits")
	s := start(t, Config{Addr: ":0", Meter: m})
	if host, _, _ := net.SplitHostPort(s.Addr()); host != "127.0.0.1" {
		t.Errorf("without a host it listens at %s", s.Addr())
	}
	client := &http.Client{}
	defer client.CloseIdleConnections()
	for _, c := range []struct {
		path string
		code int
		says string
	}{
		{"/healthz", 200, "ok"},
		{"/readyz", 200, "generation 1, rank 0, step 1"},
		{"/metrics", 200, `covey_step{run="digits",rank="0"} 1`},
		{"/status", 200, `"text":"the checkpoint of step 1 was not saved: disk full"`},
		{"/debug/pprof/", 404, ""},
		{"/debug/pprof/heap", 404, ""},
		{"/debug/pprof/profile", 404, ""},
		{"/", 404, ""},
	} {
		code, text, header := get(t, client, s.URL()+c.path)
		if code != c.code || !strings.Contains(text, c.says) {
			t.Errorf("%s: %d, expected %d and %q in\n%s", c.path, code, c.code, c.says, text)
		}
		if header.Get("Cache-Control") != "no-store" || header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", c.path, header)
		}
		switch c.path {
		case "/metrics":
			if ct := header.Get("Content-Type"); ct != string(expfmt.NewFormat(expfmt.TypeTextPlain)) && !strings.HasPrefix(ct, "text/plain; version=0.0.4") {
				t.Errorf("the metrics are %q", ct)
			}
			parser := expfmt.NewTextParser(names.LegacyValidation)
			if all, err := parser.TextToMetricFamilies(strings.NewReader(text)); err != nil || len(all) < 20 {
				t.Errorf("%d metrics, %v", len(all), err)
			}
		case "/status":
			if st, err := ParseStatus([]byte(text)); err != nil || st.Step != 1 || len(st.Notes) != 1 {
				t.Errorf("%+v, %v", st, err)
			}
		}
	}
	m.End("the run is over")
	if code, text, _ := get(t, client, s.URL()+"/readyz"); code != 503 || text != "the run is over\n" {
		t.Errorf("when it is over: %d %q", code, text)
	}
	if code, _, _ := get(t, client, s.URL()+"/healthz"); code != 200 {
		t.Errorf("the process lives, but: %d", code)
	}
	r, err := client.Post(s.URL()+"/metrics", "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", r.StatusCode)
	}
}

func TestToken(t *testing.T) {
	s := start(t, Config{Addr: "127.0.0.1:0", Meter: training("r"), Token: token})
	client := &http.Client{}
	defer client.CloseIdleConnections()
	for _, path := range []string{"/healthz", "/readyz"} { // probes have no tokens
		if code, _, _ := get(t, client, s.URL()+path); code != 200 {
			t.Errorf("%s: %d", path, code)
		}
	}
	for _, path := range []string{"/metrics", "/status", "/debug/pprof/", "/debug/pprof/heap?debug=1", "/debug/pprof/cmdline", "/debug/pprof/goroutine?debug=1", "/debug/pprof/symbol"} {
		for _, header := range [][]string{nil, {"Authorization", token}, {"Authorization", "Bearer"}, {"Authorization", "Bearer " + token + "x"},
			{"Authorization", "Bearer " + token[:10]}, {"Authorization", "Basic " + token}} {
			code, text, h := get(t, client, s.URL()+path, header...)
			if code != 401 || !strings.HasPrefix(h.Get("WWW-Authenticate"), "Bearer") || strings.Contains(text, token) {
				t.Errorf("%s with %v: %d %s", path, header, code, text)
			}
		}
		if code, text, _ := get(t, client, s.URL()+path, "Authorization", "Bearer "+token); code != 200 || text == "" {
			t.Errorf("%s with the token: %d", path, code)
		}
	}
	for _, q := range []string{"-1", "0", "301", "1e9", "x", "NaN"} {
		if code, _, _ := get(t, client, s.URL()+"/debug/pprof/profile?seconds="+q, "Authorization", "Bearer "+token); code != 400 {
			t.Errorf("a profile of %s seconds: %d", q, code)
		}
	}
	// A name that resolves to loopback is all that a page of another site needs; here it has no token.
	if code, _, _ := get(t, client, s.URL()+"/healthz", "Host", "rebound.example.org"); code != 200 {
		t.Errorf("with a token the name does not matter, but: %d", code)
	}
}

func TestOtherSitesDoNotReadLoopback(t *testing.T) {
	s := start(t, Config{Addr: "127.0.0.1:0", Meter: training("r")})
	client := &http.Client{}
	defer client.CloseIdleConnections()
	for host, want := range map[string]int{"localhost": 200, "127.0.0.1:9090": 200, "[::1]:9090": 200, "LOCALHOST:1": 200,
		"rebound.example.org": 421, "10.0.0.1:9090": 421, "localhost.example.org": 421} {
		if code, _, _ := get(t, client, s.URL()+"/metrics", "Host", host); code != want {
			t.Errorf("as %s: %d, expected %d", host, code, want)
		}
	}
}

func TestBeyondLoopbackIsGuarded(t *testing.T) {
	m := training("r")
	for _, c := range []struct {
		conf Config
		says string
	}{
		{Config{Addr: "0.0.0.0:0"}, "beyond loopback"},
		{Config{Addr: "[::]:0"}, "beyond loopback"},
		{Config{Addr: "127.0.0.1"}, "expected HOST:PORT"},
		{Config{Addr: "127.0.0.1:0", Token: "short"}, "easy to guess"},
		{Config{Addr: "127.0.0.1:0", Token: "with a space and more"}, "character 5"},
		{Config{Addr: "0.0.0.0:0", TLS: &tls.Config{}}, "lets everybody in"},
	} {
		c.conf.Meter = m
		s, err := Serve(t.Context(), c.conf)
		if err == nil {
			s.Close()
			t.Errorf("%s, token %q: it listens", c.conf.Addr, c.conf.Token)
			continue
		}
		if !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s, token %q: %v, expected %q", c.conf.Addr, c.conf.Token, err, c.says)
		}
	}
	s := start(t, Config{Addr: "0.0.0.0:0", Token: token, Meter: m})
	s.Close()
}

// With the cluster's certificates both sides show theirs.
func TestTLS(t *testing.T) {
	dir := t.TempDir() + "/ca"
	now := time.Now()
	if err := pki.Init(dir, now); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"worker", "prometheus"} {
		if err := pki.Issue(dir, name, now, "127.0.0.1"); err != nil {
			t.Fatal(err)
		}
	}
	load := func(name string) *tls.Config {
		c, err := pki.Load(dir, name, now)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	s := start(t, Config{Addr: "0.0.0.0:0", TLS: load("worker"), Meter: training("r")})
	_, port, _ := net.SplitHostPort(s.Addr())
	url := "https://127.0.0.1:" + port
	good := &http.Client{Transport: &http.Transport{TLSClientConfig: load("prometheus")}}
	defer good.CloseIdleConnections()
	if code, text, _ := get(t, good, url+"/metrics"); code != 200 || !strings.Contains(text, "covey_step") {
		t.Errorf("with a certificate: %d", code)
	}
	if code, _, _ := get(t, good, url+"/debug/pprof/"); code != 404 {
		t.Errorf("profiles without a token: %d", code)
	}
	bare := load("prometheus")
	bare.Certificates = nil
	for name, conf := range map[string]*tls.Config{"no certificate": bare, "an old TLS": {RootCAs: bare.RootCAs, MaxVersion: tls.VersionTLS12}} {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: conf}, Timeout: 20 * time.Second}
		if r, err := client.Get(url + "/healthz"); err == nil {
			r.Body.Close()
			t.Errorf("%s: was let in", name)
		}
		client.CloseIdleConnections()
	}
	if c, err := net.Dial("tcp", "127.0.0.1:"+port); err != nil { // and whoever does not speak TLS at all learns nothing
		t.Fatal(err)
	} else {
		c.SetDeadline(now.Add(time.Minute))
		io.WriteString(c, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
		b, _ := io.ReadAll(c)
		c.Close()
		if strings.Contains(string(b), "covey") {
			t.Errorf("without TLS: %s", b)
		}
	}
}

// pipes is a listener of connections in memory, so that the deadlines run on a test's own clock.
type pipes struct {
	come   chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{come: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.come:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// dial returns when the server has taken the connection.
func (p *pipes) dial() net.Conn {
	ours, theirs := net.Pipe()
	p.come <- theirs
	return ours
}

// Who sends a request byte by byte, or takes no answer, is cut off; others come to their turn by then.
func TestSlowLorisIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		s := serve(p, Config{Meter: training("r")})
		defer s.Close()
		began := time.Now()
		ends := make(chan time.Duration, 2*mostConns)
		for i := range 2 * mostConns { // twice as many as have room
			go func() {
				c := p.dial()
				defer c.Close()
				go io.Copy(io.Discard, c)
				for _, b := range []byte(fmt.Sprintf("GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-%d: %s", i, strings.Repeat("a", 3600))) {
					if _, err := c.Write([]byte{b}); err != nil {
						break
					}
					time.Sleep(time.Second)
				}
				ends <- time.Since(began)
			}()
		}
		synctest.Wait()
		c := p.dial() // an honest one, who comes last
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Minute))
		fmt.Fprintf(c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		text, err := io.ReadAll(c)
		if err != nil || !strings.HasPrefix(string(text), "HTTP/1.1 200") {
			t.Errorf("%s, %v", text, err)
		}
		if d := time.Since(began); d > 3*headerTime {
			t.Errorf("the honest one waited for %v", d)
		}
		for range 2 * mostConns {
			if d := <-ends; d > 3*headerTime {
				t.Errorf("a slow one was there until %v", d)
			}
		}
	})
}

func TestAnswerThatNobodyTakesIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		s := serve(p, Config{Meter: training("r")})
		defer s.Close()
		c := p.dial()
		defer c.Close()
		fmt.Fprintf(c, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
		in := bufio.NewReaderSize(c, 16)
		in.ReadByte() // an answer has begun,
		time.Sleep(answerTime + time.Second)
		if n, err := io.Copy(io.Discard, in); err != nil || n > 16 { // and all that is left is what was read along with it
			t.Errorf("%d bytes more, %v", n, err)
		}
	})
}

func TestLongHeaderIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		s := serve(p, Config{Meter: training("r")})
		defer s.Close()
		c := p.dial()
		defer c.Close()
		go fmt.Fprintf(c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: %s\r\n\r\n", strings.Repeat("a", 4*mostHeader))
		text, err := io.ReadAll(c)
		if err != nil || !strings.HasPrefix(string(text), "HTTP/1.1 431") {
			t.Errorf("a header of %d bytes: %s, %v", 4*mostHeader, text, err)
		}
	})
}

func TestCloseEndsConnections(t *testing.T) {
	s := start(t, Config{Addr: "127.0.0.1:0", Meter: training("r")})
	c, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	c.SetDeadline(time.Now().Add(time.Minute))
	in := bufio.NewReader(c)
	if _, err := http.ReadResponse(in, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, in); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is still there")
	}
	if _, err := net.Dial("tcp", s.Addr()); err == nil {
		t.Error("it still listens")
	}
}
