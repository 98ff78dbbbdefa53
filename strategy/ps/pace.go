package ps

import (
	"fmt"
	"slices"
	"time"
)

// Progress is what a server knows of the workers, by their number.
type Progress struct {
	Done []int           // steps finished: their pushes have come
	Took []time.Duration // a step's time lately, from when it could start to its push; 0: not known yet
}

// MayStart decides whether a worker may start a step, counted from 0, and says why not.
func (c Config) MayStart(p Progress, who, step int) (ok bool, why string) {
	least := step // steps that those whom the worker waits for must have finished
	of := func(int) bool { return true }
	switch c.Mode {
	case BSP:
	case SSP:
		least = step - c.Staleness
	case GSSP:
		least = step - c.Staleness
		groups := c.groups(p.Took)
		of = func(w int) bool { return groups[w] == groups[who] }
	default:
		return true, ""
	}
	for w, done := range p.Done {
		if done < least && of(w) {
			return false, fmt.Sprintf("step %d waits for worker %d, which has finished %d steps of %d", step+1, w, done, least)
		}
	}
	return true, ""
}

// groups says, by worker, which group of like speed it belongs to, the fastest first: from the fastest on, a group takes in
// those whose steps take at most Ratio times as long as its fastest's. Workers whose speed is not known belong to the first.
func (c Config) groups(took []time.Duration) []int {
	order := make([]int, len(took))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return int(took[a] - took[b]) })
	group, fastest := 0, time.Duration(0)
	groups := make([]int, len(took))
	for _, w := range order {
		switch t := took[w]; {
		case t == 0:
		case fastest == 0:
			fastest = t
		case float64(t) > c.Ratio*float64(fastest):
			group, fastest = group+1, t
		}
		groups[w] = group
	}
	return groups
}
