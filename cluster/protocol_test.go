package cluster_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/covey-ml/covey/cluster"
)

// seedOf is the flag that decide_random_test.go defines.
func seedOf() uint64 { return flag.Lookup("seed").Value.(flag.Getter).Get().(uint64) }

// script is what happens to a run, drawn from a seed.
type script struct {
	limits  cluster.Limits
	orphan  time.Duration
	workers int
	lose    float64
	lag     time.Duration
	seed    uint64
	faults  int
}

func drawScript(seed uint64) script {
	r := rand.New(rand.NewPCG(seed, 1))
	s := script{seed: seed, workers: 2 + r.IntN(5), faults: 1 + r.IntN(5), orphan: time.Duration(15+r.IntN(25)) * time.Second,
		limits: cluster.Limits{Min: 1 + r.IntN(2), Max: 8, Meet: 10 * time.Second, Wait: 30 * time.Second, Patience: 5 * time.Second}}
	if r.IntN(2) == 0 {
		s.lose, s.lag = 0.02, 2*time.Second
	}
	return s
}

// quiet is how long the run goes on after the last fault, and must be whole again long before.
const quiet = 75 * time.Second

// outcome is what a run came to.
type outcome struct {
	w       *world
	want    int
	told    []string // what was done to it
	formed  []cluster.Generation
	news    []cluster.News
	horizon bool
}

// play runs a script to the end. It must be called in a bubble.
func play(s script) *outcome {
	w := newWorld(s.seed, s.lose, s.lag)
	o := &outcome{w: w, want: s.workers}
	r := rand.New(rand.NewPCG(s.seed, 2))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	began := w.clock.Now()
	tell := func(format string, args ...any) {
		o.told = append(o.told, fmt.Sprintf("%v: ", (w.clock.Now()-began).Round(time.Millisecond))+fmt.Sprintf(format, args...))
	}
	w.ends = began + 365*24*time.Hour
	launcher := w.server.Open("launcher")
	c, err := cluster.Coordinate(ctx, launcher, w.clock, func(n cluster.News) {
		w.mu.Lock()
		o.news = append(o.news, n)
		w.mu.Unlock()
	})
	if err != nil {
		panic(err)
	}
	for c.Start(ctx, cluster.Run{Limits: s.limits, Elastic: true, Orphan: s.orphan}, s.workers) != nil { // an answer may be lost
	}
	count := 0
	join := func() {
		w.join(ctx, fmt.Sprintf("w%d", count), count)
		count++
	}
	for range s.workers {
		join()
	}
	w.clock.Sleep(ctx, time.Duration(r.IntN(15000))*time.Millisecond)
	lasts := make(chan func(), 64) // what mends a fault, when it is time
	mend := func(d time.Duration, f func()) {
		w.clock.Go(func() {
			w.clock.Sleep(ctx, d)
			lasts <- f
		})
	}
	pending := 0
	for range s.faults {
		living := w.living()
		if len(living) == 0 {
			break
		}
		h := living[r.IntN(len(living))]
		d := time.Duration(500+r.IntN(20000)) * time.Millisecond
		mute := r.IntN(2) == 0
		var mended func()
		switch r.IntN(9) {
		case 0, 1, 2: // a partition
			side := map[string]bool{}
			for _, h := range living {
				side[h.id] = r.IntN(2) == 0
			}
			both := func(by int) {
				for i, a := range living {
					if side[a.id] {
						w.cutOff(a.id, by, mute)
					}
					for _, b := range living[:i] {
						if side[a.id] != side[b.id] {
							w.link(a.id, b.id, by)
						}
					}
				}
			}
			tell("partition for %v: those cut off from the store are %v (mute: %v)", d, side, mute)
			both(1)
			mended = func() { both(-1) }
		case 3: // a link
			b := living[r.IntN(len(living))]
			if b == h {
				break
			}
			tell("the link of %s and %s is cut for %v", h.id, b.id, d)
			w.link(h.id, b.id, 1)
			mended = func() { w.link(h.id, b.id, -1) }
		case 4: // the way to the store
			tell("%s is cut off from the store for %v (mute: %v)", h.id, d, mute)
			w.cutOff(h.id, 1, mute)
			mended = func() { w.cutOff(h.id, -1, mute) }
		case 5: // the store
			tell("the store is away for %v (mute: %v)", d, mute)
			for _, h := range living {
				w.cutOff(h.id, 1, mute)
			}
			mended = func() {
				for _, h := range living {
					w.cutOff(h.id, -1, mute)
				}
			}
		case 6:
			if len(living) > 2 {
				tell("%s is killed", h.id)
				w.strike(h)
			}
		case 7:
			tell("w%d joins", count)
			if o.want < s.limits.Max {
				o.want++
				for c.Scale(ctx, o.want) != nil {
				}
			}
			join()
		case 8:
			if len(living) > 2 {
				tell("%s leaves", h.id)
				w.mu.Lock()
				h.leaving = true
				m := h.m
				w.mu.Unlock()
				if m != nil {
					w.clock.Go(func() { m.Leave(ctx) })
				}
			}
		}
		if mended != nil {
			pending++
			mend(d, mended)
		}
		for wait := time.Duration(r.IntN(15000)) * time.Millisecond; ; { // the next may come before this one is mended
			t := time.After(wait)
			select {
			case f := <-lasts:
				f()
				pending--
				continue
			case <-t:
			}
			break
		}
	}
	for ; pending > 0; pending-- {
		(<-lasts)()
	}
	tell("all is mended")
	w.mu.Lock()
	w.ends = w.clock.Now() + quiet
	w.mu.Unlock()
	limit := w.clock.Now() + quiet + s.orphan + s.limits.Wait + time.Minute
	for len(w.living()) > 0 && w.clock.Now() < limit {
		w.clock.Sleep(ctx, time.Second)
	}
	o.horizon = len(w.living()) > 0
	cancel()
	c.Close()
	launcher.Close()
	w.clock.Sleep(context.Background(), time.Minute) // what is under way on the network comes to an end
	for _, x := range w.server.Writes("generation") {
		var g cluster.Generation
		if err := json.Unmarshal(x.Value, &g); err != nil {
			panic(err)
		}
		o.formed = append(o.formed, g)
	}
	return o
}

