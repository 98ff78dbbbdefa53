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
	// Weight is the number of samples behind this rank's parts; 0 for a rank without nodes.
	Weight float64
}

// Reducer replaces Parts[0] on every rank by the sum of all parts of all ranks, exactly or approximately. Who needs
// the mean divides, once. One call at a time on a Group, in the same order on every rank.
type Reducer interface {
	Sum(ctx context.Context, v Vector) error
}

// Exact sums in the canonical order of its tree: the result has the same bits on every rank, transport and worker
// count, unless the algorithm is the ring.
type Exact struct {
	Group     comm.Group
	Tree      comm.Tree
	Algorithm comm.Algorithm // zero: chosen by size
}

// Sum implements Reducer.
func (e *Exact) Sum(ctx context.Context, v Vector) error {
	return comm.AllReduceBy(ctx, e.Group, e.Tree, v.Parts, e.Algorithm)
}
