package sim

import (
	"math"
	"slices"
	"testing"

	"github.com/covey-ml/covey/rng"
)

// TestSharing: activities come and go on resources drawn by lot, and each has at all times the rate that is fair: it is at its bound, or at a
// full resource where nobody gets more.
func TestSharing(t *testing.T) {
	for seed := uint64(1); seed <= 40; seed++ {
		r := rng.New(seed, "sharing")
		w := &World{}
		rs := make([]resource, 1+r.IntN(12))
		for i := range rs {
			rs[i].cap = 1 + 9*r.Float64()
		}
		var all []*activity
		for range 150 {
			if len(all) > 0 && r.IntN(3) == 0 {
				i := r.IntN(len(all))
				w.finish(all[i])
				all = slices.Delete(all, i, i+1)
			} else {
				a := &activity{left: 1e9, most: math.Inf(1)}
				a.end.idx = -1
				if r.IntN(3) > 0 {
					a.most = 3 * r.Float64()
				}
				for i := range rs {
					if r.IntN(4) == 0 {
						a.uses = append(a.uses, &rs[i])
					}
				}
				w.begin(a)
				all = append(all, a)
			}
			w.settle()
			for _, a := range all {
				if !fair(a) {
					t.Fatalf("seed %d: of %d activities one with bound %v gets %v", seed, len(all), a.most, a.rate)
				}
			}
		}
	}
}

func fair(a *activity) bool {
	const close = 1e-6
	if a.rate > a.most*(1+close) {
		return false
	}
	bottleneck := a.rate >= a.most*(1-close)
	for _, r := range a.uses {
		sum, most := 0.0, 0.0
		for _, u := range r.users {
			sum, most = sum+u.rate, max(most, u.rate)
		}
		if sum > r.cap*(1+close) {
			return false
		}
		bottleneck = bottleneck || sum >= r.cap*(1-close) && a.rate >= most*(1-close)
	}
	return bottleneck
}
