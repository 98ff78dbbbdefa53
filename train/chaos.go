package train

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/sim"
	"github.com/covey-ml/covey/fault"
)

// Chaos simulates one job again and again, each time under other faults, and holds every run to what is promised: it ends,
// in time; it ends either well, with the calm run's parameters where faults change no number, or with an error that names
// a worker that a fault has touched.
type Chaos struct {
	World  func(fault.Script) (*sim.World, error) // a new one, the same but for the faults
	Config Config                                 // without Dir and Events
	Faults fault.Chaos                            // what may happen; Workers, Steps and Span are filled in from the calm run

	calm    *Report
	time    time.Duration // that the calm run took, in the world's time
	timeout time.Duration
}

// Verdict is what came of one schedule.
type Verdict struct {
	Script fault.Script
	Wrong  string // what was not as promised; empty when all was
	Ended  string // how the run ended
	Fired  int    // faults of the script that came
}

// Begin makes the calm run, against which the others are held. timeout is the world's.
func (c *Chaos) Begin(ctx context.Context, timeout time.Duration) (*Report, error) {
	w, err := c.World(nil)
	if err != nil {
		return nil, err
	}
	if c.calm, err = Simulate(ctx, w, c.Config); err != nil {
		return nil, fmt.Errorf("without any fault: %w", err)
	}
	c.time, c.timeout = w.Now(), timeout
	c.Faults.Workers, c.Faults.Steps, c.Faults.Span = w.Workers(), c.calm.Steps, w.Now()
	return c.calm, nil
}

// Try runs the job under the faults of a seed.
func (c *Chaos) Try(ctx context.Context, seed uint64) (Verdict, error) {
	return c.Under(ctx, fault.Random(seed, c.Faults))
}

// Shrink returns the shortest schedule found under which the run still goes wrong, after so many runs at most.
func (c *Chaos) Shrink(ctx context.Context, v Verdict, tries int) (Verdict, error) {
	shortest := v
	var failed error
	s := fault.Shrink(v.Script, func(s fault.Script) bool {
		if failed != nil || ctx.Err() != nil {
			return false
		}
		w, err := c.Under(ctx, s)
		if err != nil {
			failed = err
		}
		if w.Wrong != "" {
			shortest = w
		}
		return w.Wrong != ""
	}, tries)
	if err := errors.Join(failed, ctx.Err()); err != nil {
		return v, err
	}
	if shortest.Script.String() != s.String() {
		return c.Under(ctx, s)
	}
	return shortest, nil
}

// Under runs the job under a schedule and judges it.
func (c *Chaos) Under(ctx context.Context, s fault.Script) (Verdict, error) {
	v := Verdict{Script: s}
	w, err := c.World(s)
	if err != nil {
		return v, err
	}
	rep, err := Simulate(ctx, w, c.Config)
	if ctx.Err() != nil {
		return v, context.Cause(ctx)
	}
	for _, o := range w.Outcomes() {
		if o.Fired > 0 {
			v.Fired++
		}
	}
	v.Ended = "well"
	if err != nil {
		v.Ended = err.Error()
	}
	v.Wrong = c.judge(s, w.Now(), rep, err)
	return v, nil
}

// judge says what is wrong with how a run ended, or nothing.
func (c *Chaos) judge(s fault.Script, took time.Duration, rep *Report, err error) string {
	var dead *sim.DeadlockError
	var peer *comm.PeerError
	touched, changed := touches(s)
	switch {
	case errors.As(err, &dead):
		return err.Error()
	case took > c.latest(s):
		return fmt.Sprintf("it ended after %v; without faults it takes %v, and with all that they can cost at most %v", took, c.time, c.latest(s))
	case err == nil && !changed && rep.Weights != c.calm.Weights:
		return fmt.Sprintf("it ended with the parameters %.12s, the calm run with %.12s", rep.Weights, c.calm.Weights)
	case err == nil, changed:
		return ""
	case len(touched) == c.Faults.Workers && allKilled(s, c.Faults.Workers):
		return ""
	case !errors.As(err, &peer):
		return "its error names no worker: " + err.Error()
	case peer.Rank != comm.AnyRank && touched != nil && !slices.Contains(touched, int(peer.Rank)):
		return fmt.Sprintf("its error names a worker that nothing happened to (faults touch %v): %v", touched, err)
	}
	return ""
}

// touches returns the ranks that a schedule does something to, nil where that may be all, and tells whether it changes
// numbers.
func touches(s fault.Script) (ranks []int, changed bool) {
	all := false
	for _, f := range s {
		ranks = append(append(ranks, f.Ranks...), f.Others...)
		changed = changed || f.Kind == fault.Corrupt
		all = all || f.Kind.OnLink()
	}
	if all {
		return nil, changed
	}
	slices.Sort(ranks)
	return slices.Compact(ranks), changed
}

func allKilled(s fault.Script, workers int) bool {
	var killed []int
	for _, f := range s {
		if f.Kind == fault.Kill {
			killed = append(killed, f.Ranks...)
		}
	}
	slices.Sort(killed)
	return len(slices.Compact(killed)) == workers
}

// latest is when a run under a schedule has to be over: after the time that the calm one takes as often as it can be slowed
// down, what it stands still, and some timeouts.
func (c *Chaos) latest(s fault.Script) time.Duration {
	total, slower, link := c.time, 1.0, 1.0
	for _, f := range s {
		slower *= max(1, f.Factor)
		if f.Kind.OnLink() { // from a gigabit to what a modem has, or nearly every packet lost
			link = 1e4
		}
		total += f.For + max(0, f.To.Time-f.From.Time)
	}
	slower = min(slower*link, float64(1<<62)/float64(total))
	return time.Duration(float64(total)*slower) + 5*c.timeout
}
