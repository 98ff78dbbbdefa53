package ps

import (
	"fmt"
	"math"
)

// What a guard does.
const (
	GuardStop    = "stop"    // the run ends with the reason
	GuardTighten = "tighten" // workers have to wait for each other more and more
	GuardOff     = "off"
)

// guard watches the losses of a run whose pushes are applied as they come. Such a run that takes steps too long for how late
// its gradients are goes on as if nothing were wrong, and learns nothing.
type guard struct {
	workers  int
	patience int
	window   int       // pushes that a judgement is about
	losses   []float64 // the newest ones, at most window
	seen     int       // pushes in all
	first    float64   // mean of the first ones, one a worker
	best     float64   // the lowest mean of a window
	above    int       // windows in a row whose mean is more than first, and may be so by chance
}

// patience is how many windows in a row may be worse than the first pushes, as these may have been good by chance, before a run ends.
const patience = 4

// newGuard makes one that speaks after so many windows in a row that are worse than the first pushes, or one that is so beyond doubt.
func newGuard(workers, patience int) *guard {
	return &guard{workers: workers, patience: patience, window: max(20, 5*workers), best: math.Inf(1)}
}

// push notes the mean loss of a push and, once a window is full, judges that: why is empty while all is well.
func (g *guard) push(loss float64) (why string) {
	g.losses = append(g.losses, loss)
	if g.seen++; g.seen <= g.workers {
		g.first += loss / float64(g.workers)
	}
	if len(g.losses) < g.window {
		return ""
	}
	mean := 0.0
	for _, l := range g.losses {
		mean += l / float64(g.window)
	}
	noise := 0.0 // a few standard errors of the difference of two means, of a window and of the first pushes
	for _, l := range g.losses {
		noise += (l - mean) * (l - mean) / float64(g.window)
	}
	noise = 3 * math.Sqrt(noise*(1/float64(g.window)+1/float64(g.workers)))
	g.losses = g.losses[:0]
	g.best = min(g.best, mean)
	if g.above++; mean <= g.first {
		g.above = 0
	}
	switch {
	case !(mean <= g.first+noise), g.above == g.patience:
		return fmt.Sprintf("the mean loss of the last %d pushes is %.3g, more than the %.3g of the first ones", g.window, mean, g.first)
	case mean-g.best > (g.first-g.best)/2 && g.best < g.first-noise:
		return fmt.Sprintf("the mean loss of the last %d pushes is %.3g: more than half of the way from %.3g down to %.3g is lost again", g.window, mean, g.first, g.best)
	}
	return ""
}

// again starts to judge anew, but for what the losses were at first.
func (g *guard) again() { g.losses, g.best, g.above = g.losses[:0], math.Inf(1), 0 }

// bounds are what a guard tightens the staleness to, one after the other.
var bounds = []int{8, 4, 2, 1, 0}

// tighter is the next bound below one; ok is false when there is none.
func tighter(bound int) (next int, ok bool) {
	for _, b := range bounds {
		if b < bound {
			return b, true
		}
	}
	return 0, false
}
