package ckpt

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// A Writer saves a run's checkpoints while training goes on. Save copies the tensors, which takes as long as memory
// does, and what follows happens behind the caller's back: writing, reading back, and taking away the older checkpoints
// once the new one is whole. One is under way at most, and there is one copy, whose memory is used again: a Save that
// comes before the last is done waits for it. A Writer is used by one goroutine.
type Writer struct {
	c    WriterConfig
	busy Event  // raised when the one under way is done; nil when none is
	copy []byte // of its tensors

	alone context.Context // ends when nobody else writes any more
	leave context.CancelFunc

	mu   sync.Mutex
	done []Saved
	last Saved
}

// WriterConfig is what a Writer needs.
type WriterConfig struct {
	Run  string // the run's folder or URL: checkpoints go to StepDir(Run, step)
	Keep int    // the newest checkpoints that stay; 0 keeps all

	// Fence, when not nil, is asked before every change to the run's folder, from the goroutine that writes. When it returns an
	// error nothing is changed any more, not even what is left of a checkpoint that was begun, and the checkpoint is not saved. Of
	// workers that write together it is for the one that begins; the others look whether the draft is still there.
	Fence func() error

	// Go runs f beside the caller, as comm.Clock.Go does. Nil writes inside Save.
	Go func(f func())
	// Event makes a flag to wait by, as comm.Clock.Event does. Nil makes one of the language's own, which a simulated
	// clock does not know.
	Event func() Event
	// Sleep waits, as comm.Clock.Sleep does. With nil, who writes with others finds their parts there when its own is written.
	Sleep func(ctx context.Context, d time.Duration) error
}

// Event is a flag that one goroutine raises and another waits for: comm.Event is one.
type Event interface {
	Set()
	Wait(ctx context.Context) error
}

// Saved is what became of a checkpoint.
type Saved struct {
	Step    int
	Path    string
	Err     error    // why it was not saved; it names the step's folder. The checkpoints before it are as they were
	Sent    int64    // bytes of files written
	Kept    int64    // bytes of files that the checkpoint before had already
	Removed []string // older checkpoints that made room
	Prune   error    // why that went wrong: no harm to any checkpoint
}

// NewWriter checks the place and returns a Writer.
func NewWriter(c WriterConfig) (*Writer, error) {
	if err := CheckPlace(c.Run); err != nil {
		return nil, err
	}
	if c.Keep < 0 {
		return nil, fmt.Errorf("checkpoints at %s: keep is %d, expected 1 or more, or 0 for all", c.Run, c.Keep)
	}
	if c.Event == nil {
		c.Event = func() Event { return make(flag, 1) }
	}
	w := &Writer{c: c}
	w.alone, w.leave = context.WithCancel(context.Background())
	return w, nil
}

// Save waits for the checkpoint under way, copies c and begins to write it. When it returns, the tensors may change. Its
// error is about c or the waiting alone: what becomes of the checkpoint, Done tells.
func (w *Writer) Save(ctx context.Context, c Checkpoint) error {
	path := StepDir(w.c.Run, c.Step)
	return w.begin(ctx, path, c, func(c Checkpoint) Saved { return w.write(path, c) })
}

// turn waits for the checkpoint under way.
func (w *Writer) turn(ctx context.Context, path string) error {
	if err := w.wait(ctx); err != nil {
		return fmt.Errorf("saving checkpoint %s: waiting for the one before: %w", path, err)
	}
	return nil
}

// begin has f write a copy of c.
func (w *Writer) begin(ctx context.Context, path string, c Checkpoint, f func(Checkpoint) Saved) error {
	if err := c.valid(); err != nil {
		return fmt.Errorf("saving checkpoint %s: %w", path, err)
	}
	if err := w.turn(ctx, path); err != nil {
		return err
	}
	if w.c.Go == nil {
		w.tell(f(c))
		return nil
	}
	c = w.own(c)
	done := w.c.Event()
	w.busy = done
	w.c.Go(func() {
		defer done.Set()
		w.tell(f(c))
	})
	return nil
}

// Done returns what became of the checkpoints that are done since it was last called, and does not wait.
func (w *Writer) Done() []Saved {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.done
	w.done = nil
	return out
}

// Idle waits until no checkpoint is under way, or the context ends, and tells whether none is.
func (w *Writer) Idle(ctx context.Context) bool { return w.wait(ctx) == nil }

// Flush waits until no checkpoint is under way, and returns the error of the last one.
func (w *Writer) Flush(ctx context.Context) error {
	if err := w.wait(ctx); err != nil {
		return fmt.Errorf("waiting for the checkpoint under way to %s: %w", w.c.Run, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last.Err
}

// Close is Flush, and gives the memory back.
func (w *Writer) Close(ctx context.Context) error {
	err := w.Flush(ctx)
	if w.busy == nil {
		w.copy = nil
	}
	return err
}

func (w *Writer) wait(ctx context.Context) error {
	if w.busy == nil {
		return nil
	}
	if err := w.busy.Wait(ctx); err != nil {
		return err
	}
	w.busy = nil
	return nil
}

func (w *Writer) tell(s Saved) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done, w.last = append(w.done, s), s
}

// own returns c with its tensors in the Writer's memory.
func (w *Writer) own(c Checkpoint) Checkpoint {
	total := size(c.Model) + size(c.State)
	if cap(w.copy) < total {
		w.copy = nil // before the larger one is taken
		w.copy = make([]byte, total)
	}
	free := w.copy[:cap(w.copy)]
	take := func(ts []Tensor) []Tensor {
		out := slices.Clone(ts)
		for i := range out {
			n := copy(free, out[i].Data)
			out[i].Data, free = free[:n:n], free[n:]
			out[i].Shape = slices.Clone(out[i].Shape)
		}
		return out
	}
	c.Model, c.State = take(c.Model), take(c.State)
	c.Extra = maps.Clone(c.Extra)
	return c
}

func (w *Writer) write(path string, c Checkpoint) Saved {
	s := Saved{Step: c.Step, Path: path}
	s.Err = on(path, func(p place) error {
		written, err := saveCounted(behind(p.fs, w.c.Fence), p.name, c)
		s.Sent, s.Kept = written.Sent, written.Kept
		return err
	})
	return w.end(s)
}

// end takes away what a checkpoint that is whole leaves no room for. Of one that is not, it says so when that is the fence's doing,
// whatever else came of it.
func (w *Writer) end(s Saved) Saved {
	switch {
	case s.Err == nil && w.c.Keep > 0:
		s.Removed, s.Prune = pruneBehind(w.c.Fence, w.c.Run, w.c.Keep)
	case s.Err != nil && w.c.Fence != nil:
		if err := w.c.Fence(); err != nil {
			s.Err = fmt.Errorf("saving checkpoint %s: %w", s.Path, err)
		}
	}
	return s
}

// flag holds one token while it is raised.
type flag chan struct{}

func (f flag) Set() {
	select {
	case f <- struct{}{}:
	default:
	}
}

func (f flag) Wait(ctx context.Context) error {
	select { // a raised flag wins over an ended context
	case <-f:
		return nil
	default:
	}
	select {
	case <-f:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
