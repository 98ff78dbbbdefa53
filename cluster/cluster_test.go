package cluster

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
)

var clock = comm.RealClock()

func listen(t *testing.T) *Coordinator {
	t.Helper()
	c, err := Listen("127.0.0.1:0", "secret", nil, clock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func join(t *testing.T, c *Coordinator, token string, want int) (*Member, error) {
	t.Helper()
	nc, err := Dial(t.Context(), c.Addr(), nil, clock)
	if err != nil {
		t.Fatal(err)
	}
	return Join(t.Context(), nc, token, "127.0.0.1:1", want, clock)
}

// A run with strangers at the door: those that hold the token get in, at the ranks they ask for or the free ones, and the
// others change nothing.
func TestGather(t *testing.T) {
	c := listen(t)
	for _, garbage := range []string{"GET / HTTP/1.0\r\n\r\n", "\x00\x01\x02", `{"kind":"hello"}` + "\n", strings.Repeat("x", maxMessage+1)} {
		nc, err := net.Dial("tcp", c.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		go io.WriteString(nc, garbage)
	}
	var all sync.WaitGroup
	members := make([]*Member, 4)
	started := func(i, want int) {
		all.Add(1)
		go func() {
			defer all.Done()
			m, err := join(t, c, "secret", want)
			if err != nil {
				t.Error(err)
				return
			}
			members[i] = m
		}()
	}
	started(0, 0)
	started(1, 1)
	started(2, -1)
	started(3, -1)
	if err := c.Gather(t.Context(), 4, Welcome{Job: []byte("model: mlp"), Local: 2}, nil); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	if t.Failed() {
		return
	}
	seen := map[int]bool{}
	for i, m := range members {
		seen[m.Welcome.Rank] = true
		if hosts := m.Welcome.Hosts; len(hosts) != 4 || hosts[0] == "" || hosts[3] != HostID() {
			t.Errorf("hosts %q", hosts)
		}
		if i < 2 && m.Welcome.Rank != i {
			t.Errorf("who asked for rank %d got %d", i, m.Welcome.Rank)
		}
		if string(m.Welcome.Job) != "model: mlp" || m.Welcome.Secret != members[0].Welcome.Secret || len(m.Welcome.Secret) < 32 {
			t.Errorf("welcome %+v", m.Welcome)
		}
	}
	if len(seen) != 4 {
		t.Errorf("ranks %v", seen)
	}

	// They talk: an event, a report, an error, and silence.
	byRank := make([]*Member, 4)
	for _, m := range members {
		byRank[m.Welcome.Rank] = m
	}
	stopped := make(chan error, 1)
	byRank[3].Watch(func(cause error) { stopped <- cause })
	c.Stop()
	if cause := <-stopped; cause.Error() != "asked to stop" {
		t.Errorf("stopped by %v", cause)
	}
	go func() {
		byRank[0].Event(map[string]int{"step": 7})
		byRank[0].Report("fine")
		byRank[1].Fail(errors.New("no disk"), 3)
		for _, m := range byRank {
			m.Close()
		}
	}()
	heard := map[string]int{}
	c.Hear(func(rank int, m Message) {
		heard[m.Kind]++
		var step struct{ Step int }
		switch m.Kind {
		case KindEvent:
			if json.Unmarshal(m.Event, &step) != nil || step.Step != 7 || rank != 0 {
				t.Errorf("event %s of rank %d", m.Event, rank)
			}
		case KindError:
			if m.Error != "no disk" || m.Code != 3 || rank != 1 {
				t.Errorf("error %+v of rank %d", m, rank)
			}
		}
	})
	if heard[KindEvent] != 1 || heard[KindReport] != 1 || heard[KindError] != 1 || heard[""] != 4 {
		t.Errorf("heard %v", heard)
	}
}

// Workers that somebody starts on other hosts are numbered host by host, however they come; those that the launcher
// started keep their ranks, and who joins on the launcher's host comes next to them.
func TestRanksGoHostByHost(t *testing.T) {
	for _, c := range []struct{ came, want string }{
		{"a0 a1 b b b", "a0 a1 b b b"},
		{"a0 c b c b c", "a0 c c c b b"},
		{"a0 b c a b", "a0 a b b c"},
		{"b a a", "b a a"},
		{"c a c a", "c c a a"},
	} {
		var seats []*member
		for r, came := range strings.Fields(c.came) {
			seats = append(seats, &member{rank: r, host: came[:1], any: len(came) == 1})
		}
		byHost(seats)
		var got []string
		for r, m := range seats {
			who := m.host
			if !m.any {
				who += fmt.Sprint(r)
			}
			got = append(got, who)
			if m.rank != r {
				t.Errorf("%s: the member of rank %d is told %d", c.came, r, m.rank)
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %s", c.came, got, c.want)
		}
	}
}

func TestRefused(t *testing.T) {
	c := listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	gathered := make(chan error, 1)
	go func() { gathered <- c.Gather(ctx, 2, Welcome{Local: 1}, nil) }()
	if _, err := join(t, c, "wrong", -1); err == nil || !strings.Contains(err.Error(), "wrong token") {
		t.Errorf("a wrong token: %v", err)
	}
	if _, err := join(t, c, "", -1); err == nil || !strings.Contains(err.Error(), "wrong token") {
		t.Errorf("no token: %v", err)
	}
	if _, err := join(t, c, "secret", 5); err == nil || !strings.Contains(err.Error(), "rank 5") {
		t.Errorf("a rank beyond the run: %v", err)
	}
	cancel()
	if err := <-gathered; !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled Gather: %v", err)
	}
}

func TestBeyondLoopbackNeedsCertificates(t *testing.T) {
	if _, err := Listen("0.0.0.0:0", "secret", nil, clock); err == nil || !strings.Contains(err.Error(), "covey ca") {
		t.Errorf("listening without certificates: %v", err)
	}
	if _, err := Dial(t.Context(), "192.0.2.1:9", nil, clock); err == nil || !strings.Contains(err.Error(), "covey ca") {
		t.Errorf("joining without certificates: %v", err)
	}
}

func TestPortInUse(t *testing.T) {
	c := listen(t)
	if _, err := Listen(c.Addr(), "secret", nil, clock); err == nil || !strings.Contains(err.Error(), "--listen") {
		t.Errorf("error %v", err)
	}
}

func TestNotEnoughWorkersInTime(t *testing.T) {
	c := listen(t)
	ctx, cancel := clock.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Gather(ctx, 2, Welcome{}, nil); err == nil || err.Error() != "only 0 of 2 workers came in time" {
		t.Errorf("error %v", err)
	}
}

// A port on which something else listens, and a run that ends before it starts.
func TestNoRun(t *testing.T) {
	for said, want := range map[string]string{
		"HTTP/1.1 400 Bad Request\r\n\r\n": "does not answer as a covey run does",
		"":                                 "does not answer as a covey run does",
		`{"kind":"challenge","nonce":"1"}` + "\n": "the run was called off before all its workers were there",
	} {
		here, there := net.Pipe()
		go func() {
			io.WriteString(there, said)
			if strings.HasPrefix(said, "{") {
				bufio.NewReader(there).ReadString('\n')
			}
			there.Close()
		}()
		if _, err := Join(t.Context(), here, "secret", "", -1, clock); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", said, err, want)
		}
	}
}

// FuzzMember feeds a member whatever a false coordinator could send.
func FuzzMember(f *testing.F) {
	f.Add([]byte(`{"kind":"challenge","nonce":"1"}` + "\n" + `{"kind":"welcome","welcome":{"rank":0,"size":1,"peers":["a:1"]}}` + "\n"))
	f.Add([]byte(`{"kind":"challenge"}` + "\n" + `{"kind":"refused","error":"no"}` + "\n"))
	f.Add([]byte("\n\n{}\n"))
	f.Fuzz(func(t *testing.T, said []byte) {
		here, there := net.Pipe()
		go io.Copy(io.Discard, there)
		go func() {
			there.Write(said)
			there.Close()
		}()
		m, err := Join(t.Context(), here, "secret", "", -1, clock)
		if err == nil && (m.Welcome.Rank < 0 || m.Welcome.Rank >= m.Welcome.Size) {
			t.Errorf("welcomed as %d of %d", m.Welcome.Rank, m.Welcome.Size)
		}
		here.Close()
	})
}
