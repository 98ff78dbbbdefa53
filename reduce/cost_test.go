package reduce

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/commtest"
	"github.com/covey-ml/covey/comm/inproc"
)

// What three ranks spend on one sum: each encodes all of its vector, decodes everybody's codes of the chunk that it owns,
// encodes the sum of these and decodes all sums; with error feedback what is encoded passes over memory once more. PowerSGD
// makes four products of the matrix with a factor: for each factor, for the result, and for what was lost.
func TestCodesSpend(t *testing.T) {
	const ranks, rank = 3, 2
	layout := testLayout()
	all := int64(testHead + layout.Len())
	coded := int64(48*64 + 1500) // the rest is too short
	for text, want := range map[string]comm.Cost{
		"fp16":          {Bytes: 8 * all * (ranks + ranks + 1 + ranks)},
		"fp16+ef":       {Bytes: 8*all*(ranks+ranks+1+ranks) + 20*coded*(ranks+1)},
		"powersgd:2+ef": {FLOPs: ranks * 4 * 2 * rank * 48 * 64},
	} {
		rules, err := ParseRules(text)
		if err != nil {
			t.Fatal(err)
		}
		tree, clock := comm.NewTree(ranks, ranks), &commtest.Tally{}
		errs := make([]error, ranks)
		var wg sync.WaitGroup
		for r, g := range inproc.New(ranks, time.Minute) {
			if r == 0 {
				clock.Clock = g.Clock()
			}
			p := &commtest.Priced{Group: g, Tally: clock}
			wg.Go(func() {
				defer g.Close()
				red := NewCompressed(Config{Group: p, Tree: tree, Exact: &Exact{Group: p, Tree: tree}, Layout: layout, Rules: rules})
				x := make([]float32, all)
				for i := range x {
					x[i] = float32(i % 13)
				}
				errs[r] = red.Sum(context.Background(), Vector{Name: "all", Head: testHead, Parts: [][]float32{x}})
			})
		}
		wg.Wait()
		for r, err := range errs {
			if err != nil {
				t.Fatalf("%s, rank %d: %v", text, r, err)
			}
		}
		got := comm.Cost{FLOPs: clock.FLOPs.Load(), Bytes: clock.Bytes.Load()}
		if got.FLOPs != want.FLOPs || want.Bytes != 0 && got.Bytes != want.Bytes {
			t.Errorf("%s: %+v, expected %+v", text, got, want)
		}
	}
}
