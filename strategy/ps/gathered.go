package ps

import (
	"context"
	"fmt"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/vec"
)

// gathered is a Sparse model whose tables are elsewhere, as a model of its dense parameters: of the tables it has the rows that a batch
// needs, behind these. One call at a time.
type gathered struct {
	m      model.Sparse
	tables []model.Table
	read   func(ctx context.Context, rows [][]uint64, out []float32) error // writes rows, table after table, to out
	picked model.Picked
	x      []float32 // the dense parameters and the picked rows
}

// Layout implements model.Model.
func (g *gathered) Layout() model.Layout { return g.m.Layout() }

// Init implements model.Model.
func (g *gathered) Init(x []float32, seed uint64) { g.m.Init(x, seed) }

// Outputs implements model.Predictor.
func (g *gathered) Outputs() int { return g.m.Outputs() }

// Eval implements model.Model.
func (g *gathered) Eval(ctx context.Context, x []float32, b *data.Batch) (model.Metrics, error) {
	if err := g.gather(ctx, x, b); err != nil {
		return model.Metrics{}, err
	}
	return g.m.Eval(ctx, g.x, b, &g.picked)
}

// Predict implements model.Predictor.
func (g *gathered) Predict(ctx context.Context, x []float32, b *data.Batch, out []float32) error {
	if err := g.gather(ctx, x, b); err != nil {
		return err
	}
	return g.m.Predict(ctx, g.x, b, &g.picked, out)
}

// gather puts the dense parameters and the rows that a batch needs side by side.
func (g *gathered) gather(ctx context.Context, x []float32, b *data.Batch) error {
	if err := g.m.Pick(&g.picked, b); err != nil {
		return err
	}
	dense := g.m.Layout().Len()
	g.x = vec.Resized(g.x, g.picked.Len(g.m))
	copy(g.x, x[:dense])
	return g.read(ctx, g.picked.Rows, g.x[dense:])
}

// hasTable says why a model of n tables does not have what is said to be its table i.
func hasTable(n, i int) error {
	if i >= n {
		return fmt.Errorf("ps: rows of table %d, and the model has %d", i+1, n)
	}
	return nil
}