func (o *outcome) String() string {
	var b strings.Builder
	for _, s := range o.told {
		fmt.Fprintln(&b, s)
	}
	for _, g := range o.formed {
		fmt.Fprintf(&b, "generation %d: %s:", g.Number, g.Why)
		for _, s := range g.Seats {
			fmt.Fprintf(&b, " %s", s.ID)
			if s.Kept {
				fmt.Fprint(&b, "*")
			}
		}
		fmt.Fprintln(&b)
	}
	for _, h := range o.w.all {
		fmt.Fprintf(&b, "%s: %d steps, %v\n", h.id, len(h.state), h.err)
	}
	return b.String()
}

// check holds what must be true of every run.
func (o *outcome) check(s script) (wrong []string) {
	w := o.w
	fail := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	wrong = append(wrong, w.wrong...)
	if o.horizon {
		for _, h := range w.living() {
			fail("%s has not come to an end", h.id)
		}
	}
	member := map[uint64][]string{}
	for i, g := range o.formed {
		if g.Number != uint64(i+1) {
			fail("generation %d is the %dth that was formed", g.Number, i+1)
		}
		for _, s := range g.Seats {
			member[g.Number] = append(member[g.Number], s.ID)
		}
		if n := len(g.Seats); n < s.limits.Min || n > s.limits.Max {
			fail("generation %d has %d members", g.Number, n)
		}
	}
	newest := uint64(0)
	late := map[string]int{}
	for _, c := range w.done { // in time
		if !slices.Contains(member[c.gen], c.by) {
			fail("%s did step %d of generation %d, in which it is not", c.by, c.step, c.gen)
		}
		// Who was given up may hear late what all had said of the step under way, and do that one: it is of no use to anybody. For
		// another step it would need to hear from those who have gone on.
		if who := fmt.Sprint(c.by, c.gen); c.gen < newest {
			if late[who]++; late[who] > 1 {
				fail("%s did step %d of generation %d when generation %d had done one", c.by, c.step, c.gen, newest)
			}
		}
		newest = max(newest, c.gen)
	}
	var last *hand
	var orphan *cluster.OrphanedError
	var few *cluster.TooFewError
	whole := true
	for _, h := range w.all {
		switch {
		case h.dead || !h.over:
		case h.err == nil:
			if last == nil {
				last = h
			}
			if n := min(len(h.state), len(last.state)) - 1; n < 0 || max(len(h.state), len(last.state)) > n+2 || !slices.Equal(h.state[:n], last.state[:n]) {
				fail("%s and %s both came to the end, in %d and %d steps, and not by the same ones", h.id, last.id, len(h.state), len(last.state))
			}
			if h.last.Number != last.last.Number {
				fail("%s ended in generation %d, %s in %d", h.id, h.last.Number, last.id, last.last.Number)
			}
		case errors.Is(h.err, errLeft), errors.As(h.err, &orphan):
		case errors.As(h.err, &few):
			whole = false
		case errors.Is(h.err, cluster.ErrCalledOff) && last0(w) >= o.want: // there was no room
		default:
			fail("%s ended with %v", h.id, h.err)
		}
	}
	if last != nil && len(w.server.Writes("end")) == 0 {
		fail("the run has no report")
	}
	if last == nil && whole {
		// Everybody may have been cut off for too long, and nobody else.
		for _, h := range w.all {
			if h.err == nil || !(h.dead || errors.Is(h.err, errLeft) || errors.As(h.err, &orphan)) {
				fail("nobody came to the end, %s with %v", h.id, h.err)
			}
		}
	}
	return wrong
}

