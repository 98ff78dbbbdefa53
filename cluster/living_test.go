package cluster_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/covey-ml/covey/cluster"
)

// behind is a store at one of several servers, which at first holds the first writes alone.
type behind struct {
	cluster.Store
	w     *world
	holds uint64
	by    time.Duration // until it has caught up
}

// Watch implements cluster.Store.
func (b behind) Watch(ctx context.Context, tell func(cluster.Entry), current func()) error {
	first := true
	all := func() {
		if first {
			first = false
			current()
		}
	}
	return b.Store.Watch(ctx, func(e cluster.Entry) {
		if first && e.Revision > b.holds {
			all()
			b.w.clock.Sleep(ctx, b.by)
		}
		tell(e)
	}, all)
}

// left is a run of two workers whose launcher is gone.
func left(t *testing.T, f func(ctx context.Context, w *world, two []*hand)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(1, 0, 0)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		c, leave := launched(ctx, t, w, cluster.Limits{Min: 1, Max: 2, Meet: 10 * time.Second}, time.Minute, 2)
		two := []*hand{w.join(ctx, "a", 0), w.join(ctx, "b", 1)}
		w.clock.Sleep(ctx, 5*time.Second)
		if g := c.Generation(); g == nil || len(g.Seats) != 2 {
			t.Fatalf("the generation of two is %+v", g)
		}
		leave()
		f(ctx, w, two)
		cancel()
		w.clock.Sleep(context.Background(), time.Minute)
	})
}

// resume is another launcher.
func resume(ctx context.Context, t *testing.T, s cluster.Store, w *world) *cluster.Coordinator {
	t.Helper()
	c, err := cluster.Coordinate(ctx, s, w.clock, func(cluster.News) {})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A run at work is found from whichever of several servers, however little of it that one holds: nothing, no workers, or none of what
// they said last.
func TestLivingBehind(t *testing.T) {
	for _, holds := range []uint64{0, 1, 2, 3, 4, 8, 1 << 20} {
		t.Run(fmt.Sprint(holds), func(t *testing.T) {
			left(t, func(ctx context.Context, w *world, two []*hand) {
				s := w.server.Open("another")
				c := resume(ctx, t, behind{s, w, holds, 7 * time.Second}, w)
				look, cancel := w.clock.WithTimeout(ctx, 15*time.Second)
				defer cancel()
				if got, err := c.Living(look); got != (cluster.Standing{Living: 2}) || err != nil {
					t.Errorf("%+v, %v; expected two who live", got, err)
				}
				c.Close()
				s.Close()
			})
		})
	}
}

// A worker that died lives no more, though a server that was behind tells only now what it said last.
func TestLivingOnceSaid(t *testing.T) {
	left(t, func(ctx context.Context, w *world, two []*hand) {
		w.strike(two[1])
		s := w.server.Open("another")
		c := resume(ctx, t, behind{s, w, 8, 2 * time.Second}, w)
		look, cancel := w.clock.WithTimeout(ctx, 15*time.Second)
		defer cancel()
		if got, err := c.Living(look); got != (cluster.Standing{Living: 1, Silent: 1}) || err != nil {
			t.Errorf("%+v, %v; expected one who lives, and one who may", got, err)
		}
		c.Close()
		s.Close()
	})
}

// Servers that do not agree on anything, or do not catch up, do not tell whether there is a run.
func TestLivingUntold(t *testing.T) {
	for _, mute := range []bool{true, false} {
		left(t, func(ctx context.Context, w *world, two []*hand) {
			s := w.server.Open("another")
			c := resume(ctx, t, behind{s, w, 2, time.Minute}, w)
			w.clock.Sleep(ctx, time.Second)
			w.server.Mute("another", mute)
			look, cancel := w.clock.WithTimeout(ctx, 15*time.Second)
			defer cancel()
			if got, err := c.Living(look); err == nil {
				t.Errorf("mute %v: %+v, expected an error", mute, got)
			}
			c.Close()
			s.Close()
		})
	}
}

// A run that was stopped is at work until those have saved and ended who train in it; whom it had lost before, nobody waits for.
func TestLivingStopped(t *testing.T) {
	for _, lost := range []bool{false, true} {
		left(t, func(ctx context.Context, w *world, two []*hand) {
			s := w.server.Open("another")
			c := resume(ctx, t, s, w)
			look := func(when string, want cluster.Standing) {
				t.Helper()
				look, cancel := w.clock.WithTimeout(ctx, 15*time.Second)
				defer cancel()
				if got, err := c.Living(look); got != want || err != nil {
					t.Errorf("%s, with one lost %v: %+v, %v; expected %+v", when, lost, got, err, want)
				}
			}
			living := 2
			if lost {
				living = 1
				w.strike(two[1])
				w.clock.Sleep(ctx, time.Minute)
				if g := c.Generation(); len(g.Seats) != 1 {
					t.Fatalf("nobody goes on without it: %+v", g)
				}
			}
			if err := c.Stop(); err != nil {
				t.Fatal(err)
			}
			look("asked to stop", cluster.Standing{Living: living, Stopped: true}) // hands do not listen
			for _, h := range two {
				w.strike(h)
			}
			look("struck", cluster.Standing{Silent: living, Stopped: true})
			for _, h := range two[:living] {
				if err := c.Dead(h.id, "it was killed", 137); err != nil {
					t.Error(err)
				}
			}
			look("ended", cluster.Standing{Stopped: true})
			c.Close()
			s.Close()
		})
	}
}

// What a run came to is found from a server that is behind, too.
func TestReportBehind(t *testing.T) {
	left(t, func(ctx context.Context, w *world, two []*hand) {
		if err := two[0].m.Report(ctx, true, "well"); err != nil {
			t.Fatal(err)
		}
		s := w.server.Open("another")
		c := resume(ctx, t, behind{s, w, 4, 3 * time.Second}, w)
		look, cancel := w.clock.WithTimeout(ctx, 15*time.Second)
		defer cancel()
		if got, err := c.Report(look); string(got) != `"well"` || err != nil {
			t.Errorf("%s, %v", got, err)
		}
		c.Close()
		s.Close()
	})
}
