package reduce

import (
	"math"
	"testing"

	"github.com/covey-ml/covey/ckpt"
)

// switched makes each rank's reducer a Switch over several choices.
func switched(t *testing.T, ranks, leaves int, arms ...string) *world {
	t.Helper()
	w := newWorld(t, ranks, leaves, "none", nil)
	for rank, g := range w.groups {
		exact := w.red[rank]
		all := make([]Reducer, len(arms))
		for i, a := range arms {
			rules, err := ParseRules(a)
			if err != nil {
				t.Fatal(err)
			}
			if all[i], err = New(Config{Group: g, Tree: w.tree, Exact: exact, Layout: w.layout, Rules: rules, Seed: 7}, nil); err != nil {
				t.Fatal(err)
			}
		}
		w.red[rank] = NewSwitch(w.layout.Len(), all...)
	}
	return w
}

// Nothing is lost when another reducer takes over: a sample's share of what was handed out over the steps is a sample's share
// of what was brought, once the last arm is exact. Batches differ in size; a rank is a spare.
func TestSwitchHandsOver(t *testing.T) {
	w := switched(t, 4, 3, "topk:0.05+ef", "onebit+ef", "powersgd:2+ef", "none")
	n := testHead + w.layout.Len()
	handed, brought := make([]float64, n), make([]float64, n)
	step := 0
	for _, turn := range []struct {
		arm   int
		total float64
	}{{0, 64}, {0, 64}, {1, 32}, {1, 64}, {0, 16}, {2, 64}, {2, 48}, {3, 64}} {
		for _, r := range w.red {
			r.(*Switch).Use(turn.arm)
		}
		got, exact := w.must(step, turn.total, nil)
		step++
		for i := range got {
			handed[i] += float64(got[i]) / turn.total
			brought[i] += exact[i] / turn.total
		}
	}
	for i := range handed {
		if math.Abs(handed[i]-brought[i]) > 2e-5*(1+math.Abs(brought[i])) {
			t.Fatalf("element %d: %v handed out of %v", i, handed[i], brought[i])
		}
	}
}

// A checkpoint between Use and the next sum has what is in between.
func TestSwitchState(t *testing.T) {
	arms := []string{"topk:0.05+ef", "none"}
	a, b := switched(t, 2, 2, arms...), switched(t, 2, 2, arms...)
	a.must(0, 64, nil)
	for rank, r := range a.red {
		r.(*Switch).Use(1)
		if err := b.red[rank].(ckpt.Stateful).Load(r.(ckpt.Stateful).State()); err != nil {
			t.Fatal(err)
		}
	}
	x, exact := a.must(1, 64, nil)
	y, _ := b.must(1, 64, nil)
	apart := false
	for i := range x {
		if x[i] != y[i] {
			t.Fatalf("element %d: %v before and %v after loading", i, x[i], y[i])
		}
		apart = apart || math.Abs(float64(x[i])-exact[i]) > 1
	}
	if !apart {
		t.Error("nothing was left to hand out: nothing was tested")
	}
}
