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
	if first != nil && w.Hollow() {
		first = merged(reports)
	}
	return first, saysMost(living)
}

// merged makes one report of those of a hollow world's workers, of which each knows its own part only.
func merged(reports []*Report) *Report {
	all := *reports[0]
	all.Compute, all.Comm, all.Wait, all.Codec = 0, 0, 0, 0
	all.Messages, all.Payload, all.Header, all.Control, all.BytesExpected = 0, 0, 0, 0, 0
	all.Ops, all.Ranks = nil, nil
	n := float64(len(reports))
	at := map[string]int{}
	for i, r := range reports {
		if r == nil {
			continue
		}
		all.Wall = max(all.Wall, r.Wall)
		all.Compute += r.Compute / n
		all.Comm += r.Comm / n
		all.Wait += r.Wait / n
		all.Codec += r.Codec / n
		all.Messages += r.Messages
		all.Payload += r.Payload
		all.Header += r.Header
		all.Control += r.Control
		all.BytesExpected += r.BytesExpected
		for _, own := range r.Ranks {
			own.Rank = i
			all.Ranks = append(all.Ranks, own)
		}
		for _, op := range r.Ops {
			k, ok := at[op.Op]
			if !ok {
				k = len(all.Ops)
				at[op.Op] = k
				all.Ops = append(all.Ops, OpSum{Op: op.Op})
			}
			o := &all.Ops[k]
			o.Messages += op.Messages
			o.Payload += op.Payload
			o.Header += op.Header
			o.Control += op.Control
			o.Expected += op.Expected
		}
	}
	all.BytesSent = all.Payload + all.Header
	if all.Wall > 0 {
		all.SamplesPerSec = float64(all.Samples) / all.Wall
	}
	return &all
}

// WorkerBytes is about how much memory one of many workers of a process takes beside the data, which they share: parameters,
// gradients, the optimizer's state and what a local method keeps. It is a lower bound within some hundred KiB.
func WorkerBytes(c *Config) int64 {
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
