// Package reduce turns every worker's vector into the workers' sum.
//
// A Reducer is what a strategy calls when workers talk. Exact gives the bits of the canonical tree; lossy, sparse,
// hierarchical and robust sums are Reducers around Reducers.
package reduce

import (
	"context"

	"github.com/covey-ml/covey/comm"
)

// Vector is one rank's share of a sum over workers.
type Vector struct {
	// Name and Off say which part of the flat vector this is; state and per-layer choices hang on them.
	Name string
	Off  int
	// Parts are this rank's partial sums in tree order, one for each node of comm.Tree.Parts; a rank without nodes
	// brings one vector, whose content does not count. All have the same length. Sum may overwrite all of them.
	Parts [][]float32
	// Head is how many elements of each part come before the flat vector's: what a strategy sends along. They are summed
	// exactly by every Reducer. Off is where the element after them stands in the flat vector.
	Head int
	// Weight is the number of samples behind this rank's parts; 0 for a rank without nodes. Total is that of all ranks:
	// state that outlives a sum (residuals) is kept for one sample, so that a short batch does not upset it.
	Weight, Total float64
	// Step counts the sums of this part of the vector, from 0: with the seed and the rank it keys random draws.
	Step int
}

// Reducer replaces Parts[0] on every rank by the sum of all parts of all ranks, exactly or approximately. Who needs
// the mean divides, once. One call at a time on a Group, in the same order on every rank.
type Reducer interface {
	Sum(ctx context.Context, v Vector) error
}

// Scatterer is asked for at run time: a Reducer that can leave each rank its own part of the sum to work on, for sharded
// optimizers.
type Scatterer interface {
	Reducer
	// Scatters tells whether Update is the better way for vectors of n elements; the same on every rank.
	Scatters(n int) bool
	// Update sums v, but only this rank's part of the sum comes to Parts[0]. It calls f for consecutive pieces [lo, hi)
	// that make that part up, as they are there; f writes x[lo:hi], and in the end x, as long as v, is the same on every
	// rank. Peers write to x, and read what it held no more, from the moment all ranks have called Update.
	Update(ctx context.Context, v Vector, x []float32, f func(lo, hi int)) error
}

// Exact sums in the canonical order of its tree: the result has the same bits on every rank, transport and worker
// count, unless the algorithm is the ring.
type Exact struct {
	Group     comm.Group
	Tree      comm.Tree
	Algorithm comm.Algorithm // zero: chosen by size
}

// scatterBytes is where an Update, which takes two rounds, begins to beat a sum in one round and the whole work on each
// rank.
const scatterBytes = 64 << 10

// Scatters implements Scatterer.
func (e *Exact) Scatters(n int) bool {
	return Scatters(e.Algorithm, e.Group.Size(), n, func() comm.Algorithm { return comm.ChooseOn(e.Group, e.Tree, 4*n) })
}

// Scatters tells whether Exact takes Update to be the better way for n elements, for an algorithm that was asked for: from
// 64 KiB on, unless another algorithm than Update's was or, with several hosts, a sum by Hierarchical sends so much less
// between them that it is the better way. chosen says what Auto would take.
func Scatters(asked comm.Algorithm, ranks, n int, chosen func() comm.Algorithm) bool {
	if ranks == 1 || 4*n < scatterBytes {
		return false
	}
	return asked == comm.Direct || asked == comm.Shared || asked == comm.Auto && chosen() != comm.Hierarchical
}

// Update implements Scatterer. This rank's part is comm.Chunk of the vector.
func (e *Exact) Update(ctx context.Context, v Vector, x []float32, f func(lo, hi int)) error {
	return comm.Update(ctx, e.Group, e.Tree, v.Parts, x, f)
}

var _ Scatterer = (*Exact)(nil)

// Sum implements Reducer.
func (e *Exact) Sum(ctx context.Context, v Vector) error {
	return comm.AllReduceBy(ctx, e.Group, e.Tree, v.Parts, e.Algorithm)
}
