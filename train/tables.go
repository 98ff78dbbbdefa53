package train

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

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

// saveApart writes a checkpoint of which ranks that have rows of large tables write these, and rank 0 all else. Tables are not copied:
// training goes on when they are written. It is a collective.
func (r *run) saveApart(ctx context.Context) error {
	w, draft, err := r.draft(ctx)
	if err != nil || w == nil {
		return err
	}
	rank := int(r.g.Rank())
	outside := ""
	if err := draft.Reach(rank); err != nil {
		outside = fmt.Sprintf("%v, so each server writes its rows, and rank %d cannot write there: %v", r.large(), rank, err)
	}
	if outside, err = decide(ctx, r.g, outside, func(all []string) (string, error) { return cmp.Or(all...), nil }); err != nil {
		return err
	}
	if outside != "" {
		if rank == 0 {
			_ = draft.Abandon() // what stays, the next one takes
		}
		r.notSaved(errors.New(outside))
		return nil
	}
	state, dropped, err := r.assemble(ctx)
	if err != nil {
		return err
	}
	p := ckpt.Part{Index: rank, Of: r.g.Size(), Streams: r.keeper.Streams()}
	var m *ckpt.Manifest
	if rank == 0 {
		p.Model, p.State = Tensors(r.c.Model.Layout(), r.w.X), state
		m, err = r.manifest(dropped)
	}
	if err == nil {
		err = w.SavePart(ctx, draft, p, m)
	}
	if err != nil {
		r.notSaved(err)
	}
	_, err = r.awaitSaves(ctx)
	r.tellSaved()
	return err
}

// loadApart gives who has them the rows of large tables of a checkpoint. It is a collective.
func (r *run) loadApart(ctx context.Context, path string) error {
	return r.meanwhile(ctx, func() error {
		return r.keeper.LoadStreams(func(f func(int, io.Reader) error) error { return ckpt.ReadStreams(path, f) })
	})
}

// meanwhile runs f, on all ranks, which hear of each other while it takes its time, so that none is taken for lost. When one fails it
// returns that error on all, and does not wait for the others.
func (r *run) meanwhile(ctx context.Context, f func() error) error {
	clock := r.g.Clock()
	end := clock.Event()
	var failed error
	clock.Go(func() {
		failed = f()
		end.Set()
	})
	type said struct {
		Over bool
		Err  string
	}
	for me := (said{}); ; {
		if !me.Over {
			soon, cancel := clock.WithTimeout(ctx, savePulse)
			me.Over = end.Wait(soon) == nil
			cancel()
			if me.Over && failed != nil {
				me.Err = failed.Error()
			}
		}
		over, err := decide(ctx, r.g, me, func(all []said) (bool, error) {
			over := true
			for rank, s := range all {
				if s.Err != "" {
					return false, fmt.Errorf("rank %d: %s", rank, s.Err)
				}
				over = over && s.Over
			}
			return over, nil
		})
		if over || err != nil {
			return err
		}
	}
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
