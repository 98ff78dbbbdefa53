package reduce

import (
	"context"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/inproc"
)

// A sum allocates nothing in the steady state, whatever its way.
func TestSumAllocatesNothing(t *testing.T) {
	for _, rules := range []string{"topk:0.01+ef", "powersgd:2+ef", "uniform:bits=8+ef", "qsgd:levels=127", "onebit+ef", "vote", "dgc:0.01", "uniform:bits=4+ef21"} {
		g := inproc.New(1, time.Second)[0]
		r, err := ParseRules(rules)
		if err != nil {
			t.Fatal(err)
		}
		tree := comm.NewTree(1, 1)
		red := NewCompressed(Config{Group: g, Tree: tree, Exact: &Exact{Group: g, Tree: tree}, Layout: testLayout(), Rules: r})
		w := &world{tree: tree, layout: testLayout()}
		v := Vector{Head: testHead, Parts: w.vectors(0, 0), Total: 64}
		sum := func() {
			if err := red.Sum(context.Background(), v); err != nil {
				t.Fatal(err)
			}
			v.Step++
		}
		sum()
		if n := testing.AllocsPerRun(50, sum); n > 0 && !raced { // the race detector allocates
			t.Errorf("%s: %v allocations a sum", rules, n)
		}
		g.Close()
	}
}
