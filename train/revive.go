package train

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/covey-ml/covey/strategy"
)

// A strategy.Survivor keeps parameters and optimizer's state itself from one group to the next; what is kept here of a group that
// has ended is where the run stood.

// past is what a worker keeps of a group that has ended.
type past struct {
	strategy strategy.Survivor
	shot     *shot // without parameters and state
	served   bool  // it computed no gradients, and heard of no loss
}

// pastSaid is what it tells the others of it.
type pastSaid struct {
	Standing json.RawMessage
	Gen      uint64
	Step     int
	Unended  bool
	Saved    bool
	Served   bool
}

// buried tells whether a strategy is what is left of a group that has ended.
func (k *kept) buried(s strategy.Strategy) bool {
	return k != nil && slices.ContainsFunc(k.pasts, func(p *past) bool { return p.strategy == s })
}

// forget does without what is left of groups that have ended.
func (k *kept) forget() {
	for _, p := range k.pasts {
		if keeper, ok := p.strategy.(strategy.Keeper); ok {
			keeper.Close() // as closeTables does
		}
	}
	k.pasts = nil
}

// outlived forgets them once all have come to do steps as usual: only then is it sure that all took up what they were to.
func (r *run) outlived() {
	if r.step > max(r.since, r.regular) {
		r.kept.forget()
	}
}

// bury keeps what is left of a run whose group has ended.
func (r *run) bury(s strategy.Survivor) {
	k := r.kept
	p := &past{strategy: s, served: int(r.g.Rank()) >= r.workers, shot: &shot{Step: r.step, Unended: r.unended, Saved: r.saved, Last: r.last, LastSave: r.lastSave,
		Progress: r.progress(), gen: k.generation.Number}}
	r.outlived()
	k.pasts = append([]*past{p}, k.pasts...)
}

// revive goes on from what the strategies of earlier groups have, on all ranks together, or if that is not whole from a checkpoint.
func (r *run) revive(ctx context.Context, s strategy.Survivor) error {
	k := r.kept
	var me []pastSaid
	var before []strategy.Strategy
	for _, p := range k.pasts {
		b, err := json.Marshal(p.strategy.Standing())
		if err != nil {
			return err
		}
		me = append(me, pastSaid{b, p.shot.gen, p.shot.Step, p.shot.Unended, p.shot.Saved == p.shot.Step, p.served})
		before = append(before, p.strategy)
	}
	all, err := decide(ctx, r.g, me, func(all [][]pastSaid) ([][]pastSaid, error) { return all, nil })
	if err != nil {
		return err
	}
	standings := make([][]json.RawMessage, len(all))
	for rank, said := range all {
		for _, p := range said {
			standings[rank] = append(standings[rank], p.Standing)
		}
	}
	found, err := s.Revive(ctx, r.w, before, standings)
	if err != nil {
		return err
	}
	if found == nil {
		if k.forget(); k.generation.Number > 1 {
			defer func() {
				r.notes = append(r.notes, "no copy is left of what was lost: the run goes on from its newest checkpoint, or afresh")
			}()
		}
		return r.restore(ctx)
	}
	return r.goOnFrom(ctx, found, all)
}

// goOnFrom makes the run stand where the strategy has found it to be.
func (r *run) goOnFrom(ctx context.Context, found *strategy.Revived, all [][]pastSaid) error {
	step := slices.Min(found.Done)
	rank, at := teller(all, step)
	var told shot
	if rank == int(r.g.Rank()) {
		told = *r.kept.pasts[at].shot
	}
	told, err := hearFrom(ctx, r.g, rank, told)
	if err != nil {
		return err
	}
	p := told.Progress
	r.lossSum, r.lossOf, r.loss, r.rounds = p.LossSum, p.LossOf, p.Loss, p.Rounds
	r.last, r.lastSave, r.notes = told.Last, told.LastSave, found.Notes
	r.w.Step = max(0, step-1) // the last one that is done, as what is due after it expects
	r.at(step)
	r.regular = found.Regular
	r.unended = step > 0 && !ended(all, step)
	epoch := r.epoch
	if r.unended && r.used == 0 {
		epoch--
		r.closed, r.books.epoch = epoch, epoch
	}
	r.books.base, r.books.ahead = r.usedIn(epoch, found), r.usedIn(epoch+1, found)
	r.saved = -1
	if mine := all[0]; len(mine) > 0 && mine[0].Step == step && mine[0].Saved {
		r.saved = step
	}
	return nil
}

// teller is who tells the others where the run was, and which of its pasts that is: a worker that is at the step, or else the first, or
// if no worker is left a server, which does not know of losses.
func teller(all [][]pastSaid, step int) (rank, at int) {
	best := -1
	for r, said := range all {
		for i, p := range said {
			fit := 0
			if !p.Served {
				fit = 1
				if p.Step == step {
					fit = 2
				}
			}
			if fit > best {
				best, rank, at = fit, r, i
			}
		}
	}
	return rank, at
}

// ended tells whether what is due after a step is done: no worker of the newest generation has yet to do it, or come to the step.
// Servers may hear of it later, and have served the next step by then: they count where no worker is left.
func ended(all [][]pastSaid, step int) bool {
	newest, workers := uint64(0), false
	for _, said := range all {
		for _, p := range said {
			newest = max(newest, p.Gen)
		}
	}
	for _, said := range all {
		workers = workers || slices.ContainsFunc(said, func(p pastSaid) bool { return p.Gen == newest && !p.Served })
	}
	for _, said := range all {
		for _, p := range said {
			if p.Gen == newest && p.Served != workers && (p.Step < step || p.Step == step && p.Unended) {
				return false
			}
		}
	}
	return true
}

// usedIn makes the books of an epoch: what microshards have done of it, the sampler knows.
func (r *run) usedIn(epoch int, found *strategy.Revived) *sampleSet {
	set := newSampleSet(r.c.Train.Len())
	for step := slices.Max(found.Done) - 1; step >= 0; step-- {
		of, _ := r.sampler.At(step)
		if of < epoch {
			break
		}
		for leaf, done := range found.Done {
			if of == epoch && step < done {
				r.usedBy(set, shot{}, step, leaf)
			}
		}
	}
	return set
}
