// Package hogwild trains sparse linear models on one vector of parameters that all workers of a process change at once, without locks
// (Recht, Re, Wright and Niu, Hogwild!, NIPS 2011, algorithm 1).
//
// A worker takes the samples of its microshards one by one. Of each it reads the parameters of the features that the sample has, and
// moves those alone along the sample's gradient. Reads and writes of a parameter are atomic, but a read and the write that it leads to are
// not one operation: what another worker wrote in between is lost. That is the method. Where samples have few features of many
// it is rare, and convergence is that of one worker to within a constant (the same, proposition 4.1).
//
// Workers wait for each other where train needs all of them: at the ends of epochs and where a checkpoint is due. The parameters
// depend on how goroutines are scheduled, so no two runs have the same bits, unless there is one worker.
package hogwild

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/strategy"
)

// Shared is what the workers of one run have in common. One is made for all of them.
type Shared struct {
	train data.Dataset
	x     []atomic.Uint32 // the parameters, as bits of float32
	// strength is by how much of itself a sample that has a parameter's feature pulls that towards 0: the regulariser's strength over
	// the share of samples that have the feature, so that in a pass over the data each parameter gets all of its pull (the
	// same, equation 3).
	strength []float32

	mu     sync.Mutex
	ranks  map[comm.Rank]*progress
	stopAt int // the last step, once some worker has asked to stop; -1
}

// progress is how far a worker is.
type progress struct {
	step    int     // it is in this step, or may be
	loss    float64 // sum over the samples of its newest step
	samples int     // of that
}

// NewShared returns what the workers of a run over the training set train have in common.
func NewShared(train data.Dataset) *Shared {
	return &Shared{train: train, ranks: map[comm.Rank]*progress{}, stopAt: -1}
}

// Strategy is one worker's part.
type Strategy struct {
	shared *Shared
	w      *strategy.Worker
	m      model.Curved
	joined bool // w.X is in shared, and changes there
	z, u   [1]float64
	one    data.Batch // a sample
}

// New returns a worker's strategy.
func New(s *Shared) *Strategy { return &Strategy{shared: s, u: [1]float64{1}} }

var (
	_ strategy.Strategy = (*Strategy)(nil)
	_ strategy.Preparer = (*Strategy)(nil)
	_ strategy.Settler  = (*Strategy)(nil)
)

// String implements strategy.Strategy.
func (s *Strategy) String() string { return "hogwild" }

// State implements ckpt.Stateful: between meetings parameters are all there is.
func (s *Strategy) State() []ckpt.Tensor { return nil }

// Load implements ckpt.Stateful.
func (s *Strategy) Load(ts []ckpt.Tensor) error { return ckpt.Match(ts, nil) }

// Prepare implements strategy.Preparer.
func (s *Strategy) Prepare(w *strategy.Worker) error {
	m, ok := w.Model.(model.Curved)
	in := data.Shape(s.shared.train)
	_, proximal := w.Model.(model.Proximal)
	switch n := len(w.X); {
	case comm.IsHollow(w.Group):
		return errors.New("hogwild: workers read and write one vector, and a run for times alone has none: ps:mode=async sends messages that can be timed")
	case !in.Sparse:
		return errors.New("hogwild: each sample of dense data moves all parameters, so that workers would undo each other's steps: use allreduce, or sparse data (LIBSVM, --hash)")
	case !ok || proximal || m.Margins() != 1 || n != in.Dim && n != in.Dim+1:
		return errors.New("hogwild: only models that are one weight a feature and a bias move what a sample has alone, such as logistic: use ps:mode=async for this one")
	}
	s.w, s.m = w, m
	s.shared.mu.Lock()
	defer s.shared.mu.Unlock()
	s.shared.ranks[w.Group.Rank()] = &progress{}
	if s.shared.x == nil {
		s.shared.x = make([]atomic.Uint32, len(w.X))
	}
	return nil
}

// Step implements strategy.Strategy.
func (s *Strategy) Step(ctx context.Context, w *strategy.Worker) (rep strategy.Report, err error) {
	clock := w.Group.Clock()
	t0 := clock.Now()
	if !s.joined {
		if err := s.join(ctx); err != nil {
			return rep, err
		}
	}
	t1 := clock.Now()
	me := s.shared.enter(w.Group.Rank(), w.Step, w.Stop)
	var sum float64
	lo, hi := w.Tree.Run(w.Group.Rank())
	for leaf := lo; leaf < hi; leaf++ {
		b, err := w.Microshard(leaf)
		if err != nil {
			return rep, err
		}
		for i := range b.N {
			sum += s.descend(b, i, w.Rate)
		}
	}
	rep.Loss, rep.Stop = s.shared.leave(me, sum, w.Own())
	rep.Wait, rep.Comm, rep.Compute = t1-t0, t1-t0, clock.Now()-t1
	return rep, nil
}

