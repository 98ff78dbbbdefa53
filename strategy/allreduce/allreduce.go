// Package allreduce is synchronous data-parallel SGD: in each step every worker computes the gradients of its
// microshards, all workers sum them, and each makes the same update.
//
// Gradients are cut into buckets, from the end of the flat vector to its beginning, which is the order in which a
// backward pass makes them final. As soon as all of a bucket is final in the worker's last microshard, its reduction
// starts, on a goroutine of its own, while the backward pass goes on; the update of a bucket starts when its sum is
// there, while later buckets are still being reduced.
//
// With microshards fixed, N workers make the update of one worker on the global batch, bit for bit: the sum of the
// microshards' gradients is the canonical tree's whoever owns them, it is divided by the number of samples once, and
// the update is elementwise or uses norms over fixed blocks.
package allreduce

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/reduce"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/vec"
)

// head is the number of elements that go before the gradient, summed with it: they cost no message of their own. 16
// float32 are a cache line, so the gradient itself stays aligned.
const (
	head     = 16
	headLoss = 0 // sum of the samples' losses
	headStop = 1 // workers that ask to stop
)

// Strategy is the state of one worker between and during steps.
type Strategy struct {
	folds   []comm.Fold // how this worker's microshards become its parts
	last    int         // index in folds of the last microshard's gradient
	buffers [][]float32 // head + gradient each
	parts   [][]float32 // the buffers that hold the parts at the end, in tree order
	buckets []bucket    // in the order in which they are reduced
	owner   []int       // segment -> its bucket
	layout  model.Layout

	// One step's exchange between the two goroutines. The functions are made once, so that a step allocates nothing.
	outer   context.Context // of the steps so far
	ctx     context.Context // below it, which ends when a step fails
	cancel  context.CancelCauseFunc
	worker  *strategy.Worker
	reduceF func()
	finalF  func(model.Segment)
	mu      sync.Mutex
	ready   int // buckets that may be reduced
	reduced int // buckets whose sum is there
	err     error
	comm    time.Duration
	more    comm.Event // ready changed
	arrived comm.Event // reduced or err changed
	ended   comm.Event // the reduction has
}

// bucket is elements lo to hi of a buffer.
type bucket struct {
	name   string
	lo, hi int
	segs   int // segments in it
	left   int // of them, not final yet in this step
	vector reduce.Vector
}

// New returns a worker's strategy.
func New() *Strategy { return &Strategy{} }

var _ strategy.Strategy = (*Strategy)(nil)

// String is the strategy's name in jobs and checkpoints.
func (s *Strategy) String() string { return "allreduce" }

// State implements ckpt.Stateful: there is nothing beyond the parameters and the optimizer.
func (s *Strategy) State() []ckpt.Tensor { return nil }

// Load implements ckpt.Stateful.
func (s *Strategy) Load(ts []ckpt.Tensor) error { return ckpt.Match(ts, nil) }

// prepare makes the buffers, once.
func (s *Strategy) prepare(w *strategy.Worker) {
	layout := w.Model.Layout()
	me := w.Group.Rank()
	s.folds = w.Tree.Folds(w.Tree.Run(me))
	s.buffers = make([][]float32, max(1, comm.Buffers(s.folds)))
	for i := range s.buffers {
		s.buffers[i] = make([]float32, head+layout.Len())
	}
	s.parts = s.buffers[:w.Tree.Vectors(me)]
	s.last = -1
	for i, f := range s.folds {
		if f.Leaf >= 0 {
			s.last = i
		}
	}
	s.layout, s.finalF = layout, s.final
	s.reduceF = func() {
		s.reduce()
		s.ended.Set()
	}
	s.cut(layout, w.Bucket)
	clock := w.Group.Clock()
	s.more, s.arrived, s.ended = clock.Event(), clock.Event(), clock.Event()
}

