// Package direct solves a model in closed form: one pass over the data for statistics that add up over samples (for
// linear regression X'X and X'y), one sum over the workers, and the same solution computed on each.
//
// The statistics are float64 and messages are float32, so each statistic travels as float32 limbs on a grid that all
// workers share: limbs are small integers, their sums are exact, and so the result does not depend on the number of
// workers, on the microshards' owners or on any order.
package direct

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/reduce"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/vec"
)

// limbs is the number of float32 that carry one statistic. With up to 256 microshards each holds 15 bits or more, 60
// bits in all, so that nothing of a float64's 53 is lost that matters beside the largest microshard's share.
const limbs = 4

// Strategy needs a model that is model.Direct and one global batch that is the whole training set.
type Strategy struct{}

// New returns a worker's strategy.
func New() *Strategy { return &Strategy{} }

var _ strategy.Strategy = (*Strategy)(nil)

// String is the strategy's name in jobs and checkpoints.
func (*Strategy) String() string { return "direct" }

// State implements ckpt.Stateful: the solution is all there is.
func (*Strategy) State() []ckpt.Tensor { return nil }

// Load implements ckpt.Stateful.
func (*Strategy) Load(ts []ckpt.Tensor) error { return ckpt.Match(ts, nil) }

// Step solves the model; training is then done.
func (*Strategy) Step(ctx context.Context, w *strategy.Worker) (strategy.Report, error) {
	m, ok := w.Model.(model.Direct)
	if !ok {
		return strategy.Report{}, fmt.Errorf("direct: the model has no closed form; use the strategy allreduce")
	}
	if w.Samples != w.Total {
		return strategy.Report{}, fmt.Errorf("direct: the batch must be the whole training set of %d samples, it is %d", w.Total, w.Samples)
	}
	if comm.IsHollow(w.Group) {
		return strategy.Report{}, fmt.Errorf("direct: the solution is made of numbers, and a run for times alone has none")
	}
	clock := w.Group.Clock()
	t0 := clock.Now()
	lo, hi := w.Tree.Run(w.Group.Rank())
	stats := make([][]float64, hi-lo)
	for i := range stats {
		b, err := w.Microshard(lo + i)
		if err != nil {
			return strategy.Report{}, err
		}
		stats[i] = make([]float64, m.StatLen())
		if err := m.Stats(stats[i], b); err != nil {
			return strategy.Report{}, err
		}
		clock.Spend(comm.Cost{FLOPs: 2 * int64(b.N) * int64(m.StatLen())}) // most are sums of products
	}
	t1 := clock.Now()
	sum, err := Sum(ctx, w, stats, m.StatLen())
	if err != nil {
		return strategy.Report{}, err
	}
	t2 := clock.Now()
	if err := m.Solve(w.X, sum, w.Total); err != nil {
		return strategy.Report{}, err
	}
	var rep strategy.Report
	rep.Done, rep.Unmeasured, rep.Why = true, true, "solved in closed form"
	rep.Comm, rep.Wait = t2-t1, t2-t1
	rep.Compute = clock.Now() - t0 - rep.Wait
	return rep, nil
}

// Sum adds n float64 statistics over all microshards of all workers, exactly up to limbs of the grid; stats holds one
// vector for each of this worker's microshards. The result is the same on every worker and for every number of them.
func Sum(ctx context.Context, w *strategy.Worker, stats [][]float64, n int) ([]float64, error) {
	for _, s := range stats {
		for i, v := range s {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return nil, fmt.Errorf("direct: statistic %d of the data is %v: the features are too large", i, v)
			}
		}
	}
	top, err := exponents(ctx, w.Group, stats, n)
	if err != nil {
		return nil, err
	}
	leaves := w.Tree.Leaves()
	// A limb of so many bits, summed over all leaves, still fits the 24 bits of a float32.
	width := 24 - 1 - bits.Len(uint(leaves-1))
	if width < 8 {
		return nil, fmt.Errorf("direct: %d microshards are too many for an exact sum", leaves)
	}
	me := w.Group.Rank()
	first, end := w.Tree.Run(me)
	folds := w.Tree.Folds(first, end)
	bufs := make([][]float32, max(1, comm.Buffers(folds)))
	for i := range bufs {
		bufs[i] = make([]float32, limbs*n)
	}
	for _, f := range folds {
		if f.Leaf >= 0 {
			split(bufs[f.Dst], stats[f.Leaf-first], top, width)
		} else {
			vec.Add(bufs[f.Dst], bufs[f.Src])
		}
	}
	parts := bufs[:w.Tree.Vectors(me)]
	if err := w.Reducer.Sum(ctx, reduce.Vector{Name: "statistics", Parts: parts, Weight: float64(w.Total)}); err != nil {
		return nil, err
	}
	return join(parts[0], top, width), nil
}

// exponents gives for each statistic the binary exponent of its largest absolute value in any microshard.
func exponents(ctx context.Context, g comm.Group, stats [][]float64, n int) ([]int, error) {
	mine := make([]byte, 2*n)
	top := make([]int, n)
	for i := range n {
		e := -2000
		for _, s := range stats {
			if s[i] != 0 {
				_, x := math.Frexp(s[i])
				e = max(e, x)
			}
		}
		top[i] = e
		binary.LittleEndian.PutUint16(mine[2*i:], uint16(e))
	}
	if g.Size() == 1 {
		return top, nil
	}
	exponent := func(b []byte, i int) int { return int(int16(binary.LittleEndian.Uint16(b[2*i:]))) }
	_, err := comm.GatherBytes(ctx, g, mine, func(_, came []byte) ([]byte, error) {
		if len(came) != len(mine) {
			return nil, fmt.Errorf("direct: it has %d statistics, expected %d", len(came)/2, n)
		}
		for i := range n {
			if exponent(came, i) > exponent(mine, i) {
				copy(mine[2*i:2*i+2], came[2*i:])
			}
		}
		return mine, nil
	})
	if err == nil {
		err = comm.Broadcast(ctx, g, 0, mine)
	}
	if err != nil {
		return nil, err
	}
	for i := range top {
		top[i] = exponent(mine, i)
	}
	return top, nil
}

// split writes s as limbs: limb k of statistic i is a whole number of at most width bits, in units of
// 2^(top[i] - (k+1)*width).
func split(dst []float32, s []float64, top []int, width int) {
	n := len(s)
	for i, v := range s {
		rest := math.Ldexp(v, width-top[i]) // below 2^width in magnitude
		for k := range limbs {
			whole := math.Trunc(rest)
			dst[k*n+i] = float32(whole)
			rest = math.Ldexp(rest-whole, width)
		}
	}
}

// join is split's inverse on the sums of limbs.
func join(limb []float32, top []int, width int) []float64 {
	n := len(top)
	s := make([]float64, n)
	for i := range s {
		for k := limbs - 1; k >= 0; k-- {
			s[i] += math.Ldexp(float64(limb[k*n+i]), top[i]-(k+1)*width)
		}
	}
	return s
}