// last0 is how many came to the end.
func last0(w *world) (n int) {
	for _, h := range w.all {
		if h.over && h.err == nil && !h.dead {
			n++
		}
	}
	return n
}

// However the network is cut, whoever dies, comes or leaves: there is one generation at a time that works, and when all is
// mended everybody who has not given up is in it.
func TestNoSplit(t *testing.T) {
	n := 60
	if testing.Short() {
		n = 20
	}
	seeds := []uint64{seedOf()}
	if seeds[0] == 0 {
		seeds = nil
		for range n {
			seeds = append(seeds, rand.Uint64())
		}
	}
	ended, regrouped, several := 0, 0, 0
	for _, seed := range seeds {
		s := drawScript(seed)
		synctest.Test(t, func(t *testing.T) {
			o := play(s)
			if wrong := o.check(s); len(wrong) > 0 {
				t.Fatalf("-run TestNoSplit -seed %d, %+v:\n%s\n\n%v", seed, s, strings.Join(wrong, "\n"), o)
			}
			if ended += last0(o.w); len(o.formed) > 1 {
				regrouped++
			}
			if len(o.formed) > 3 {
				several++
			}
		})
		if t.Failed() {
			return
		}
	}
	if len(seeds) > 1 && (ended < len(seeds) || regrouped < len(seeds)/2 || several < len(seeds)/20) {
		t.Errorf("of %d runs %d workers came to the end, %d had several generations, %d many: the faults are too much, or too little", len(seeds), ended, regrouped, several)
	}
}

// launched begins a run of so many workers in a world, for one that ends within an hour. leave takes the launcher away, and not the run.
func launched(ctx context.Context, t *testing.T, w *world, limits cluster.Limits, orphan time.Duration, workers int) (c *cluster.Coordinator, leave func()) {
	t.Helper()
	w.ends = w.clock.Now() + time.Hour
	launcher := w.server.Open("launcher")
	c, err := cluster.Coordinate(ctx, launcher, w.clock, func(cluster.News) {})
	if err != nil {
		t.Fatal(err)
	}
	limits.Wait, limits.Patience = 30*time.Second, 5*time.Second
	if err := c.Start(ctx, cluster.Run{Limits: limits, Elastic: true, Orphan: orphan}, workers); err != nil {
		t.Fatal(err)
	}
	return c, func() {
		c.Close()
		launcher.Close()
	}
}

