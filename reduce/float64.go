package reduce

import (
	"context"

	"github.com/covey-ml/covey/comm"
)

// Summer64 is a Reducer that also sums float64, exactly in the canonical order, as solvers need it. It is asked for at
// run time.
type Summer64 interface {
	// Sum64 replaces parts[0] on every rank by the sum of all parts of all ranks. parts is as Vector.Parts.
	Sum64(ctx context.Context, parts [][]float64) error
}

var _ Summer64 = (*Exact)(nil)

// Sum64 implements Summer64. The algorithm is AllReduce64's own choice, whose bits are the canonical tree's, whatever
// e.Algorithm says.
func (e *Exact) Sum64(ctx context.Context, parts [][]float64) error {
	return comm.AllReduce64(ctx, e.Group, e.Tree, parts)
}
