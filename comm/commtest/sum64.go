package commtest

import (
	"fmt"
	"math"
	"testing"

	"github.com/covey-ml/covey/comm"
)

// rough64 values add to other bits in another order, and need more digits than a float32 has.
func rough64(i, e, n int) float64 { return float64(rough(i, e, n)) * (1 + float64(e+1)/3) }

// allReduce64 checks one sum of float64 against the canonical order, spelt out, and its bill against the books.
func allReduce64(t *testing.T, groups []comm.Group, books []*comm.Ledger, tree comm.Tree, n int) {
	t.Helper()
	want := make([]float64, n)
	for e := range want {
		level := make([]float64, tree.Leaves())
		for i := range level {
			level[i] = rough64(i, e, n)
		}
		for len(level) > 1 {
			var up []float64
			for i := 0; i+1 < len(level); i += 2 {
				up = append(up, level[i]+level[i+1])
			}
			if len(level)%2 == 1 {
				up = append(up, level[len(level)-1])
			}
			level = up
		}
		want[e] = level[0]
	}
	each(t, groups, func(g comm.Group) error {
		steps := tree.Folds(tree.Run(g.Rank()))
		bufs := make([][]float64, max(comm.Buffers(steps), 1))
		for b := range bufs {
			bufs[b] = make([]float64, n)
		}
		for _, s := range steps {
			for e := range n {
				if s.Leaf >= 0 {
					bufs[s.Dst][e] = rough64(s.Leaf, e, n)
				} else {
					bufs[s.Dst][e] += bufs[s.Src][e]
				}
			}
		}
		got := bufs[:tree.Vectors(g.Rank())]
		if err := comm.AllReduce64(bg, g, tree, got); err != nil {
			return fmt.Errorf("float64 sum of %d elements over %d leaves: %w", n, tree.Leaves(), err)
		}
		for e, w := range want {
			if math.Float64bits(got[0][e]) != math.Float64bits(w) {
				return fmt.Errorf("float64 sum of %d elements over %d leaves: element %d is %v, not %v", n, tree.Leaves(), e, got[0][e], w)
			}
		}
		return closes(books[g.Rank()], comm.OpAllReduce)
	})
}