// inWorld has f do something to a run that nothing is lost of, in a bubble: the run begins with so many workers, and ends with f.
func inWorld(t *testing.T, limits cluster.Limits, workers int, f func(ctx context.Context, t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(1, 0, 0)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		_, leave := launched(ctx, t, w, limits, 15*time.Second, workers)
		f(ctx, t, w)
		cancel()
		leave()
		w.clock.Sleep(context.Background(), time.Minute)
	})
}

// A server that is cut off from the others keeps its connections, and writes nothing. Whoever trains on its side has ended when those
// on the other side, who hear nothing of them, begin without them.
func TestMuteServer(t *testing.T) {
	inWorld(t, cluster.Limits{Min: 2, Max: 4, Meet: 10 * time.Second}, 2, func(ctx context.Context, t *testing.T, w *world) {
		first := []*hand{w.join(ctx, "a", 0), w.join(ctx, "b", 1)}
		w.clock.Sleep(ctx, 10*time.Second)
		for _, h := range first {
			w.cutOff(h.id, 1, true)
		}
		w.join(ctx, "x", -1)
		w.join(ctx, "y", -1)
		w.clock.Sleep(ctx, time.Minute)
		w.mu.Lock()
		last, next := time.Duration(0), time.Duration(0)
		for _, d := range w.done {
			switch {
			case d.gen == 1:
				last = d.at
			case d.gen == 2 && next == 0:
				next = d.at
			}
		}
		var orphan *cluster.OrphanedError
		for _, h := range first {
			if !errors.As(h.err, &orphan) {
				t.Errorf("%s: %v, expected that the server is out of reach", h.id, h.err)
			}
		}
		w.mu.Unlock()
		if last == 0 || next == 0 || next <= last {
			t.Errorf("the last step of generation 1 was at %v, the first of generation 2 at %v", last, next)
		}
	})
}

// A run comes to its end while its servers look for another leader: what it came to is written down as soon as there is one.
func TestReportWaits(t *testing.T) {
	inWorld(t, cluster.Limits{Min: 1, Max: 1, Meet: 10 * time.Second}, 1, func(ctx context.Context, t *testing.T, w *world) {
		for _, away := range []time.Duration{40 * time.Second, 12 * time.Second} { // where there is a report, nobody can join
			id, well := away.String(), away < 15*time.Second
			store := w.server.Open(id)
			m, err := cluster.Join(ctx, store, cluster.Joining{ID: id}, w.clock)
			if err != nil {
				t.Fatal(err)
			}
			w.clock.Sleep(ctx, 3*time.Second)
			before := len(w.server.Writes("end"))
			w.server.Mute(id, true)
			w.clock.Go(func() {
				w.clock.Sleep(ctx, away)
				w.server.Mute(id, false)
			})
			err = m.Report(ctx, true, id)
			var orphan *cluster.OrphanedError
			if wrote := len(w.server.Writes("end")) > before; wrote != well || (err == nil) != well || !well && !errors.As(err, &orphan) {
				t.Errorf("with the servers away for %v: %v, written down: %v", away, err, wrote)
			}
			m.Close()
			store.Close()
		}
	})
}

// Who says while it waits for a seat that it would rather leave says so again when it has one.
func TestLeaveWhileWaiting(t *testing.T) {
	inWorld(t, cluster.Limits{Min: 2, Max: 2, Meet: time.Minute}, 2, func(ctx context.Context, t *testing.T, w *world) {
		a := w.join(ctx, "a", 0)
		w.clock.Sleep(ctx, 5*time.Second)
		if err := a.m.Leave(ctx); err != nil {
			t.Error(err)
		}
		w.join(ctx, "b", 1)
		w.clock.Sleep(ctx, 5*time.Second)
		all := w.server.Writes("member.a")
		var m cluster.Member
		if err := json.Unmarshal(all[len(all)-1].Value, &m); err != nil || m.State != cluster.Leaving || !a.m.In() {
			t.Errorf("%v; a says %+v, and has a seat: %v", err, m, a.m.In())
		}
	})
}
