package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/covey-ml/covey/cluster"
	"github.com/covey-ml/covey/comm"
)

// patience is how long anything that a real server does may take.
const patience = 20 * time.Second

const secret = "correct-horse-battery"

// until waits for something to become true.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	clock := comm.RealClock()
	for end := clock.Now() + patience; !f(); {
		if clock.Now() > end {
			t.Fatalf("not within %v: %s", patience, what)
		}
		clock.Sleep(t.Context(), 5*time.Millisecond)
	}
}

// serve starts a server that the test closes, unless it has closed it itself.
func serve(t *testing.T, listen, dir string) *cluster.Server {
	t.Helper()
	s, err := cluster.Serve(cluster.ServerConfig{Listen: listen, Token: secret, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func access(s *cluster.Server) cluster.Access {
	return cluster.Access{Servers: []string{s.Addr()}, Token: secret}
}

// store opens the run that a server has; with create it makes it.
func store(t *testing.T, a cluster.Access, create bool) cluster.Store {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	open := cluster.Open
	if create {
		open = cluster.Create
	}
	s, err := open(ctx, a, "r1", comm.RealClock())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// told collects what a coordinator hears.
type told struct {
	mu   sync.Mutex
	news []cluster.News
}

func (o *told) hear(n cluster.News) {
	o.mu.Lock()
	o.news = append(o.news, n)
	o.mu.Unlock()
}

func (o *told) has(f func(cluster.News) bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.ContainsFunc(o.news, f)
}

func formed(number uint64) func(cluster.News) bool {
	return func(n cluster.News) bool { return n.Formed != nil && n.Formed.Number == number }
}

func coordinate(t *testing.T, s cluster.Store) (*cluster.Coordinator, *told) {
	t.Helper()
	o := new(told)
	c, err := cluster.Coordinate(t.Context(), s, comm.RealClock(), o.hear)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, o
}

// person is a worker at a real server.
type person struct {
	id    string
	store cluster.Store
	*cluster.Worker
	was uint64
	n   int
}

func enter(t *testing.T, a cluster.Access, id string, rank int) *person {
	t.Helper()
	p := &person{id: id, store: store(t, a, false)}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var err error
	if p.Worker, err = cluster.Join(ctx, p.store, cluster.Joining{ID: id, Want: rank, Writer: true}, comm.RealClock()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// next has all take part in the next generation, which must be the one of that number, and whose members they must be.
func next(t *testing.T, number uint64, why string, lost []cluster.Loss, all ...*person) *cluster.Generation {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	got := make([]*cluster.Generation, len(all))
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, p := range all {
		p.n++
		addr := fmt.Sprintf("%s:%d", p.id, p.n)
		wg.Go(func() { got[i], errs[i] = p.Next(ctx, addr, p.was, lost) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatalf("generation %d: %v", number, err)
	}
	g := got[0]
	if g.Number != number || len(g.Seats) != len(all) || !strings.Contains(g.Why, why) {
		t.Fatalf("generation %d of %d, %q; expected %d of %d, %q", g.Number, len(g.Seats), g.Why, number, len(all), why)
	}
	for i, p := range all {
		r := g.Rank(p.id)
		if got[i].Secret != g.Secret || r < 0 || g.Seats[r].Addr != fmt.Sprintf("%s:%d", p.id, p.n) || g.Seats[r].Kept != (p.was > 0) {
			t.Fatalf("%s has %+v, %s has %+v", all[0].id, g, p.id, got[i])
		}
		p.was = number
	}
	if key, err := g.Key(); err != nil || len(key) != 16 {
		t.Fatalf("the key has %d bytes, %v", len(key), err)
	}
	return g
}

var few = cluster.Limits{Min: 1, Max: 4, Meet: patience, Wait: patience, Patience: patience}

func start(t *testing.T, c *cluster.Coordinator, want int) {
	t.Helper()
	if err := c.Start(t.Context(), cluster.Run{Job: []byte("a job"), Limits: few, Elastic: true, Orphan: time.Minute}, want); err != nil {
		t.Fatal(err)
	}
}

func TestNatsRun(t *testing.T) {
	s := serve(t, "127.0.0.1:0", "")
	c, heard := coordinate(t, store(t, access(s), true))
	start(t, c, 3)
	a, b, d := enter(t, access(s), "a", 0), enter(t, access(s), "b", 1), enter(t, access(s), "d", 2)
	if string(a.Run.Job) != "a job" || a.Run.Limits != few {
		t.Errorf("the run that was found is %+v", a.Run)
	}
	next(t, 1, "3 workers are there", nil, a, b, d)
	until(t, "the launcher hears of generation 1", func() bool { return heard.has(formed(1)) })
	if due, why := a.Due(); due {
		t.Errorf("another generation is due at once: %s", why)
	}

	// One is killed: its connections go, and nothing is heard of it.
	d.Close()
	d.store.Close()
	g := next(t, 2, "connection lost", []cluster.Loss{{ID: "d", How: "connection lost"}}, a, b)
	if len(g.Gone) != 1 || g.Gone[0].ID != "d" {
		t.Errorf("gone are %+v", g.Gone)
	}
	if err := c.Dead("d", "it was killed", 137); err != nil {
		t.Fatal(err)
	}
	until(t, "the launcher hears of its end", func() bool {
		return heard.has(func(n cluster.News) bool { return n.Ended != nil && n.Ended.ID == "d" && n.Ended.Code == 137 })
	})

	// Another one comes, which takes no notice of when, and the others have it in.
	e := enter(t, access(s), "e", -1)
	came := make(chan error, 1)
	go func() {
		g, err := e.Next(t.Context(), "e:1", 0, nil)
		if err == nil && (g.Number != 3 || g.Rank("e") != 2 || g.Seats[2].Kept) {
			err = fmt.Errorf("it came to %+v", g)
		}
		came <- err
	}()
	until(t, "another generation is due", func() bool { due, why := a.Due(); return due && why == "a worker joins" })
	two := make(chan error, 2)
	for _, p := range []*person{a, b} {
		go func() {
			_, err := p.Next(t.Context(), p.id+":again", p.was, nil)
			two <- err
		}()
	}
	for _, ch := range []chan error{came, two, two} {
		select {
		case err := <-ch:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(patience):
			t.Fatal("the third generation was not formed")
		}
	}
	a.was, b.was, e.was = 3, 3, 3
	until(t, "no other generation is due", func() bool { due, _ := a.Due(); return !due })

	// One leaves.
	if err := b.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "another generation is due", func() bool { due, why := a.Due(); return due && why == "a worker leaves" })
	if err := b.Fail(nil, 0); err != nil {
		t.Fatal(err)
	}
	next(t, 4, "it ended", nil, a, e)

	// The launcher ends, and another one takes its place and learns all.
	c.Close()
	c, heard = coordinate(t, store(t, access(s), false))
	until(t, "the new launcher knows all", func() bool { return heard.has(formed(4)) && len(c.Members()) == 4 && c.Generation() != nil })
	if c.Generation().Number != 4 || c.Want() != 3 {
		t.Errorf("generation %d, %d workers wanted", c.Generation().Number, c.Want())
	}
	if err := a.Sure(map[string]int{"step": 7}); err != nil {
		t.Fatal(err)
	}
	until(t, "it hears of progress", func() bool {
		return heard.has(func(n cluster.News) bool {
			return n.Event != nil && n.Event.ID == "a" && string(n.Event.Event) == `{"step":7}`
		})
	})
	if err := c.Scale(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	until(t, "fewer are wanted", func() bool { due, why := e.Due(); return due && why == "1 worker is enough" })

	stopped := make(chan error, 1)
	e.WatchStop(t.Context(), func(cause error) { stopped <- cause })
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-stopped:
		if err == nil || err.Error() != "asked to stop" {
			t.Errorf("stopped: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the workers were not asked to stop")
	}
	until(t, "all are asked", func() bool { return a.Stopped() })
	if err := a.Report(t.Context(), true, "well"); err != nil {
		t.Fatal(err)
	}
	until(t, "the report is there", func() bool { return heard.has(func(n cluster.News) bool { return string(n.Report) == `"well"` }) })

	if _, err := cluster.Join(t.Context(), store(t, access(s), false), cluster.Joining{Want: -1}, comm.RealClock()); !errors.Is(err, cluster.ErrCalledOff) {
		t.Errorf("who comes too late hears %v", err)
	}
}

// A server that is started again where it was has what it had, and its workers find it.
func TestNatsServerComesBack(t *testing.T) {
	dir := t.TempDir()
	s := serve(t, "127.0.0.1:0", dir)
	at := access(s)
	c, _ := coordinate(t, store(t, at, true))
	start(t, c, 2)
	a, b := enter(t, at, "a", 0), enter(t, at, "b", 1)
	next(t, 1, "2 workers are there", nil, a, b)
	s.Close()
	until(t, "the workers notice that it is away", func() bool { return a.store.Silent() > 0 && b.store.Silent() > 0 })
	if err := a.Orphaned(); err != nil {
		t.Errorf("at once: %v", err)
	}
	serve(t, at.Servers[0], dir)
	until(t, "the workers are back", func() bool { return a.store.Silent() == 0 && b.store.Silent() == 0 })
	next(t, 2, "all go on", nil, a, b)
	until(t, "the launcher hears of it", func() bool { return c.Generation().Number == 2 })
}

// A server that stays away ends its workers.
func TestNatsServerGone(t *testing.T) {
	s := serve(t, "127.0.0.1:0", "")
	c, _ := coordinate(t, store(t, access(s), true))
	if err := c.Start(t.Context(), cluster.Run{Limits: few, Elastic: true, Orphan: 300 * time.Millisecond}, 1); err != nil {
		t.Fatal(err)
	}
	a := enter(t, access(s), "a", 0)
	next(t, 1, "1 worker is there", nil, a)
	ended := make(chan error, 1)
	a.WatchStop(t.Context(), func(cause error) { ended <- cause })
	s.Close()
	var orphan *cluster.OrphanedError
	select {
	case err := <-ended:
		if !errors.As(err, &orphan) {
			t.Errorf("asked to stop: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the worker goes on for ever")
	}
	if _, err := a.Next(t.Context(), "a:2", 1, nil); !errors.As(err, &orphan) {
		t.Errorf("another generation: %v", err)
	}
}

func TestNatsCalledOff(t *testing.T) {
	s := serve(t, "127.0.0.1:0", "")
	c, _ := coordinate(t, store(t, access(s), true))
	came := make(chan error, 2)
	early := store(t, access(s), false)
	go func() { // before anybody says what the run is
		_, err := cluster.Join(t.Context(), early, cluster.Joining{ID: "early", Want: -1}, comm.RealClock())
		came <- err
	}()
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-came:
		if !errors.Is(err, cluster.ErrCalledOff) {
			t.Errorf("who came early hears %v", err)
		}
	case <-time.After(patience):
		t.Fatal("who came early waits for ever")
	}
}

func TestNatsOnlyOneSwaps(t *testing.T) {
	s := serve(t, "127.0.0.1:0", "")
	one, other := store(t, access(s), true), store(t, access(s), false)
	errs := make(chan error, 2)
	for _, st := range []cluster.Store{one, other} {
		go func() { errs <- st.Swap(t.Context(), "generation", []byte("first"), 0) }()
	}
	if x, y := <-errs, <-errs; !(x == nil && errors.Is(y, cluster.ErrSwapped)) && !(y == nil && errors.Is(x, cluster.ErrSwapped)) {
		t.Errorf("two that wrote the first generation: %v and %v", x, y)
	}
	entries := make(chan cluster.Entry, 8)
	go one.Watch(t.Context(), func(e cluster.Entry) { entries <- e }, func() {})
	select {
	case e := <-entries:
		if err := other.Swap(t.Context(), e.Key, []byte("second"), e.Revision); err != nil {
			t.Errorf("with its revision: %v", err)
		}
		if err := one.Swap(t.Context(), e.Key, []byte("third"), e.Revision); !errors.Is(err, cluster.ErrSwapped) {
			t.Errorf("with an old revision: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("nothing is seen of it")
	}
}

func TestNatsRefuses(t *testing.T) {
	s := serve(t, "127.0.0.1:0", "")
	store(t, access(s), true)
	wrong := cluster.Access{Servers: []string{s.Addr()}, Token: "wrong"}
	if _, err := cluster.Open(t.Context(), wrong, "", comm.RealClock()); err == nil || !strings.Contains(err.Error(), "wrong token") {
		t.Errorf("a wrong token: %v", err)
	}
	for addr, want := range map[string]string{"192.0.2.1:4222": "needs certificates", "://": "is not the address", "": "is not the address"} {
		if _, err := cluster.Open(t.Context(), cluster.Access{Servers: []string{addr}, Token: secret}, "", comm.RealClock()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; expected %q", addr, err, want)
		}
	}
	for _, c := range []struct {
		conf cluster.ServerConfig
		want string
	}{
		{cluster.ServerConfig{Listen: "0.0.0.0:0", Token: secret}, "needs certificates"},
		{cluster.ServerConfig{Listen: "127.0.0.1:0"}, "needs a token"},
		{cluster.ServerConfig{Listen: "127.0.0.1", Token: secret}, "expected HOST:PORT"},
		{cluster.ServerConfig{Listen: s.Addr(), Token: secret}, "choose another port"},
	} {
		if sv, err := cluster.Serve(c.conf); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v; expected %q", c.conf, err, c.want)
			if err == nil {
				sv.Close()
			}
		}
	}
	for d := 100 * time.Millisecond; ; d *= 2 { // it asks until the time is over, which must be enough to ask once
		short, cancel := context.WithTimeout(t.Context(), d)
		_, err := cluster.Open(short, access(s), "another", comm.RealClock())
		cancel()
		if errors.Is(err, cluster.ErrNoRun) {
			break
		}
		if err == nil || d > patience {
			t.Fatalf("a run that is not there: %v", err)
		}
	}
}
