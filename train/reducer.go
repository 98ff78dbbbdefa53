package train

import (
	"errors"
	"math"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/reduce"
)

// reducer makes a reducer of the kind that the Config asks for. name tells the second one of a run apart.
func (r *run) reducer(tree comm.Tree, name string) (reduce.Reducer, error) {
	exact := &reduce.Exact{Group: r.g, Tree: tree, Algorithm: r.c.Algorithm}
	if r.c.Compress == "" {
		return exact, nil
	}
	rules, err := reduce.ParseRules(r.c.Compress)
	if err == nil {
		var red reduce.Reducer
		if red, err = reduce.New(reduce.Config{Group: r.g, Tree: tree, Exact: exact, Layout: r.c.Model.Layout(),
			Rules: rules, Seed: r.c.Seed, Name: name}, r.c.Hosts); err == nil {
			return red, nil
		}
	}
	return nil, &ConfigError{Key: "compress", Err: err}
}

// codec is the time that the reducers spent encoding and decoding since they were asked last.
func (r *run) codec() (d time.Duration) {
	if c, ok := r.w.Reducer.(reduce.Coder); ok {
		d = c.Codec()
	}
	for _, o := range r.others {
		if c, ok := o.Reducer.(reduce.Coder); ok {
			d += c.Codec()
		}
	}
	return d
}

// diverged turns what a reducer says of numbers that cannot be encoded into what users know it as.
func (r *run) diverged(err error) error {
	if errors.Is(err, reduce.ErrNotFinite) {
		return &DivergedError{Step: r.step + 1, Loss: math.NaN(), Last: r.lastSave}
	}
	return err
}
