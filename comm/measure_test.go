package comm_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/inproc"
)

// Every rank gets the same costs, all of them above zero, and the books close over what it took to measure them.
func TestMeasureCosts(t *testing.T) {
	for _, n := range []int{1, 2, 5} {
		groups := open(t, n)
		all := make([]comm.Costs, n)
		var mu sync.Mutex
		each(t, groups, func(g comm.Group) error {
			l := comm.NewLedger()
			c, err := comm.MeasureCosts(bg, comm.Count(g, l))
			if err != nil {
				return err
			}
			if b := l.Totals(); !b.Sum().Closes() {
				return fmt.Errorf("the books do not close:\n%s", b.String())
			}
			mu.Lock()
			all[g.Rank()] = c
			mu.Unlock()
			return nil
		})
		for r, c := range all {
			if c != all[0] {
				t.Errorf("rank %d of %d: %v, rank 0: %v", r, n, c, all[0])
			}
		}
		c := all[0]
		if c.Name != "measured inproc" || c.Gamma <= 0 || c.GammaBeyond < c.Gamma || n > 1 && (c.Alpha <= 0 || c.Beta <= 0 || c.Message < 0 || c.BetaBeyond < c.Beta) {
			t.Errorf("%d ranks: %+v", n, c)
		}
	}
}

// A rank that dies meanwhile is named, as in any collective.
func TestMeasureCostsOverALostRank(t *testing.T) {
	groups := open(t, 3)
	inproc.Kill(groups[1])
	for _, r := range []int{0, 2} {
		_, err := comm.MeasureCosts(context.Background(), groups[r])
		if err == nil || err != comm.Barrier(bg, groups[r]) {
			t.Errorf("rank %d: %v", r, err)
		}
	}
}
