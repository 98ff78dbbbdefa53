package ps

import (
	"context"

	"github.com/covey-ml/covey/strategy"
)

// Calls is what a worker of an asynchronous parameter server does in its steps, one by one, for who measures them. It computes
// nothing. Meanwhile servers are in Step, and then in Settle.
type Calls struct {
	w *strategy.Worker
	k *worker
}

// Calls returns a worker's. The strategy has been prepared, and has made no step.
func (s *Strategy) Calls() *Calls {
	s.worker.samples = 1
	return &Calls{s.w, s.worker}
}

// Gradient is the gradient of the dense parameters that Push pushes.
func (c *Calls) Gradient() []float32 { return c.k.frames[0][head:] }

// Push pushes Gradient, and the gradients x of a table's rows when there are tables, as a step of one sample. It waits for
// nothing; servers take pushes in order.
func (c *Calls) Push(ctx context.Context, rows []uint64, x []float32) error {
	if t := c.k.tables; t != nil {
		t.parts = [][]sparse{{{rows, x}}}
	}
	c.k.steps = 1
	err := c.k.pushAll(ctx, c.w, flagSilent)
	c.w.Step++
	return err
}

// Pull brings the dense parameters to X, once all pushes before have been made.
func (c *Calls) Pull(ctx context.Context) error {
	h := request{kind: fetch, generation: c.w.Generation, step: c.w.Step}
	return c.k.pullBare(ctx, c.w, h)
}

// Read writes rows of the only table to out.
func (c *Calls) Read(ctx context.Context, rows []uint64, out []float32) error {
	return c.k.tables.read(ctx, [][]uint64{rows}, out)
}

// End meets the other workers, and ends the servers' part.
func (c *Calls) End(ctx context.Context) error {
	c.k.dirty, c.k.steps = true, 0
	c.w.Step--
	return c.k.settle(ctx, c.w)
}
