package train

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/covey-ml/covey/ckpt"
)

// saveGrace is how long a run that is over waits for the checkpoint under way. What an object store is asked has limits of
// its own that are shorter.
const saveGrace = 10 * time.Minute

// savePulse is how often workers hear of each other while they wait for a checkpoint.
const savePulse = 250 * time.Millisecond

// saver is what writes this run's checkpoints, or this worker's part of them, while training goes on.
func (r *run) saver() (*ckpt.Writer, error) {
	if r.writer != nil {
		return r.writer, nil
	}
	clock := r.g.Clock()
	c := ckpt.WriterConfig{Run: r.c.Checkpoints, Keep: r.c.Keep, Go: clock.Go, Event: func() ckpt.Event { return clock.Event() }, Sleep: clock.Sleep}
	if r.fence != nil { // rank 0's: of what all write it makes a checkpoint
		c.Fence = r.fence.check
	}
	w, err := ckpt.NewWriter(c)
	r.writer = w
	return w, err
}

// tellSaved tells what became of the checkpoints that are done since it was last called. Of parts of them rank 0 hears from the
// others.
func (r *run) tellSaved() {
	if r.writer == nil || r.g.Rank() != 0 {
		return
	}
	for _, s := range r.writer.Done() {
		if s.Err == nil {
			r.lastSave = s.Path
			s.Err = s.Prune
		}
		r.toldSave(CheckpointInfo{Step: s.Step, Path: s.Path, Err: s.Err})
	}
}

// notSaved tells, at rank 0, why the checkpoint of this step is not going to be there.
func (r *run) notSaved(err error) {
	if r.g.Rank() != 0 {
		return
	}
	r.toldSave(CheckpointInfo{Step: r.step, Path: ckpt.StepDir(r.c.Checkpoints, r.step), Err: err})
}

func (r *run) toldSave(i CheckpointInfo) {
	r.saveErr = i.Err
	if r.c.Events.Checkpoint != nil {
		r.c.Events.Checkpoint(i)
	}
}

// awaitSaves waits until no worker has a checkpoint under way, and tells whether that came to be before saveGrace was over. It is a
// collective: workers hear of each other meanwhile, so that none is taken for lost while a store takes its time.
func (r *run) awaitSaves(ctx context.Context) (bool, error) {
	for waited := time.Duration(0); r.underWay; waited += savePulse {
		soon, cancel := r.g.Clock().WithTimeout(ctx, savePulse)
		idle := r.writer == nil || r.writer.Idle(soon)
		cancel()
		all, err := decide(ctx, r.g, idle, func(all []bool) (bool, error) { return !slices.Contains(all, false), nil })
		switch {
		case err != nil || !all && waited >= saveGrace:
			return false, err
		case all:
			r.underWay = false
		}
	}
	return true, nil
}

// endSaves waits until no checkpoint is under way, also when the run ends by an error: what follows may save at the same
// place. After one that leaves in doubt whether all the others are there, nobody waits for their parts.
func (r *run) endSaves(ctx context.Context, ended error) {
	if r.writer == nil {
		return
	}
	var diverged *DivergedError
	if ended != nil && !errors.Is(ended, ErrStopped) && !errors.Is(ended, ErrRegroup) && !errors.As(ended, &diverged) {
		r.writer.Alone()
	}
	ctx, cancel := r.g.Clock().WithTimeout(context.WithoutCancel(ctx), saveGrace)
	defer cancel()
	err := r.writer.Flush(ctx) // the checkpoint's own error is told below
	r.tellSaved()
	if ctx.Err() != nil && err != nil {
		r.toldSave(CheckpointInfo{Step: r.saved, Path: ckpt.StepDir(r.c.Checkpoints, r.saved), Err: fmt.Errorf("not done after %v: %w", saveGrace, err)})
	}
}

// divergedAt says that training has, and which checkpoint is the last good one: the one under way may be.
func (r *run) divergedAt(step int, loss float64) error {
	r.endSaves(context.Background(), nil)
	return &DivergedError{Step: step, Loss: loss, Last: r.lastSave}
}
