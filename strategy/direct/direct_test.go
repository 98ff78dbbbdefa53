package direct

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/inproc"
	"github.com/covey-ml/covey/reduce"
	"github.com/covey-ml/covey/strategy"
)

// sumOver adds the leaves' statistics up on n workers and returns what each got.
func sumOver(t *testing.T, n int, leaves [][]float64) [][]float64 {
	t.Helper()
	groups := inproc.New(n, 10*time.Second)
	tree := comm.NewTree(len(leaves), n)
	out := make([][]float64, n)
	errs := make(chan error, n)
	for r, g := range groups {
		go func() {
			defer g.Close()
			lo, hi := tree.Run(comm.Rank(r))
			w := &strategy.Worker{Group: g, Tree: tree, Reducer: &reduce.Exact{Group: g, Tree: tree}}
			var err error
			out[r], err = Sum(context.Background(), w, leaves[lo:hi], len(leaves[0]))
			errs <- err
		}()
	}
	for range groups {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// Statistics of any size add up as float64 would have them, to 2^-50 of the largest share, with the same bits for every
// number of workers.
func TestSumIsExactForAnyWorkers(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	for _, m := range []int{1, 2, 3, 7, 12, 64} {
		const n = 40
		leaves := make([][]float64, m)
		want, top := make([]float64, n), make([]float64, n)
		for l := range leaves {
			leaves[l] = make([]float64, n)
			for i := range n {
				v := (r.Float64() - 0.5) * math.Ldexp(1, r.IntN(40)+i*7-140)
				if i == 5 {
					v = 0
				}
				leaves[l][i] = v
				want[i] += v
				top[i] = max(top[i], math.Abs(v))
			}
		}
		var first []float64
		for _, k := range []int{1, 2, 3, 5, 8} {
			for rank, got := range sumOver(t, k, leaves) {
				if first == nil {
					first = got
				}
				if !slices.Equal(got, first) {
					t.Fatalf("seed %d: %d microshards, worker %d of %d has other bits than one worker", seed, m, rank, k)
				}
				for i := range n {
					if math.Abs(got[i]-want[i]) > math.Ldexp(top[i], -50)*float64(m) {
						t.Fatalf("seed %d: %d microshards, statistic %d is %v, want %v", seed, m, i, got[i], want[i])
					}
				}
			}
		}
	}
}

func TestSumRefusesWhatIsNoNumber(t *testing.T) {
	g := inproc.New(1, time.Second)[0]
	tree := comm.NewTree(1, 1)
	w := &strategy.Worker{Group: g, Tree: tree, Reducer: &reduce.Exact{Group: g, Tree: tree}}
	for _, v := range []float64{math.NaN(), math.Inf(1)} {
		if _, err := Sum(context.Background(), w, [][]float64{{1, v}}, 2); err == nil {
			t.Errorf("%v was summed", v)
		}
	}
}

func ExampleSum() {
	g := inproc.New(1, time.Second)[0]
	tree := comm.NewTree(2, 1)
	w := &strategy.Worker{Group: g, Tree: tree, Reducer: &reduce.Exact{Group: g, Tree: tree}}
	sum, err := Sum(context.Background(), w, [][]float64{{1e10, 0.125}, {1, 0.25}}, 2)
	fmt.Println(sum, err)
	// Output: [1.0000000001e+10 0.375] <nil>
}
