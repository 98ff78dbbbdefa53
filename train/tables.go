package train

import (
	"context"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/strategy"
)

// A strategy may keep a model's tables (strategy.Keeper). What is left of the model, its dense parameters, is then trained as
// any other is; tables are asked for where all parameters are needed together.

// keep lets the strategy keep what it can of the model. It returns it when it does, else nil.
func (c *Config) keep(s strategy.Strategy) (strategy.Keeper, error) {
	k, ok := s.(strategy.Keeper)
	if !ok {
		return nil, nil
	}
	rule, err := spec.Parse(c.Optimizer)
	if err != nil {
		return nil, &ConfigError{Key: "optimizer", Err: err}
	}
	m, err := k.Keep(c.Model, rule, c.Seed)
	switch {
	case err != nil:
		return nil, &ConfigError{Key: "strategy", Err: err}
	case m == c.Model:
		return nil, nil
	}
	c.Model = m
	return k, nil
}

// closeTables gives back what tables take, unless the next group may go on with them.
func (r *run) closeTables() {
	if r.keeper != nil && !r.kept.buried(r.strategy) {
		r.keeper.Close() // of memory and of files that have no name: nothing is lost
	}
}

// reading runs f, which evaluates the model.
func (r *run) reading(ctx context.Context, f func() error) error {
	if r.keeper == nil || comm.IsHollow(r.g) {
		return f()
	}
	return r.keeper.Reading(ctx, f)
}

// model returns, on rank 0, all parameters as tensors. large says of tables that no one machine can have them all. It is a
// collective.
func (r *run) model(ctx context.Context) (ts []ckpt.Tensor, large, err error) {
	ts = Tensors(r.c.Model.Layout(), r.w.X)
	if r.keeper == nil {
		return ts, nil, nil
	}
	if large := r.large(); large != nil {
		return nil, large, nil
	}
	tables, err := r.keeper.Tables(ctx)
	return append(ts, tables...), nil, err
}

// large says why tables are saved apart, by who has them; nil: all is saved as tensors.
func (r *run) large() error {
	if r.keeper == nil {
		return nil
	}
	return r.keeper.Large()
}

// blank returns tensors for what a checkpoint has as tensors, to be filled: the dense ones alias r.w.X.
func (r *run) blank() []ckpt.Tensor {
	ts := Tensors(r.c.Model.Layout(), r.w.X)
	if r.keeper == nil || r.large() != nil {
		return ts
	}
	return append(ts, r.keeper.Blank()...)
}

// weights is the parameters' hash, the same on every rank; empty when there are no numbers, or too many for one machine.
func (r *run) weights(ctx context.Context) (string, error) {
	if comm.IsHollow(r.g) {
		return "", nil
	}
	ts, large, err := r.model(ctx)
	if err != nil || large != nil {
		return "", err
	}
	hash := ckpt.WeightsHash(ts)
	if r.keeper == nil {
		return hash, nil
	}
	return tell(ctx, r.g, hash, nil)
}
