package train

import (
	"context"
	"errors"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/sim"
	"github.com/covey-ml/covey/strategy"
)

// Simulate trains on the workers of a world that has not run yet, and returns rank 0's report, whose times are the
// world's. Events, files and errors are as for Local; the error is a *sim.DeadlockError when no worker could go on. A
// worker that a fault has killed says nothing: the error is then that of the others, if they could not do without it.
func Simulate(ctx context.Context, w *sim.World, c Config) (*Report, error) {
	n := w.Workers()
	reports := make([]*Report, n)
	errs := make([]error, n)
	c.Hosts, c.shared = w.Hosts(), new(shared)
	err := w.Run(ctx, func(g comm.Group) {
		i := int(g.Rank())
		if reports[i], errs[i] = Run(ctx, g, c.here(i)); errs[i] != nil || !w.Hollow() {
			g.Close() // a hollow world just ends: its goodbyes are workers times workers
		}
	})
	if err != nil {
		return reports[0], err
	}
	living := errs[:0]
	first := reports[0]
	for i, err := range errs {
		if !errors.Is(err, comm.ErrClosed) || w.Alive(comm.Rank(i)) {
			living = append(living, err)
			if first == nil {
				first = reports[i]
			}
		}
	}
	if len(living) == 0 {
		return nil, errors.New("train: every worker was killed")
	}
	if first != nil && w.Hollow() { // of whose workers each knows its own share only
		shares := make([]share, n)
		for i, r := range reports {
			if r != nil {
				shares[i] = r.own
			}
		}
		t, err := total(shares)
		if err != nil {
			return first, err
		}
		first.sum(t)
	}
	return first, saysMost(living)
}

// WorkerBytes is about how much memory one of many workers of a process takes beside the data, which they share: parameters,
// gradients, the optimizer's state and what a local method keeps. It is a lower bound within some hundred KiB.
func WorkerBytes(c *Config) int64 {
	job := *c
	if _, err := job.keep(c.Strategy()); err == nil {
		c = &job
	}
	n := int64(c.Model.Layout().Len())
	vectors := int64(2)
	if _, ok := c.Strategy().(strategy.Preparer); ok { // replicas, and what they have moved since
		vectors = 4
	}
	bytes := 4*n*vectors + int64(c.Train.Len())/8 + 64<<10
	if o, err := c.optimizer(); err == nil {
		for _, t := range o.State() {
			bytes += int64(len(t.Data))
		}
	}
	return bytes
}