// cut makes the buckets: whole segments, from the last one on, until a bucket has the bytes asked for. The head goes
// with the first segments, whose bucket is reduced last, when the loss is known.
func (s *Strategy) cut(layout model.Layout, bytes int) {
	s.owner = make([]int, len(layout))
	b := bucket{hi: head + layout.Len()}
	for i, seg := range slices.Backward(layout) {
		b.lo = head + seg.Off
		b.segs++
		b.name = seg.Name
		s.owner[i] = len(s.buckets)
		if i > 0 && bytes > 0 && 4*(b.hi-b.lo) >= bytes {
			s.buckets = append(s.buckets, b)
			b = bucket{hi: b.lo}
		}
	}
	b.lo = 0
	s.buckets = append(s.buckets, b)
	for i := range s.buckets {
		b := &s.buckets[i]
		b.vector = reduce.Vector{Name: b.name, Off: max(0, b.lo-head), Parts: make([][]float32, len(s.parts))}
	}
}

// Step implements strategy.Strategy.
func (s *Strategy) Step(ctx context.Context, w *strategy.Worker) (strategy.Report, error) {
	if s.buckets == nil {
		s.prepare(w)
	}
	if s.outer != ctx {
		s.outer = ctx
		s.ctx, s.cancel = context.WithCancelCause(ctx)
	}
	s.worker = w
	s.ready, s.reduced, s.err, s.comm = 0, 0, nil, 0
	lo, hi := w.Tree.Run(w.Group.Rank())
	from, _ := data.Slice(lo, w.Tree.Leaves(), w.Samples)
	to, _ := data.Slice(hi, w.Tree.Leaves(), w.Samples)
	for i := range s.buckets {
		b := &s.buckets[i]
		b.left = b.segs
		for p := range s.parts {
			b.vector.Parts[p] = s.parts[p][b.lo:b.hi]
		}
		b.vector.Weight = float64(to - from)
	}
	clock := w.Group.Clock()
	t0 := clock.Now()
	clock.Go(s.reduceF)
	err := s.gradients(ctx, w)
	var wait time.Duration
	if err == nil {
		wait, err = s.update(w)
	}
	if err != nil { // a reduction under way fails for the same reason, which the other workers then hear
		s.cancel(err)
		s.outer = nil
	}
	s.ended.Wait(context.Background()) // at once, or when the reduction has let go of the buffers
	if err != nil {
		return strategy.Report{Times: strategy.Times{Wait: wait}}, err
	}
	var rep strategy.Report
	sums := s.parts[0][:head]
	rep.Loss = float64(sums[headLoss]) / float64(w.Samples)
	rep.Stop = sums[headStop] > 0
	rep.Comm, rep.Wait = s.comm, wait
	rep.Compute = clock.Now() - t0 - wait
	return rep, nil
}

// gradients computes this worker's microshards and folds them. In the last one it folds and hands over each bucket as
// it becomes final.
func (s *Strategy) gradients(ctx context.Context, w *strategy.Worker) error {
	vote := float32(0)
	if w.Stop {
		vote = 1
	}
	for i, f := range s.folds {
		if f.Leaf < 0 {
			if i < s.last {
				vec.Add(s.buffers[f.Dst], s.buffers[f.Src])
			}
			continue
		}
		b, err := w.Microshard(f.Leaf)
		if err != nil {
			return err
		}
		var done func(model.Segment)
		if i == s.last {
			done = s.finalF
		}
		buf := s.buffers[f.Dst]
		clear(buf[:head])
		loss, err := w.Model.Grad(ctx, w.X, buf[head:], b, done)
		if err != nil {
			return err
		}
		buf[headLoss], buf[headStop] = loss.Sum, vote
		vote = 0
	}
	if s.last < 0 {
		clear(s.parts[0])
	}
	for i := range s.buckets {
		if b := &s.buckets[i]; b.left > 0 && i < len(s.buckets)-1 && s.last >= 0 {
			return fmt.Errorf("allreduce: the model did not report %d segments from %s on as final", b.left, b.name)
		}
	}
	s.handOver(len(s.buckets))
	return nil
}

