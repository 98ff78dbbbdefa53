package ps

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/strategy/ps/table"
	"github.com/covey-ml/covey/vec"
)

// Stored is a model whose tables are those that servers have saved at a checkpoint (strategy.Keeper's Streams): in memory are the rows that
// were ever updated. It is tested and predicts, and is not trained; its flat vector is the dense parameters. One call at a time.
type Stored struct {
	m      model.Sparse
	tables []*table.Table
	picked model.Picked
	x      []float32 // the dense parameters and the picked rows
}

var (
	_ model.Model     = (*Stored)(nil)
	_ model.Predictor = (*Stored)(nil)
)

// NewStored reads the tables of the checkpoint folder dir. rule and seed are those of the job that trained them.
func NewStored(whole *model.Whole, rule *spec.Spec, seed uint64, dir string) (*Stored, error) {
	s := &Stored{m: whole.Sparse()}
	for _, t := range s.m.Tables() {
		m, err := table.New(table.Config{Name: t.Name, Rows: t.Rows, Width: t.Width, Seed: seed, Init: t.Bound, Rule: rule})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("ps: %w", err), s.Close())
		}
		s.tables = append(s.tables, m)
	}
	err := ckpt.ReadStreams(dir, func(i int, r io.Reader) error {
		if i >= len(s.tables) {
			return fmt.Errorf("ps: rows of table %d, and the model has %d", i+1, len(s.tables))
		}
		return s.tables[i].Load(r)
	})
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close gives the tables' memory back.
func (s *Stored) Close() (err error) {
	for _, t := range s.tables {
		err = errors.Join(err, t.Close())
	}
	return err
}

// Layout implements model.Model.
func (s *Stored) Layout() model.Layout { return s.m.Layout() }

// Init implements model.Model.
func (s *Stored) Init(x []float32, seed uint64) { s.m.Init(x, seed) }

// Outputs implements model.Predictor.
func (s *Stored) Outputs() int { return s.m.Outputs() }

// Grad implements model.Model, and fails.
func (s *Stored) Grad(context.Context, []float32, []float32, *data.Batch, func(model.Segment)) (model.Loss, error) {
	return model.Loss{}, errors.New("ps: the tables of a checkpoint are not trained where they were read: go on with the run")
}

// Eval implements model.Model.
func (s *Stored) Eval(ctx context.Context, x []float32, b *data.Batch) (model.Metrics, error) {
	if err := s.gather(x, b); err != nil {
		return model.Metrics{}, err
	}
	return s.m.Eval(ctx, s.x, b, &s.picked)
}

// Predict implements model.Predictor.
func (s *Stored) Predict(ctx context.Context, x []float32, b *data.Batch, out []float32) error {
	if err := s.gather(x, b); err != nil {
		return err
	}
	return s.m.Predict(ctx, s.x, b, &s.picked, out)
}

// gather puts the dense parameters and the rows that a batch needs side by side.
func (s *Stored) gather(x []float32, b *data.Batch) error {
	if err := s.m.Pick(&s.picked, b); err != nil {
		return err
	}
	s.x = vec.Resized(s.x, s.picked.Len(s.m))
	at := copy(s.x, x[:s.m.Layout().Len()])
	for i, rows := range s.picked.Rows {
		n := len(rows) * s.m.Tables()[i].Width
		if err := s.tables[i].Get(rows, s.x[at:at+n]); err != nil {
			return fmt.Errorf("ps: %w", err)
		}
		at += n
	}
	return nil
}
