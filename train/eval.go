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

// measured is what one worker found.
type measured struct {
	Blocks []model.Metrics
	Scores []byte `json:",omitempty"` // as appendScores has them, where there is an AUC
}

// evaluate measures the parameters on all of ds.
func (r *run) evaluate(ctx context.Context, ds data.Dataset) (Tested, error) {
	var mine measured
	err := r.reading(ctx, func() (err error) {
		mine, err = measure(ctx, r.g, r.workers, r.c.Model, r.w.X, ds)
		return err
	})
	if err != nil {
		return Tested{}, err
	}
	return decide(ctx, r.g, mine, tested)
}

// Evaluate measures a model's parameters on a data set, in this process alone, with the same bits as a run reports.
func Evaluate(ctx context.Context, m model.Model, x []float32, ds data.Dataset) (Tested, error) {
	mine, err := measure(ctx, nil, 1, m, x, ds)
	if err != nil {
		return Tested{}, err
	}
	return tested([]measured{mine})
}

// tested adds up what workers found.
func tested(all []measured) (sum Tested, err error) {
	var scores []byte
	for _, part := range all {
		for _, s := range part.Blocks {
			sum.Add(s)
		}
		scores = append(scores, part.Scores...)
	}
	sum.AUC = auc(scores)
	return sum, nil
}

// measure measures x on a rank's share of ds, of which each of the first so many ranks has one.
func measure(ctx context.Context, g comm.Group, workers int, m model.Model, x []float32, ds data.Dataset) (measured, error) {
	blocks := (ds.Len() + evalBlock - 1) / evalBlock
	lo, hi := 0, blocks
	switch {
	case g == nil:
	case int(g.Rank()) < workers:
		lo, hi = data.Slice(int(g.Rank()), workers, blocks)
	default:
		hi = 0
	}
	mine := measured{Blocks: make([]model.Metrics, 0, hi-lo)}
	scored := scorer(m, ds)
	out := make([]float32, 2*evalBlock)
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
				return mine, err
			}
			if scored != nil {
				if err := scored.Predict(ctx, x, &b, out[:2*len(ids)]); err != nil {
					return mine, err
				}
				mine.Scores = appendScores(mine.Scores, out, b.Class)
			}
		}
		if g != nil {
			passes := int64(1)
			if scored != nil {
				passes = 2
			}
			g.Clock().Spend(comm.Cost{FLOPs: passes * strategy.ForwardFLOPs(m, len(ids))})
		}
		mine.Blocks = append(mine.Blocks, s)
	}
	return mine, nil
}
