package adapt

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/reduce"
	"github.com/covey-ml/covey/strategy"
)

// Strategy is a strategy around another one, which it tells how to talk: with which compressor, in which buckets and, where
// the other can be told, how often. After each window of steps the workers sum the time that it took and ask the bandit.
type Strategy struct {
	inner  strategy.Strategy
	arms   []Arm
	names  []string
	bandit *Bandit

	periods bool // some arm has one
	told    bool // the inner strategy knows that of the arm in use

	state [1]int64 // steps of the window under way
	took  time.Duration
	since int // steps that took counts
	time  []float32
}

// New returns a strategy around inner. The worker's Reducer must be a *reduce.Switch over the arms' compressors, in their
// order.
func New(inner strategy.Strategy, arms []Arm) *Strategy {
	s := &Strategy{inner: inner, arms: arms, time: make([]float32, 1)}
	prices := make([]float64, len(arms))
	for i, a := range arms {
		prices[i] = a.Price
		s.names = append(s.names, a.String())
		s.periods = s.periods || a.Period > 0
	}
	s.bandit = NewBandit(prices)
	return s
}

const (
	window = 12 // steps, at least, from one choice to the next
	settle = 3  // of them, the first ones, that are not measured: buffers are made, and others may still be in the old arm
)

var (
	_ strategy.Strategy = (*Strategy)(nil)
	_ strategy.Gatherer = (*Strategy)(nil)
	_ strategy.Preparer = (*Strategy)(nil)
	_ strategy.Settler  = (*Strategy)(nil)
	_ strategy.Checker  = (*Strategy)(nil)
)

// String implements strategy.Strategy.
func (s *Strategy) String() string {
	return s.inner.String() + ", adapted: " + strings.Join(s.names, "; ")
}

// Step implements strategy.Strategy.
func (s *Strategy) Step(ctx context.Context, w *strategy.Worker) (strategy.Report, error) {
	arm := s.arms[s.bandit.Arm()]
	w.Bucket = arm.Bucket
	if !s.told {
		s.tune()
	}
	clock := w.Group.Clock()
	t := clock.Now()
	said, err := s.inner.Step(ctx, w)
	if err != nil {
		return said, err
	}
	if s.state[0]++; s.state[0] > settle {
		s.took += clock.Now() - t
		s.since++
	}
	if s.state[0] < window || said.Quiet || s.since == 0 {
		return said, nil
	}
	said.Decided, err = s.choose(ctx, w)
	return said, err
}

// choose asks the bandit, with the mean of the workers' times, and puts what it says in use.
func (s *Strategy) choose(ctx context.Context, w *strategy.Worker) (*strategy.Decision, error) {
	sw, ok := w.Reducer.(*reduce.Switch)
	if !ok {
		return nil, errors.New("adapt: the worker's reducer is no Switch")
	}
	if err := s.Settle(ctx); err != nil {
		return nil, err
	}
	n := w.Group.Size()
	s.time[0] = float32(s.took.Seconds() / float64(s.since))
	if err := comm.AllReduce(ctx, w.Group, comm.NewTree(n, n), [][]float32{s.time}); err != nil {
		return nil, err
	}
	was := s.bandit.Arm()
	arm, reason := s.bandit.Observe(float64(s.time[0])/float64(n), s.names)
	s.state[0], s.took, s.since = 0, 0, 0
	d := &strategy.Decision{What: s.names[arm], Why: reason, New: arm != was}
	if !d.New {
		s.state[0] = settle // nothing has to settle
		return d, nil
	}
	sw.Use(arm)
	s.tune()
	return d, nil
}

// tune tells the inner strategy the period of the arm in use, or to take its own again.
func (s *Strategy) tune() {
	if t, ok := s.inner.(strategy.Tunable); ok && s.periods {
		t.Tune(s.arms[s.bandit.Arm()].Period)
	}
	s.told = true
}

// Gather implements strategy.Gatherer.
func (s *Strategy) Gather(ctx context.Context, w *strategy.Worker) error {
	if g, ok := s.inner.(strategy.Gatherer); ok {
		return g.Gather(ctx, w)
	}
	return nil
}

// Prepare implements strategy.Preparer.
func (s *Strategy) Prepare(w *strategy.Worker) error {
	if p, ok := s.inner.(strategy.Preparer); ok {
		return p.Prepare(w)
	}
	return nil
}

// Finite implements strategy.Checker.
func (s *Strategy) Finite() bool {
	c, ok := s.inner.(strategy.Checker)
	return !ok || c.Finite()
}

// Settle implements strategy.Settler.
func (s *Strategy) Settle(ctx context.Context) error {
	if p, ok := s.inner.(strategy.Settler); ok {
		return p.Settle(ctx)
	}
	return nil
}

// State implements ckpt.Stateful: what was measured, and where the window stands, so that all workers of a resumed run
// choose alike.
func (s *Strategy) State() []ckpt.Tensor {
	arm := []int64{int64(s.bandit.arm), s.state[0]}
	return append(ckpt.Prefixed("inner/", s.inner.State()),
		ckpt.Int64s("arm", nil, arm), ckpt.Float64s("chosen", nil, s.bandit.n), ckpt.Float64s("seconds", nil, s.bandit.sum))
}

// Load implements ckpt.Stateful.
func (s *Strategy) Load(ts []ckpt.Tensor) error {
	arm := make([]int64, 2)
	live := []ckpt.Tensor{ckpt.Int64s("arm", nil, arm), ckpt.Float64s("chosen", nil, s.bandit.n), ckpt.Float64s("seconds", nil, s.bandit.sum)}
	var own []ckpt.Tensor
	for _, t := range ts {
		if t.Name == "arm" || t.Name == "chosen" || t.Name == "seconds" {
			own = append(own, t)
		}
	}
	if err := ckpt.Match(own, live); err != nil {
		return err
	}
	if err := s.inner.Load(ckpt.Under("inner/", ts)); err != nil {
		return err
	}
	if err := ckpt.Restore(own, live); err != nil {
		return err
	}
	if arm[0] < 0 || arm[0] >= int64(len(s.arms)) {
		return errors.New("tensor \"arm\" names no arm")
	}
	s.bandit.arm, s.state[0], s.took, s.since, s.told = int(arm[0]), arm[1], 0, 0, false
	return nil
}