// descend moves the parameters of sample i's features along its gradient, and returns its loss where they were.
func (s *Strategy) descend(b *data.Batch, i int, rate float32) float64 {
	x, col, val := s.shared.x, b.Col[b.Row[i]:b.Row[i+1]], b.Val[b.Row[i]:b.Row[i+1]]
	bias := b.Dim < len(x)
	z := 0.0
	if bias {
		z = float64(load(&x[b.Dim]))
	}
	for k, j := range col {
		z += float64(val[k]) * float64(load(&x[j])) // exact
	}
	s.z[0] = z
	s.one.N, s.one.Dim = 1, b.Dim
	if b.Class != nil {
		s.one.Class = b.Class[i : i+1]
	} else {
		s.one.Y = b.Y[i : i+1]
	}
	loss, slope, _ := s.m.Line(s.z[:], s.u[:], 0, &s.one)
	g := float32(slope)
	for k, j := range col {
		at := load(&x[j])
		store(&x[j], (at-float32(rate*float32(g*val[k])))/(1+float32(rate*s.shared.strength[j]))) // the pull where it ends: it never goes beyond 0
	}
	if bias {
		store(&x[b.Dim], load(&x[b.Dim])-float32(rate*g))
	}
	return loss
}

func load(p *atomic.Uint32) float32     { return math.Float32frombits(p.Load()) }
func store(p *atomic.Uint32, v float32) { p.Store(math.Float32bits(v)) }

// join meets the others, from where on parameters change in shared.
func (s *Strategy) join(ctx context.Context) error {
	g := s.w.Group
	if g.Rank() == 0 {
		for i, v := range s.w.X {
			store(&s.shared.x[i], v)
		}
		if s.shared.strength == nil {
			s.shared.strength = strengths(s.m, s.shared.train, len(s.w.X))
		}
	}
	if err := comm.Barrier(ctx, g); err != nil {
		return err
	}
	s.shared.mu.Lock()
	here := len(s.shared.ranks)
	s.shared.mu.Unlock()
	if here != g.Size() {
		return fmt.Errorf("hogwild: %d of %d workers are in this process, and all read and write one vector in its memory: use --transport inproc, or ps:mode=async for workers that are processes", here, g.Size())
	}
	s.joined = true
	return nil
}

// Settle implements strategy.Settler: all meet, and each takes what the parameters have come to.
func (s *Strategy) Settle(ctx context.Context) error {
	if !s.joined || ctx.Err() != nil {
		return nil
	}
	if err := comm.Barrier(ctx, s.w.Group); err != nil {
		return err
	}
	for i := range s.w.X { // nobody writes before all have joined again
		s.w.X[i] = load(&s.shared.x[i])
	}
	s.joined = false
	return nil
}

// enter notes that a worker begins a step.
func (s *Shared) enter(who comm.Rank, step int, stop bool) *progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	me := s.ranks[who]
	me.step = step
	if stop && s.stopAt < 0 {
		for _, p := range s.ranks {
			s.stopAt = max(s.stopAt, p.step)
		}
	}
	return me
}

// leave notes what a step has come to, and returns the mean loss of all workers' newest steps, and whether this was the last one.
func (s *Shared) leave(me *progress, loss float64, samples int) (mean float64, stop bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	me.loss, me.samples = loss, samples
	n := 0
	for _, p := range s.ranks {
		mean, n = mean+p.loss, n+p.samples
	}
	stop = s.stopAt == me.step
	if s.stopAt < 0 {
		me.step++ // which it may begin at any moment
	}
	return mean / float64(max(1, n)), stop
}

// strengths returns Shared.strength, by a pass over the data where there is a regulariser.
func strengths(m model.Curved, train data.Dataset, n int) []float32 {
	squares := make([]float64, n)
	m.Squares(squares)
	out := make([]float32, n)
	have := make([]int, n)
	var b data.Batch
	const block = 1 << 12
	for lo := 0; lo < train.Len(); lo += block {
		data.View(train, &b, lo, min(lo+block, train.Len()))
		for _, j := range b.Col[b.Row[0]:b.Row[b.N]] {
			have[j]++
		}
	}
	for j, n := range have {
		if n > 0 {
			out[j] = float32(squares[j] * float64(train.Len()) / float64(n))
		}
	}
	return out
}
