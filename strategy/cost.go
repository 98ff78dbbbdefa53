package strategy

import (
	"context"
	"slices"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/optim"
	"github.com/covey-ml/covey/vec"
)

// What a worker computes is told to its group's clock here. A real clock knows by itself; on a virtual one the goroutine that
// tells stands still until its host's cores have done as much. Products are told in FLOPs, and what passes over memory in
// bytes read and written. On a hollow group (comm.Hollow) nothing is computed, and the cost is told all the same.

// ForwardFLOPs is what m's forward pass costs for n samples: as it says itself, or a multiplication and an addition for
// each parameter.
func ForwardFLOPs(m model.Model, n int) int64 {
	if c, ok := m.(model.Costed); ok {
		return c.Forward(n)
	}
	return 2 * int64(n) * int64(m.Layout().Len())
}

// Grad is the Model's Grad, for its cost: that of a segment is told before done hears that it is final. One call at a time.
func (w *Worker) Grad(ctx context.Context, x, g []float32, b *data.Batch, done func(model.Segment)) (model.Loss, error) {
	if w.pass == nil {
		w.pass = &pass{layout: w.Model.Layout()}
		w.pass.told = make([]bool, len(w.pass.layout))
		w.pass.f = w.pass.final
	}
	p := w.pass
	p.w, p.g, p.n, p.done, p.ahead = w, g, b.N, done, false
	clear(p.told)
	loss, err := model.Loss{N: b.N}, error(nil)
	switch {
	case comm.IsHollow(w.Group):
	case done == nil:
		loss, err = w.Model.Grad(ctx, x, g, b, nil)
	default:
		loss, err = w.Model.Grad(ctx, x, g, b, p.f)
	}
	if err != nil {
		return loss, err
	}
	for i, s := range slices.Backward(p.layout) { // what the model has not told of
		switch {
		case p.told[i]:
		case done != nil && comm.IsHollow(w.Group):
			p.final(s)
		default:
			p.spend(i)
		}
	}
	p.flush()
	return loss, nil
}

// pass is a Grad under way.
type pass struct {
	w      *Worker
	g      []float32 // the gradient
	layout model.Layout
	n      int // samples
	done   func(model.Segment)
	ahead  bool   // the cost of the forward pass is in owed, or told
	told   []bool // by segment: so is that of its way back
	owed   int64  // FLOPs that the clock has not heard of
	f      func(model.Segment)
}

// final tells what a segment took, and then that it is final.
func (p *pass) final(s model.Segment) {
	if i := p.layout.Index(s); i >= 0 && !p.told[i] {
		p.spend(i)
		p.flush()
	}
	p.done(s)
}

// spend owes the clock what segment i took, and lets faults have their part of it.
func (p *pass) spend(i int) {
	if !p.ahead {
		p.ahead = true
		p.owed += ForwardFLOPs(p.w.Model, p.n)
	}
	p.told[i] = true
	if spoil := p.w.Spoil; spoil != nil && !comm.IsHollow(p.w.Group) {
		s := &p.w.Model.Layout()[i]
		spoil(p.g[s.Off:s.Off+s.Len], s.Off)
	}
	p.owed += p.backward(i)
}

// backward is what the gradient costs after the forward pass for segment i: as the model says itself, or twice as much as
// forward, for the gradients of the parameters and of what went in.
func (p *pass) backward(i int) int64 {
	if c, ok := p.w.Model.(model.Costed); ok {
		return c.Backward(p.n, i)
	}
	return 4 * int64(p.n) * int64(p.layout[i].Len)
}

// flush tells the clock.
func (p *pass) flush() {
	p.w.spend(comm.Cost{FLOPs: p.owed})
	p.owed = 0
}

// Add adds src to dst, for its cost: two vectors are read and one is written.
func (w *Worker) Add(dst, src []float32) {
	if !comm.IsHollow(w.Group) {
		vec.Add(dst, src)
	}
	w.spend(comm.Cost{Bytes: 4 * 3 * int64(len(dst))})
}

// Pass runs f, which passes over n elements of so many vectors, counting twice those that it reads and writes, for its
// cost.
func (w *Worker) Pass(n, vectors int, f func()) {
	if !comm.IsHollow(w.Group) {
		f()
	}
	w.spend(comm.Cost{Bytes: 4 * int64(n) * int64(vectors)})
}

// Apply runs f, which updates n parameters by o, for its cost.
func (w *Worker) Apply(o optim.Optimizer, n int, f func()) {
	if !comm.IsHollow(w.Group) {
		f()
	}
	w.spend(comm.Cost{Bytes: int64(n) * int64(optim.BytesOf(o))})
}

func (w *Worker) spend(c comm.Cost) {
	if c != (comm.Cost{}) {
		w.Group.Clock().Spend(c)
	}
}
