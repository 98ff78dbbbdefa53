package shm

import (
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
)

// TestNoWakeUpIsLost makes every wait go to sleep at once, in both directions, and holds that no sleep lasted until
// the regular look around while there was something to do. Short messages sleep in Recv, long ones also for leave and
// for room.
func TestNoWakeUpIsLost(t *testing.T) {
	rounds := 20_000
	if testing.Short() {
		rounds = 2000
	}
	for _, c := range []struct{ size, rounds int }{{8, rounds}, {5000, rounds / 4}, {200_000, rounds / 20}} {
		groups := attachAll(t, 2, Options{Ring: minRing}, time.Minute)
		for _, g := range groups {
			g.(*group).e.spin, g.(*group).e.yields = 0, 0
		}
		done := make(chan error)
		go func() { done <- pong(groups[1], c.size) }()
		p, q := make([]byte, c.size), make([]byte, c.size)
		for range c.rounds {
			r := groups[0].(comm.Poster).Post(1, 1, q)
			if err := groups[0].Send(t.Context(), 1, 1, p); err != nil {
				t.Fatal(err)
			}
			if _, _, err := r.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := groups[0].Send(t.Context(), 1, 1, nil); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		for rank, g := range groups {
			e := g.(*group).e
			e.mu.Lock()
			late := e.late
			e.mu.Unlock()
			// One may be due to something that came in the very moment a sleep ended by itself.
			if late > 1 {
				t.Errorf("%d rounds of %d bytes: rank %d found %d times after a whole sleep that there had been something to do", c.rounds, c.size, rank, late)
			}
		}
	}
}
