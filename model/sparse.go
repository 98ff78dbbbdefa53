package model

import (
	"context"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/rng"
	"github.com/covey-ml/covey/vec"
)

// Sparse is a model most of whose parameters are rows of tables, of which a batch needs few. The tables are not in the flat
// vector: whoever has them (a parameter server, or NewWhole) asks Pick which rows a batch needs, and lays out
//
//	the dense parameters, as Layout has them; then table after table the picked rows, in order, Width numbers each
//
// which is what x and g hold in the methods below. What a method costs depends on the rows that are picked, not on the size
// of the tables. Methods may be called from several goroutines when each brings its own g and p.
type Sparse interface {
	// Layout names the segments of the dense parameters. It never changes.
	Layout() Layout
	// Tables lists the tables. It never changes.
	Tables() []Table
	// Init writes the initial dense parameters: a function of seed and nothing else.
	Init(x []float32, seed uint64)
	// Pick overwrites p with the rows that b needs. It fails when b does not fit the model.
	Pick(p *Picked, b *data.Batch) error
	// Grad is Model.Grad for what Pick made of b. done is told of the segments of Layout alone; rows are final at the end.
	Grad(ctx context.Context, x, g []float32, b *data.Batch, p *Picked, done func(Segment)) (Loss, error)
	// Eval is Model.Eval for what Pick made of b.
	Eval(ctx context.Context, x []float32, b *data.Batch, p *Picked) (Metrics, error)
	// Outputs is Predictor's.
	Outputs() int
	// Predict is Predictor.Predict for what Pick made of b.
	Predict(ctx context.Context, x []float32, b *data.Batch, p *Picked, out []float32) error
}

// Table is a matrix of parameters by its rows, each of which anybody can make.
type Table struct {
	Name  string
	Rows  uint64 // numbered from 0
	Width int    // numbers a row, at least 1
	// Bound says how a row begins: with numbers drawn uniformly from [-Bound, Bound), or zeros when it is 0.
	Bound float32
}

// Initial returns what writes the initial values of a row, Width numbers: a function of the seed, the table's name and the
// row. Several goroutines may call it at a time, and no call allocates.
func (t Table) Initial(seed uint64) func(x []float32, row uint64) {
	if t.Bound == 0 {
		return func(x []float32, _ uint64) { clear(x[:t.Width]) }
	}
	key := rng.Key(seed, "table "+t.Name)
	return func(x []float32, row uint64) {
		x = x[:t.Width]
		vec.Uniform(x, rng.With(key, row), 0)
		for i, u := range x {
			x[i] = float32((2*u - 1) * t.Bound) // 2u-1 is exact for Uniform's multiples of 2^-24
		}
	}
}

// Picked is the rows that a batch needs. Its slices belong to the caller of Pick and are overwritten by the next.
type Picked struct {
	// Rows are those of each table, increasing. Tables whose rows have the same numbers may share a slice.
	Rows [][]uint64
	// Place is the model's own note of where each of the batch's values finds its row.
	Place []int32
}

// Len is how many numbers there are: s's dense parameters and the picked rows of its tables.
func (p *Picked) Len(s Sparse) int {
	n := s.Layout().Len()
	for t, table := range s.Tables() {
		n += len(p.Rows[t]) * table.Width
	}
	return n
}
