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
)

// Stored is a model whose tables are those that servers have saved at a checkpoint (strategy.Keeper's Streams): in memory are the rows that
// were ever updated. It is tested and predicts, and is not trained; its flat vector is the dense parameters. One call at a time.
type Stored struct {
	gathered
	stored []*table.Table
}

var (
	_ model.Model     = (*Stored)(nil)
	_ model.Predictor = (*Stored)(nil)
)

// NewStored reads the tables of the checkpoint folder dir. rule and seed are those of the job that trained them.
func NewStored(whole *model.Whole, rule *spec.Spec, seed uint64, dir string) (*Stored, error) {
	sparse := whole.Sparse()
	s := &Stored{gathered: gathered{m: sparse, tables: sparse.Tables()}}
	s.read = s.get
	for _, t := range s.tables {
		m, err := table.New(table.Config{Name: t.Name, Rows: t.Rows, Width: t.Width, Seed: seed, Init: t.Bound, Rule: rule})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("ps: %w", err), s.Close())
		}
		s.stored = append(s.stored, m)
	}
	err := ckpt.ReadStreams(dir, func(i int, r io.Reader) error {
		if err := hasTable(len(s.stored), i); err != nil {
			return err
		}
		return s.stored[i].Load(r)
	})
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close gives the tables' memory back.
func (s *Stored) Close() (err error) {
	for _, t := range s.stored {
		err = errors.Join(err, t.Close())
	}
	return err
}

// Grad implements model.Model, and fails.
func (s *Stored) Grad(context.Context, []float32, []float32, *data.Batch, func(model.Segment)) (model.Loss, error) {
	return model.Loss{}, errors.New("ps: the tables of a checkpoint are not trained where they were read: go on with the run")
}

// get reads rows from the tables.
func (s *Stored) get(_ context.Context, rows [][]uint64, out []float32) error {
	for i, some := range rows {
		n := len(some) * s.tables[i].Width
		if err := s.stored[i].Get(some, out[:n]); err != nil {
			return fmt.Errorf("ps: %w", err)
		}
		out = out[n:]
	}
	return nil
}
