package cluster

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/covey-ml/covey/comm"
)

// A few are told one by one, a flood in a line now and then whose counts add up, and after a quiet while the next is told again.
func TestRefusalsOfAFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines []string
		r := NewRefusals(comm.RealClock(), func(text string) { lines = append(lines, text) })
		const flood = 10_000
		for i := range flood {
			r.Add(fmt.Sprintf("10.0.0.9:%d", i), []string{"tls: first record does not look like a TLS handshake", "\x1b[2Jno \x00token"}[i%2])
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		counted := 0
		for _, l := range lines[fewRefusals:] {
			var n int
			if _, err := fmt.Sscanf(l, "and %d more, the last from 10.0.0.9:", &n); err != nil {
				t.Errorf("%q", l)
			}
			counted += n
		}
		if counted != flood-fewRefusals || len(lines) > fewRefusals+4 {
			t.Errorf("%d lines tell of %d, expected %d: %q", len(lines), counted, flood-fewRefusals, lines)
		}
		for i, want := range []string{"refused 10.0.0.9:0: it does not speak TLS", "refused 10.0.0.9:1: ?[2Jno ?token"} {
			if lines[i] != want {
				t.Errorf("line %d is %q, expected %q", i, lines[i], want)
			}
		}
		before := len(lines)
		for range fewRefusals + 3 {
			r.Add("10.0.0.8:1", "x")
		}
		r.Close()
		synctest.Wait()
		if got := lines[before:]; len(got) != fewRefusals+1 || got[0] != "refused 10.0.0.8:1: x" || !strings.HasPrefix(got[fewRefusals], "and 3 more, the last from 10.0.0.8:1 (3: x)") {
			t.Errorf("after a quiet while: %q", got)
		}
	})
}

// However many reasons and however long, a count has few and short ones.
func TestRefusalsForMadeUpReasons(t *testing.T) {
	var lines []string
	r := NewRefusals(comm.RealClock(), func(text string) { lines = append(lines, text) })
	for i := range 1000 {
		r.Add("10.0.0.9:1", fmt.Sprint(i, strings.Repeat("x", 10_000)))
	}
	r.Close()
	total := 0
	for _, l := range lines {
		total += len(l)
	}
	if len(lines) != fewRefusals+1 || total > 3000 || !strings.Contains(lines[fewRefusals], "989: other reasons") {
		t.Errorf("%d lines of %d bytes, the last %q", len(lines), total, lines[len(lines)-1])
	}
}

func TestRefusalOfTheSilent(t *testing.T) {
	var lines []string
	r := NewRefusals(comm.RealClock(), func(text string) { lines = append(lines, text) })
	defer r.Close()
	r.Add("10.0.0.9:1", "read tcp 10.0.0.1:7->10.0.0.9:1: i/o timeout")
	if len(lines) != 1 || lines[0] != "refused 10.0.0.9:1: it did not say in time who it is" {
		t.Errorf("%q", lines)
	}
}

func TestRefusalInWords(t *testing.T) {
	for line, want := range map[string][2]string{
		`127.0.0.1:50022 - cid:9 - authentication error`:                                                {"127.0.0.1:50022", "it does not hold the token"},
		`127.0.0.1:50022 - cid:9 - authentication error - Nkey "UA"`:                                    {"127.0.0.1:50022", "it does not hold the token"},
		`[::1]:50022 - cid:9 - TLS handshake error: tls: client didn't provide a certificate`:           {"[::1]:50022", "it shows no certificate"},
		`10.0.0.1:1 - rid:9 - TLS route handshake error: x509: certificate signed by unknown authority`: {"10.0.0.1:1", "its certificate is of another CA"},
		`127.0.0.1:5 - cid:9 - "v1.55.0:go:covey" - Readloop processing time: 10s`:                      {"", "127.0.0.1:5: Readloop processing time: 10s"},
		`JetStream has not established contact with a meta leader`:                                      {"", "JetStream has not established contact with a meta leader"},
		`127.0.0.1:5 - cid:5 - Client parser ERROR, state=0, i=0: proto='"\x00"...'`:                    {"127.0.0.1:5", "it does not speak NATS"},
	} {
		if addr, why := refusal(line); addr != want[0] || why != want[1] {
			t.Errorf("%q: %q, %q; expected %q", line, addr, why, want)
		}
	}
}

// More strangers than the server has room for are turned away at once, and harm nobody who is in.
func TestMostConnections(t *testing.T) {
	defer func(most int) { mostConnections = most }(mostConnections)
	mostConnections = 10
	s, err := Serve(ServerConfig{Listen: "127.0.0.1:0", Token: "a token of sixteen"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	a := Access{Servers: []string{s.Addr()}, Token: "a token of sixteen"}
	in, err := Create(ctx, a, "r", comm.RealClock())
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	said := make(chan string, mostConnections+2)
	var strangers []net.Conn
	for range mostConnections + 2 {
		c, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		strangers = append(strangers, c)
		go func() {
			b, _ := io.ReadAll(c) // until one of both hangs up
			said <- string(b)
		}()
	}
	for range 3 { // beside the nine that there is room for, and who is in
		if text := <-said; !strings.Contains(text, "maximum connections") {
			t.Errorf("a stranger too many is told %q", text)
		}
	}
	if err := in.Put(ctx, "want", []byte("1")); err != nil {
		t.Errorf("who is in: %v", err)
	}
	for _, c := range strangers {
		c.Close()
	}
	other, err := Open(ctx, a, "r", comm.RealClock())
	if err != nil {
		t.Fatalf("who comes then: %v", err)
	}
	other.Close()
}
