package train

import (
	"errors"
	"math"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/reduce"
	"github.com/covey-ml/covey/strategy/adapt"
)

// reducer makes a reducer of the kind that the Config asks for. name tells the second one of a run apart.
func (r *run) reducer(tree comm.Tree, name string) (reduce.Reducer, error) {
	exact := &reduce.Exact{Group: r.g, Tree: tree, Algorithm: r.c.Algorithm}
	compressed := func(text, name string) (reduce.Reducer, error) {
		rules, err := reduce.ParseRules(text)
		if err != nil {
			return nil, err
		}
		return reduce.New(reduce.Config{Group: r.g, Tree: tree, Exact: exact, Layout: r.c.Model.Layout(),
			Rules: rules, Seed: r.c.Seed, Name: name}, r.c.Hosts)
	}
	switch {
	case r.c.Adapt != "":
		return r.arms(name, compressed)
	case r.c.Compress == "":
		return exact, nil
	case r.c.servers() > 0: // who take what workers send, and sum it
		rules, err := reduce.ParseRules(r.c.Compress)
		if err != nil {
			return nil, &ConfigError{Key: "compress", Err: err}
		}
		r.w.Rules = rules
		return exact, nil
	}
	red, err := compressed(r.c.Compress, name)
	if err != nil {
		return nil, &ConfigError{Key: "compress", Err: err}
	}
	return red, nil
}

// arms makes a reducer for each arm and puts the first in use; the strategy then chooses among them.
func (r *run) arms(name string, compressed func(text, name string) (reduce.Reducer, error)) (reduce.Reducer, error) {
	arms, err := adapt.ParseArms(r.c.Adapt)
	if err != nil {
		return nil, &ConfigError{Key: "adapt", Err: err}
	}
	all := make([]reduce.Reducer, len(arms))
	for i, a := range arms {
		if all[i], err = compressed(a.Compress, name); err != nil {
			return nil, &ConfigError{Key: "adapt", Err: err}
		}
	}
	s := reduce.NewSwitch(r.c.Model.Layout().Len(), all...)
	if name == "" {
		r.strategy = adapt.New(r.strategy, arms)
	} else if lead, ok := r.w.Reducer.(*reduce.Switch); ok { // what is chosen for the first counts for all
		s.Follow(lead)
	}
	return s, nil
}

// codec is the time that the reducers spent encoding and decoding since they were asked last.
func (r *run) codec() (d time.Duration) {
	if c, ok := r.w.Reducer.(reduce.Coder); ok {
		d = c.Codec()
	}
	if c, ok := r.strategy.(reduce.Coder); ok {
		d += c.Codec()
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
		return r.divergedAt(r.step+1, math.NaN())
	}
	return err
}