// final notes that a segment of the last microshard is final.
func (s *Strategy) final(seg model.Segment) {
	layout := s.layout
	i, ok := slices.BinarySearchFunc(layout, seg.Off, func(l model.Segment, off int) int { return l.Off - off })
	for ok && layout[i].Len == 0 && i+1 < len(layout) && layout[i].Name != seg.Name {
		i++
	}
	if !ok {
		panic(fmt.Sprintf("allreduce: the model reports segment %q at %d, which is not in its layout", seg.Name, seg.Off))
	}
	k := s.owner[i]
	s.buckets[k].left--
	n := s.ready
	for n < len(s.buckets)-1 && s.buckets[n].left == 0 {
		n++
	}
	if n > s.ready {
		s.handOver(n)
	}
}

// handOver folds the buckets up to n that were not yet folded, and lets their reduction begin.
func (s *Strategy) handOver(n int) {
	for k := s.ready; k < n; k++ {
		b := &s.buckets[k]
		for _, f := range s.folds[s.last+1:] {
			vec.Add(s.buffers[f.Dst][b.lo:b.hi], s.buffers[f.Src][b.lo:b.hi])
		}
	}
	s.mu.Lock()
	s.ready = n
	s.mu.Unlock()
	s.more.Set()
}

// reduce is the communication goroutine of one step: it sums the buckets in order as they become ready.
func (s *Strategy) reduce() {
	ctx, w := s.ctx, s.worker
	clock := w.Group.Clock()
	for k := range s.buckets {
		for {
			s.mu.Lock()
			ready := s.ready
			s.mu.Unlock()
			if ready > k {
				break
			}
			if err := s.more.Wait(ctx); err != nil {
				s.arrive(k, err)
				return
			}
		}
		t := clock.Now()
		err := w.Reducer.Sum(ctx, s.buckets[k].vector)
		s.comm += clock.Now() - t
		if err != nil {
			s.arrive(k, err)
			return
		}
		s.arrive(k+1, nil)
	}
}

// arrive says that n buckets are summed, or why there will be no more.
func (s *Strategy) arrive(n int, err error) {
	s.mu.Lock()
	s.reduced = n
	s.err = err
	s.mu.Unlock()
	s.arrived.Set()
}

// update moves the parameters, bucket by bucket as their sums arrive or, when the rule needs norms, after the last.
func (s *Strategy) update(w *strategy.Worker) (wait time.Duration, err error) {
	clock := w.Group.Clock()
	w.Optimizer.Begin(w.Step+1, w.Rate)
	g := s.parts[0]
	mean := 1 / float32(w.Samples)
	for k := range s.buckets {
		t := clock.Now()
		if err := s.await(k); err != nil {
			return wait, err
		}
		wait += clock.Now() - t
		lo, hi := max(0, s.buckets[k].lo-head), s.buckets[k].hi-head
		grad := g[head:]
		vec.Scale(mean, grad[lo:hi])
		if p, ok := w.Model.(model.Penalised); ok {
			p.AddPenaltyGrad(w.X, grad, lo, hi)
		}
		if w.Optimizer.Local() {
			s.apply(w, grad, lo, hi)
		}
	}
	if !w.Optimizer.Local() {
		s.apply(w, g[head:], 0, len(w.X))
	}
	return wait, nil
}

func (s *Strategy) apply(w *strategy.Worker, g []float32, lo, hi int) {
	w.Optimizer.Apply(w.X, g, lo, hi)
	if p, ok := w.Model.(model.Proximal); ok {
		p.Prox(w.X, lo, hi, w.Rate)
	}
}

// await waits until bucket k is summed. Its own context does not end: the reduction's does, and that says why.
func (s *Strategy) await(k int) error {
	for {
		s.mu.Lock()
		reduced, err := s.reduced, s.err
		s.mu.Unlock()
		switch {
		case reduced > k:
			return nil
		case err != nil:
			return err
		}
		if err := s.arrived.Wait(context.Background()); err != nil {
			return err
		}
	}
}
