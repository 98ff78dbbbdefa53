package train

import (
	"context"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/strategy"
)

// evalBlock is the number of samples that are evaluated in one go. The blocks' metrics are added in order, whoever
// computed them, so that a test loss has the same bits for any number of workers.
const evalBlock = 500

// evaluate measures x on all of ds, each of the first so many ranks on its share.
func evaluate(ctx context.Context, g comm.Group, workers int, m model.Model, x []float32, ds data.Dataset) (model.Metrics, error) {
	blocks := (ds.Len() + evalBlock - 1) / evalBlock
	lo, hi := 0, blocks
	switch {
	case g == nil:
	case int(g.Rank()) < workers:
		lo, hi = data.Slice(int(g.Rank()), workers, blocks)
	default:
		hi = 0
	}
	mine := make([]model.Metrics, 0, hi-lo)
	var b data.Batch
	ids := make([]int, 0, evalBlock)
	hollow := g != nil && comm.IsHollow(g)
	for k := lo; k < hi; k++ {
		ids = ids[:0]
		for i := k * evalBlock; i < min((k+1)*evalBlock, ds.Len()); i++ {
			ids = append(ids, i)
		}
		s := model.Metrics{N: len(ids)}
		if !hollow {
			ds.Gather(&b, ids)
			var err error
			if s, err = m.Eval(ctx, x, &b); err != nil {
				return model.Metrics{}, err
			}
		}
		if g != nil {
			g.Clock().Spend(comm.Cost{FLOPs: strategy.ForwardFLOPs(m, len(ids))})
		}
		mine = append(mine, s)
	}
	return decide(ctx, g, mine, func(all [][]model.Metrics) (sum model.Metrics, err error) {
		for _, part := range all {
			for _, s := range part {
				sum.Add(s)
			}
		}
		return sum, nil
	})
}

// Evaluate measures a model's parameters on a data set, in this process alone, with the same bits as a run reports.
func Evaluate(ctx context.Context, m model.Model, x []float32, ds data.Dataset) (model.Metrics, error) {
	return evaluate(ctx, nil, 1, m, x, ds)
}
