package ps

import (
	"context"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/vec"
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
	return c.k.pullBare(ctx, c.w, c.fetch())
}

func (c *Calls) fetch() request {
	return request{kind: fetch, generation: c.w.Generation, step: c.w.Step}
}

// Read writes rows of the only table to out.
func (c *Calls) Read(ctx context.Context, rows []uint64, out []float32) error {
	return c.k.tables.read(ctx, [][]uint64{rows}, out)
}

// Begun is a Pull, to a copy of X of its own, or a Read that has been asked for and not waited for. Several may be under way;
// they are waited for in the order in which they were begun.
type Begun struct {
	c       *Calls
	rows    reading
	answers []answer // to a pull
	asked   asked
}

// NewBegun makes room for one.
func (c *Calls) NewBegun() *Begun {
	b := &Begun{c: c}
	for s, a := range c.k.answers {
		x := comm.Vector(c.w.Group, len(a.b)/4)
		b.answers = append(b.answers, answer{to: c.k.rank(c.w, s), b: vec.Bytes(x), n: a.n})
	}
	return b
}

// Pull asks for the dense parameters.
func (b *Begun) Pull(ctx context.Context) {
	k, w, h := b.c.k, b.c.w, b.c.fetch()
	b.asked = begin(w.Group, tagPull, b.answers, "'s push", func(s int) error { return k.bare(ctx, w, s, h) })
}

// Pulled waits for them.
func (b *Begun) Pulled(ctx context.Context) error { return b.asked.wait(ctx) }

// Read asks for rows of the only table.
func (b *Begun) Read(ctx context.Context, rows []uint64) {
	b.c.k.tables.begin(ctx, &b.rows, [][]uint64{rows})
}

// ReadTo waits for them, and writes them to out.
func (b *Begun) ReadTo(ctx context.Context, out []float32) error {
	return b.c.k.tables.end(ctx, &b.rows, out)
}

// End meets the other workers, and ends the servers' part.
func (c *Calls) End(ctx context.Context) error {
	c.k.dirty, c.k.steps = true, 0
	c.w.Step--
	return c.k.settle(ctx, c.w)
}
