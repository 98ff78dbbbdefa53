package strategy

import (
	"context"
	"slices"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/vec"
)

// block is how many elements are summed, penalised and updated at a time, while they are in the first cache.
const block = 2048

// Update moves the parameters from element lo on, as many as g has, along the gradient of the mean objective, regularisers
// included, for its cost: g is the sum of the samples' gradients of the data term and mean one over their number. It is
// w.Optimizer's update that Begin has begun, of elements that one update may take by themselves. g is used as scratch. ready,
// which may be nil, is called for each run of g's elements before they are used, to complete g there.
func (w *Worker) Update(g []float32, lo int, mean float32, ready func(lo, hi int)) {
	pen, _ := w.Model.(model.Penalised)
	prox, _ := w.Model.(model.Proximal)
	size := block
	if !w.Optimizer.Local() {
		size = len(g)
	}
	w.Apply(w.Optimizer, len(g), func() {
		for at := 0; at < len(g); at += size {
			end := min(at+size, len(g))
			if ready != nil {
				ready(at, end)
			}
			some := g[at:end]
			scale := mean // by the optimizer, on the way, unless a regulariser has to join the mean before
			if pen != nil {
				vec.Scale(scale, some)
				pen.AddPenaltyGrad(w.X, some, lo+at)
				scale = 1
			}
			w.Optimizer.Apply(w.X, some, lo+at, scale)
			if prox != nil {
				prox.Prox(w.X, lo+at, lo+end, w.Rate)
			}
		}
	})
}

// Parts computes this worker's microshards of the step and sums them into its parts, as folds says, which are those of its
// leaves of w.Tree. buffers are comm.Buffers(folds) frames, at least one, of which the first ones become the parts, in order; a
// part's head is the sum of its samples' losses (HeadLoss) and, of one of them, how many ask to stop (HeadStop). A worker
// without microshards gets one part of zeros.
//
// done, which may be nil, is called for each segment of the last microshard's gradient as that becomes final. The folds that
// come after that microshard are then left to the caller.
func (w *Worker) Parts(ctx context.Context, folds []comm.Fold, buffers [][]float32, done func(model.Segment)) error {
	hollow := comm.IsHollow(w.Group) // then buffers are not this worker's alone
	last := LastLeaf(folds)
	vote := float32(0)
	if w.Stop {
		vote = 1
	}
	for i, f := range folds {
		if f.Leaf < 0 {
			if i < last || done == nil {
				w.Add(buffers[f.Dst], buffers[f.Src])
			}
			continue
		}
		b, err := w.Microshard(f.Leaf)
		if err != nil {
			return err
		}
		final := done
		if i != last {
			final = nil
		}
		buf := buffers[f.Dst]
		loss, err := w.Grad(ctx, w.X, buf[Head:], b, final)
		if err != nil {
			return err
		}
		if !hollow {
			clear(buf[:Head])
			buf[HeadLoss], buf[HeadStop] = loss.Sum, vote
		}
		vote = 0
	}
	if last < 0 && !hollow {
		clear(buffers[0])
	}
	return nil
}

// LastLeaf is the number of the fold that computes the last microshard, -1 if there is none.
func LastLeaf(folds []comm.Fold) int {
	for i, f := range slices.Backward(folds) {
		if f.Leaf >= 0 {
			return i
		}
	}
	return -1
}
