package model

import (
	"context"
	"sync"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/vec"
)

// Whole is a Sparse model as an ordinary one: its tables are segments of the flat vector, after the dense parameters, of
// shape [rows, width]. It is for tables that fit into every worker's memory; its gradients have the bits of the Sparse
// model's.
type Whole struct {
	sparse Sparse
	layout Layout
	pool   sync.Pool // of *wholeRoom
}

var (
	_ Model     = (*Whole)(nil)
	_ Predictor = (*Whole)(nil)
)

// wholeRoom is the memory of one call.
type wholeRoom struct {
	picked Picked
	x, g   []float32
}

// NewWhole returns s with its tables in the flat vector. It makes none, so that s may be too large to be trained so.
func NewWhole(s Sparse) *Whole {
	w := &Whole{sparse: s, layout: append(Layout{}, s.Layout()...)}
	for _, t := range s.Tables() {
		w.layout = w.layout.Add(t.Name, int(t.Rows), t.Width)
	}
	w.pool.New = func() any { return new(wholeRoom) }
	return w
}

// Sparse is the model without its tables, for whoever keeps them elsewhere.
func (w *Whole) Sparse() Sparse { return w.sparse }

// Layout implements Model.
func (w *Whole) Layout() Layout { return w.layout }

// tables are the segments that hold them.
func (w *Whole) tables() Layout { return w.layout[len(w.sparse.Layout()):] }

// Init implements Model.
func (w *Whole) Init(x []float32, seed uint64) {
	w.sparse.Init(x[:w.sparse.Layout().Len()], seed)
	for i, t := range w.sparse.Tables() {
		s, initial := w.tables()[i], t.Initial(seed)
		for row := range int(t.Rows) {
			initial(x[s.Off+row*t.Width:], uint64(row))
		}
	}
}

// room returns memory with what the Sparse model's methods want of x.
func (w *Whole) room(x []float32, b *data.Batch) (*wholeRoom, error) {
	r := w.pool.Get().(*wholeRoom)
	if err := w.sparse.Pick(&r.picked, b); err != nil {
		w.pool.Put(r)
		return nil, err
	}
	r.x = vec.Resized(r.x, r.picked.Len(w.sparse))
	copy(r.x, x[:w.sparse.Layout().Len()])
	w.rows(r, func(at, in, width int) { copy(r.x[in:in+width], x[at:at+width]) })
	return r, nil
}

// rows tells of each picked row where it is in the flat vector and where among the picked.
func (w *Whole) rows(r *wholeRoom, f func(at, in, width int)) {
	in := w.sparse.Layout().Len()
	for t, s := range w.tables() {
		width := s.Shape[1]
		for _, row := range r.picked.Rows[t] {
			f(s.Off+int(row)*width, in, width)
			in += width
		}
	}
}

// Grad implements Model.
func (w *Whole) Grad(ctx context.Context, x, g []float32, b *data.Batch, done func(Segment)) (Loss, error) {
	r, err := w.room(x, b)
	if err != nil {
		return Loss{}, err
	}
	defer w.pool.Put(r)
	r.g = vec.Resized(r.g, len(r.x))
	loss, err := w.sparse.Grad(ctx, r.x, r.g, b, &r.picked, func(s Segment) {
		copy(g[s.Off:s.Off+s.Len], r.g[s.Off:])
		if done != nil {
			done(s)
		}
	})
	if err != nil {
		return Loss{}, err
	}
	clear(g[w.sparse.Layout().Len():])
	w.rows(r, func(at, in, width int) { copy(g[at:at+width], r.g[in:in+width]) })
	for _, s := range w.tables() {
		if done != nil {
			done(s)
		}
	}
	return loss, nil
}

// Eval implements Model.
func (w *Whole) Eval(ctx context.Context, x []float32, b *data.Batch) (Metrics, error) {
	r, err := w.room(x, b)
	if err != nil {
		return Metrics{}, err
	}
	defer w.pool.Put(r)
	return w.sparse.Eval(ctx, r.x, b, &r.picked)
}

// Outputs implements Predictor.
func (w *Whole) Outputs() int { return w.sparse.Outputs() }

// Predict implements Predictor.
func (w *Whole) Predict(ctx context.Context, x []float32, b *data.Batch, out []float32) error {
	r, err := w.room(x, b)
	if err != nil {
		return err
	}
	defer w.pool.Put(r)
	return w.sparse.Predict(ctx, r.x, b, &r.picked, out)
}
