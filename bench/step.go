package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/train"
)

// Step is what to measure of training: one row.
type Step struct {
	Config train.Config // Steps, when positive, is how many are made in all; Test, Dir, Resume, Events and Stop are not used
	Effort Effort       // a call is a step
}

// StepRow is what a step takes.
type StepRow struct {
	Workers     int     `json:"workers"`
	Transport   string  `json:"transport,omitempty"` // these four the caller knows
	Model       string  `json:"model,omitempty"`
	Optimizer   string  `json:"optimizer,omitempty"`
	Threads     int     `json:"threads,omitempty"` // that each worker computes with
	Batch       int     `json:"batch"`             // samples over all workers
	Microshards int     `json:"microshards"`
	Parameters  int     `json:"parameters"`
	Ms          float64 `json:"ms"`        // a step, of the median block
	PerSec      float64 `json:"samples_s"` // at that
	Compute     float64 `json:"compute_ms"`
	Comm        float64 `json:"comm_ms"` // in reductions, whether or not computation went on beside them
	Wait        float64 `json:"wait_ms"` // computation waiting for a reduction
	Steps       int     `json:"steps"`   // made in all
	Loss        float64 `json:"loss"`    // mean over the last ten of them
	Timing
}

// checkSteps is how many steps are compared with those of one worker before any is timed.
const checkSteps = 3

// Run measures on g. Before, it trains a few steps on g, and the same ones on rank 0 alone, and compares the weights, of
// which every bit must be equal.
func (s Step) Run(ctx context.Context, g comm.Group) (*StepRow, error) {
	c := s.Config
	c.Test, c.Dir, c.Resume, c.Events, c.Stop, c.SaveEvery = nil, "", "", train.Events{}, nil, 1<<30
	if c.Steps == 1 {
		return nil, &train.ConfigError{Key: "steps", Err: errors.New("the first one warms up: at least 2")}
	}
	if c.Microshards == 0 {
		c.Microshards = g.Size()
	}
	if err := s.check(ctx, g, c); err != nil {
		return nil, err
	}
	e := s.Effort.fill()
	calls, total := e.Calls, s.Config.Steps
	if total == 0 || calls == 0 {
		n, err := s.calls(ctx, g, c, e)
		if err != nil {
			return nil, err
		}
		calls = n
	}
	warm := calls
	if total == 0 {
		total = warm + e.Blocks*calls
	}
	if total < warm+calls {
		calls = max(1, (total-1)/(e.Blocks+1))
		warm = calls
	}
	return run(ctx, g, c, total, warm, calls, max(1, e.Here))
}

// check compares g's first steps with one worker's.
func (s Step) check(ctx context.Context, g comm.Group, c train.Config) error {
	c.Steps = checkSteps
	theirs, err := train.Run(ctx, g, c)
	if err != nil {
		return err
	}
	var wrong error
	if g.Rank() == 0 && (g.Size() > 1 && c.Algorithm.Canonical()) {
		alone, err := train.Local(ctx, 1, time.Minute, c)
		switch {
		case err != nil:
			wrong = err
		case alone.Weights != theirs.Weights:
			wrong = fmt.Errorf("after %d steps of %d workers the weights' SHA-256 is %s, and after as many of one worker %s",
				checkSteps, g.Size(), theirs.Weights, alone.Weights)
		}
	}
	return agree(ctx, g, wrong)
}

// calls finds how many steps make a block.
func (s Step) calls(ctx context.Context, g comm.Group, c train.Config, e Effort) (int, error) {
	const try = 20
	row, err := run(ctx, g, c, 2*try, try, try, 1)
	if err != nil {
		return 0, err
	}
	n := int(e.Time.Seconds() * 1e6 / float64(e.Blocks) / row.Us)
	return decide(ctx, g, min(1<<20, max(1, n)))
}

// run makes total steps and times those after the first warm ones, in blocks of so many calls.
func run(ctx context.Context, g comm.Group, c train.Config, total, warm, calls, here int) (*StepRow, error) {
	var (
		row    = &StepRow{Workers: g.Size(), Batch: c.Batch, Microshards: c.Microshards}
		blocks = make([]time.Duration, 0, total/calls+1)
		last   time.Duration
		split  strategy.Times
		losses [10]float64
		before runtime.MemStats
		after  runtime.MemStats
		clock  = g.Clock()
	)
	c.Steps = total
	c.Events = train.Events{
		Start: func(i train.StartInfo) { row.Parameters = i.Parameters },
		Step: func(i train.StepInfo) {
			losses[i.Step%len(losses)] = i.Loss
			if i.Step < warm {
				return
			}
			if i.Step == warm {
				runtime.ReadMemStats(&before)
				last = clock.Now()
				return
			}
			split.Add(i.Times)
			if (i.Step-warm)%calls == 0 {
				now := clock.Now()
				blocks = append(blocks, now-last)
				last = now
			}
			if i.Step == total {
				runtime.ReadMemStats(&after)
			}
		},
	}
	if _, err := train.Run(ctx, g, c); err != nil {
		return nil, err
	}
	if err := slowest(ctx, g, blocks); err != nil {
		return nil, err
	}
	n := float64(total - warm)
	row.Timing = timing(blocks, calls, 0)
	row.Allocs = float64(after.Mallocs-before.Mallocs) / float64(here) / n
	ms := func(d time.Duration) float64 { return d.Seconds() * 1e3 / n }
	row.Ms, row.Steps = row.Us/1e3, total
	row.PerSec = float64(c.Batch) / row.Us * 1e6
	row.Compute, row.Comm, row.Wait = ms(split.Compute), ms(split.Comm), ms(split.Wait)
	for _, l := range losses[:min(total, len(losses))] {
		row.Loss += l / float64(min(total, len(losses)))
	}
	return row, nil
}
