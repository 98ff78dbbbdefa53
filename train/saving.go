package train

import (
	"context"
	"fmt"
	"time"

	"github.com/covey-ml/covey/ckpt"
)

// saveGrace is how long a run that is over waits for the checkpoint under way. What an object store is asked has limits of
// its own that are shorter.
const saveGrace = 10 * time.Minute

// saver is what writes this run's checkpoints, while training goes on.
func (r *run) saver() (*ckpt.Writer, error) {
	if r.writer != nil {
		return r.writer, nil
	}
	clock := r.g.Clock()
	w, err := ckpt.NewWriter(ckpt.WriterConfig{Run: r.c.Checkpoints, Keep: r.c.Keep, Go: clock.Go, Event: func() ckpt.Event { return clock.Event() }})
	r.writer = w
	return w, err
}

// tellSaved tells what became of the checkpoints that are done since it was last called.
func (r *run) tellSaved() {
	if r.writer == nil {
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

func (r *run) toldSave(i CheckpointInfo) {
	r.saveErr = i.Err
	if r.c.Events.Checkpoint != nil {
		r.c.Events.Checkpoint(i)
	}
}

// endSaves waits until no checkpoint is under way, also when the run ends by an error: what follows may save at the same
// place.
func (r *run) endSaves(ctx context.Context) {
	if r.writer == nil {
		return
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
	r.endSaves(context.Background())
	return &DivergedError{Step: step, Loss: loss, Last: r.lastSave}
}
