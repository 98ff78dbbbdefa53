package train

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/covey-ml/covey/ckpt"
)

// Tables that are too large for one rank to have them all are saved and loaded by the ranks that have them (strategy.Keeper's Streams).

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
