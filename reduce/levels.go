package reduce

import (
	"context"

	"github.com/covey-ml/covey/comm"
)

// Hierarchical sums in the canonical order, as Exact does, over two groups a rank: a fast one inside the host and one
// between hosts. See comm.Levels.
type Hierarchical struct{ Levels *comm.Levels }

// Sum implements Reducer.
func (h *Hierarchical) Sum(ctx context.Context, v Vector) error {
	return h.Levels.AllReduce(ctx, v.Parts)
}

var _ Reducer = (*Hierarchical)(nil)
