package data

import (
	"fmt"

	"github.com/covey-ml/covey/spec"
)

// empty is samples of one zero each, in the first of two classes: a number of samples, and nothing to learn. It is for runs
// that compute nothing (covey sim --timing), whose model need not fit the data.
type empty struct {
	base
	n int
}

var _ Dataset = (*empty)(nil)

// openSynthetic reads synthetic:N. There is no test set.
func openSynthetic(path string, o Options) (Dataset, error) {
	sp, err := spec.Parse(path)
	if err != nil {
		return nil, err
	}
	n := sp.Int("train", 100_000)
	if err := sp.Done(); err != nil {
		return nil, err
	}
	if n < 1 || n > 10_000_000 {
		return nil, fmt.Errorf("%s: expected 1 to 10000000 samples", path)
	}
	if err := o.noHash(path); err != nil {
		return nil, err
	}
	switch {
	case o.Test != "" && o.Test != testBeside && o.Test != "none":
		return nil, fmt.Errorf("%s: there is nothing to test, so the test set cannot be %s", path, o.Test)
	case o.Task == Regression:
		return nil, fmt.Errorf("%s: has classes, and no numbers to predict", path)
	case o.Classes != 0 && o.Classes != 2:
		return nil, fmt.Errorf("%s: has 2 classes, not %d", path, o.Classes)
	}
	s := &Schema{Format: "csv", Task: Classification, Dim: 1, Shape: []int{1}, Classes: 2}
	return &empty{base: base{info: s.Info("synthetic"), schema: s, file: path}, n: n}, nil
}

func (d *empty) Len() int      { return d.n }
func (d *empty) Label(int) int { return 0 }
func (d *empty) Info() Info    { return d.sum(d, nil) }

func (d *empty) Gather(b *Batch, ids []int) {
	d.labels(b, ids)
	fill(b.Class, 0)
	b.Row, b.Col, b.Val = b.Row[:0], b.Col[:0], b.Val[:0]
	b.X = grow(b.X, len(ids))
	clear(b.X)
}
