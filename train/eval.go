package train

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model"
)

// evalBlock is the number of samples that are evaluated in one go. The blocks' metrics are added in order, whoever
// computed them, so that a test loss has the same bits for any number of workers.
const evalBlock = 500

// evaluate measures x on all of ds, each worker on its share.
func evaluate(ctx context.Context, g comm.Group, m model.Model, x []float32, ds data.Dataset) (model.Metrics, error) {
	blocks := (ds.Len() + evalBlock - 1) / evalBlock
	rank, size := 0, 1
	if g != nil {
		rank, size = int(g.Rank()), g.Size()
	}
	lo, hi := data.Slice(rank, size, blocks)
	mine := make([]model.Metrics, 0, hi-lo)
	var b data.Batch
	ids := make([]int, 0, evalBlock)
	for k := lo; k < hi; k++ {
		ids = ids[:0]
		for i := k * evalBlock; i < min((k+1)*evalBlock, ds.Len()); i++ {
			ids = append(ids, i)
		}
		ds.Gather(&b, ids)
		s, err := m.Eval(ctx, x, &b)
		if err != nil {
			return model.Metrics{}, err
		}
		mine = append(mine, s)
	}
	all, err := gatherJSON(ctx, g, mine)
	if err != nil {
		return model.Metrics{}, err
	}
	var sum model.Metrics
	for _, part := range all {
		for _, s := range part {
			sum.Add(s)
		}
	}
	return sum, nil
}

// Evaluate measures a model's parameters on a data set, in this process alone, with the same bits as a run reports.
func Evaluate(ctx context.Context, m model.Model, x []float32, ds data.Dataset) (model.Metrics, error) {
	return evaluate(ctx, nil, m, x, ds)
}

// gather gives every worker the bytes of all, by rank.
func gather(ctx context.Context, g comm.Group, mine []byte) ([][]byte, error) {
	if g == nil || g.Size() == 1 {
		return [][]byte{mine}, nil
	}
	return comm.AllGatherBytes(ctx, g, mine, nil)
}

// gatherJSON gives every worker the values of all, by rank.
func gatherJSON[T any](ctx context.Context, g comm.Group, mine T) ([]T, error) {
	b, err := json.Marshal(mine)
	if err != nil {
		return nil, err
	}
	raw, err := gather(ctx, g, b)
	if err != nil {
		return nil, err
	}
	all := make([]T, len(raw))
	for r, b := range raw {
		if err := json.Unmarshal(b, &all[r]); err != nil {
			return nil, fmt.Errorf("train: what worker %d says of itself: %w", r, err)
		}
	}
	return all, nil
}
