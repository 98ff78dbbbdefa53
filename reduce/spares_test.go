package reduce

import (
	"context"
	"fmt"
	"math"
	"testing"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/vec"
)

// What a rank without microshards brings does not count, and it keeps none of it: nobody would ever hand it out.
func TestSparesKeepNothing(t *testing.T) {
	for _, rules := range []string{"powersgd:2+ef", "topk:0.05+ef", "onebit+ef", "dgc:0.05", "vote:momentum=0.9", "topk:0.1+ef21"} {
		w := newWorld(t, 4, 2, rules, nil)
		for step := range 3 {
			w.must(step, 64, func(parts [][][]float32) {
				for _, p := range parts[2:] {
					for i := range p[0] {
						p[0][i] = float32(math.NaN())
					}
				}
			})
		}
		for rank, r := range w.red[2:] {
			for _, s := range r.(*Compressed).segments {
				if s.feedback == follow { // everybody's sum of estimates is here, too
					s.both = nil
				}
				if !(vec.MaxAbs(s.kept) == 0) || !(vec.MaxAbs(s.both) == 0) {
					t.Errorf("%s: the spare rank %d keeps something of %s", rules, rank+2, s.Name)
				}
			}
		}
	}
}

// Every rank brings what is kept to another number of samples, spare ranks among them: EF21's sum is everybody's.
func TestShortBatchWithSpares(t *testing.T) {
	for _, rules := range []string{"topk:0.2+ef21", "uniform:4+ef21", "powersgd:2+ef", "topk:0.01+ef"} {
		w := newWorld(t, 5, 3, rules, nil)
		for step, total := range []float64{64, 64, 24, 64} {
			w.must(step, total, nil) // the same on all ranks
		}
	}
}

// Two vectors of one length from the same place on are not the same when their heads differ.
func TestPlansKnowTheHead(t *testing.T) {
	w := newWorld(t, 1, 1, "topk:0.01", nil)
	layout := model.Layout{}.Add("a", 2000).Add("b", 16)
	r, err := ParseRules("topk:0.01")
	if err != nil {
		t.Fatal(err)
	}
	red := NewCompressed(Config{Group: w.groups[0], Tree: w.tree, Exact: w.red[0], Layout: layout, Rules: r})
	for _, head := range []int{16, 0, 16} {
		x := make([]float32, 2016)
		for i := range x {
			x[i] = 1
		}
		if err := red.Sum(context.Background(), Vector{Parts: [][]float32{x}, Head: head}); err != nil {
			t.Fatal(err)
		}
		exact := x[:head]
		if head == 0 {
			exact = x[2000:]
		}
		for i, v := range exact {
			if v != 1 {
				t.Fatalf("head of %d: exact element %d is %v", head, i, v)
			}
		}
	}
}

// A matrix whose product with its factor is hardly a number any more has factors that are numbers.
func TestPowerSGDOfTinyNumbers(t *testing.T) {
	for _, size := range []float64{1e-15, 1e-19, 1e-20, 1e-22, 1e-30, 1e-40, 1e-44} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			w := newWorld(t, 2, 2, "powersgd:2+ef", nil)
			for step := range 4 {
				got, _ := w.must(step, 0, func(parts [][][]float32) {
					for _, p := range parts {
						for i := range p[0] {
							p[0][i] = float32(size * float64(p[0][i]))
						}
					}
				})
				if !vec.Finite(got) {
					t.Fatalf("step %d: the sum is not finite", step)
				}
			}
		})
	}
}

// A segment with fewer elements than there are ranks goes each way: some ranks own nothing of it.
func TestShortSegments(t *testing.T) {
	layout := model.Layout{}.Add("a", 3).Add("b", 1200).Add("empty", 0).Add("c", 1)
	const ranks = 5
	for _, rules := range []string{"vote", "vote:momentum=0.5", "dgc:0.1", "identity", "uniform:8+ef"} {
		w := newWorld(t, ranks, ranks, rules, nil)
		r, err := ParseRules(rules)
		if err != nil {
			t.Fatal(err)
		}
		w.layout = layout
		for rank, g := range w.groups {
			w.red[rank] = NewCompressed(Config{Group: g, Tree: w.tree, Exact: &Exact{Group: g, Tree: w.tree}, Layout: layout, Rules: r})
		}
		for step := range 3 {
			got, exact := w.must(step, 1, func(parts [][][]float32) {
				for rank, p := range parts {
					for i := range p[0] {
						p[0][i] = float32(i%2*2-1) * float32(rank+1) // all of one mind
					}
				}
			})
			for _, i := range []int{testHead, testHead + 1, testHead + 2, len(got) - 1} {
				if (got[i] > 0) != (exact[i] > 0) || got[i] == 0 {
					t.Errorf("%s, step %d: element %d is %v of %v", rules, step, i, got[i], exact[i])
				}
			}
		}
	}
	if _, hi := comm.Chunk(3, ranks, 0); hi != 0 {
		t.Error("every rank has a part of 3 elements")
	}
}
