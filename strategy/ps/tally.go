package ps

import "slices"

// tally is what of the steps is in a range's parameters.
type tally struct {
	Done    []int // by microshard, how many
	Applied int   // steps of microshards that were added: the sum of Done, unless one was lost or added twice
}

func newTally(microshards int) tally { return tally{Done: make([]int, microshards)} }

// add books a change.
func (t *tally) add(c *change) {
	t.Applied += (c.hi - c.lo) * c.steps
	for leaf := c.lo; leaf < c.hi; leaf++ {
		t.Done[leaf] = max(t.Done[leaf], c.step)
	}
}

// reach books that microshards lo to hi-1 have come as far as a step, with nothing to add.
func (t *tally) reach(step, lo, hi int) {
	for leaf := lo; leaf < hi; leaf++ {
		t.Applied += max(0, step-t.Done[leaf])
		t.Done[leaf] = max(t.Done[leaf], step)
	}
}

func (t tally) clone() tally { return tally{slices.Clone(t.Done), t.Applied} }
