package ps

import (
	"context"
	"slices"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/strategy"
)

// again tells a worker what of the steps before one of them is in the parameters, by microshard. Nothing of that is acknowledged
// here: who is to keep a copy may be lost before it has it.
func (k *worker) again(done []int, regular int) { k.done, k.regular = done, regular }

// stepAgain makes a step of which some is in the parameters, here or there: each microshard that is not everywhere is pushed by itself,
// and servers leave out what they have. A push of nothing ends the step.
func (k *worker) stepAgain(ctx context.Context, w *strategy.Worker) (rep strategy.Report, err error) {
	k.dirty = true // all meet, who has something to push and who has not
	lo, hi := w.Tree.Run(w.Group.Rank())
	if lo < hi && slices.Min(k.done[lo:hi]) > w.Step {
		rep.Quiet = true
		return rep, nil
	}
	clock := w.Group.Clock()
	t := clock.Now()
	for leaf := lo; leaf < hi; leaf++ {
		if k.done[leaf] > w.Step {
			continue
		}
		t := clock.Now()
		if err := k.compute(ctx, w, leaf); err != nil {
			return rep, err
		}
		if k.tables != nil {
			k.tables.alone()
		}
		rep.Compute += clock.Now() - t
		k.dealt = &piece{w.Step, leaf}
		err := k.pushAll(ctx, w, flagLeaf)
		k.dealt = nil
		if err != nil {
			return rep, lost(w, err)
		}
	}
	for _, f := range k.frames {
		clear(f)
	}
	k.steps, k.samples = 1, 0
	if k.tables != nil {
		k.tables.nothing(k.cfg.sums(w.Tree, w.Group.Rank()))
		k.tables.pack()
	}
	err = k.pull(ctx, w, func(s int) error { return k.push(ctx, w, s, 0) })
	k.steps = 0
	if err != nil {
		return rep, lost(w, err)
	}
	rep.Comm = clock.Now() - t - rep.Compute
	rep.Wait = rep.Comm
	k.hear(w, &rep)
	return rep, nil
}

// refusesLeaf says why a push of one microshard is not taken from a worker; empty: it is.
func (v *server) refusesLeaf(who int, r *request) string {
	switch lo, hi := v.w.Tree.Run(comm.Rank(who)); {
	case v.cfg.Held() || !v.cfg.survives():
		return "pushes of single microshards are not of this mode"
	case r.steps != 1 || r.leaf < lo || r.leaf >= hi:
		return "it is not of one step of a microshard of its own"
	}
	return ""
}
