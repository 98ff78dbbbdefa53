// Package allreduce is synchronous data-parallel SGD: in each step every worker computes the gradients of its
// microshards, all workers sum them, and each makes the same update.
//
// Gradients are cut into buckets, from the end of the flat vector to its beginning, which is the order in which a
// backward pass makes them final. As soon as all of a bucket is final in the worker's last microshard, its reduction
// starts, on a goroutine of its own, while the backward pass goes on; the update of a bucket starts when its sum is
// there, while later buckets are still being reduced.
//
// A large bucket is updated in parts where the optimizer treats each element alone: a worker gets the sum of its own
// part, updates that, and sends out parameters in place of sums. That is stage 1 of ZeRO (Rajbhandari et al., arXiv
// 1910.02054, section 5): the bytes of an all-reduce, and the update's time and memory traffic divided by the workers.
//
// With microshards fixed, N workers make the update of one worker on the global batch, bit for bit: the sum of the
// microshards' gradients is the canonical tree's whoever owns them, it is divided by the number of samples once, and
// the update is elementwise or uses norms over fixed blocks.
package allreduce

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/reduce"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/vec"
)

const head = strategy.Head

// Strategy is the state of one worker between and during steps.
type Strategy struct {
	folds   []comm.Fold // how this worker's microshards become its parts
	last    int         // index in folds of the last microshard's gradient
	buffers [][]float32 // head + gradient each
	parts   [][]float32 // the buffers that hold the parts at the end, in tree order
	buckets []bucket    // in the order in which they are reduced
	size    int         // bytes of a bucket that they were cut for
	owner   []int       // segment -> its bucket
	layout  model.Layout
	finalF  func(model.Segment)

	worker *strategy.Worker
	mean   float32 // 1 / samples of the global batch

	// With one bucket, or no other worker, the step's own goroutine reduces; otherwise a second one does. What it
	// needs is made once, so that a step allocates nothing.
	aside   bool
	outer   context.Context // of the steps so far
	ctx     context.Context // below it, which ends when a step fails
	cancel  context.CancelCauseFunc
	reduceF func()
	mu      sync.Mutex
	ready   int           // buckets that may be reduced
	updated time.Duration // time spent in updates
	comm    time.Duration // time spent in reductions
	err     error
	more    comm.Event // ready changed
	ended   comm.Event // the reduction has
}

// bucket is elements lo to hi of a buffer, and of the frame.
type bucket struct {
	name   string
	lo, hi int
	segs   int // segments in it
	left   int // of them, not final yet in this step
	vector reduce.Vector
	update func(lo, hi int) // updates elements lo to hi of the bucket; nil when that is not this bucket's way
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

// Undoes implements strategy.Undoer.
func (*Strategy) Undoes() {}

// prepare makes the buffers, once.
func (s *Strategy) prepare(w *strategy.Worker) {
	layout := w.Model.Layout()
	me := w.Group.Rank()
	s.folds = w.Tree.Folds(w.Tree.Run(me))
	s.buffers = make([][]float32, max(1, comm.Buffers(s.folds)))
	s.parts = s.buffers[:w.Tree.Vectors(me)]
	for i := range s.buffers {
		if i < len(s.parts) {
			s.buffers[i], _ = strategy.Frame(w.Group, layout.Len())
		} else {
			s.buffers[i] = comm.Vector(w.Group, head+layout.Len())
		}
	}
	s.last = strategy.LastLeaf(s.folds)
	s.layout, s.finalF = layout, s.final
	s.reduceF = func() {
		s.err = s.reduceAll()
		s.ended.Set()
	}
	clock := w.Group.Clock()
	s.more, s.ended = clock.Event(), clock.Event()
	s.cut(w)
}

// cut makes the buckets, see Buckets. A size that changes between steps cuts them anew, which with sharded updates nobody may
// ask for: parts of the optimizer's state would change hands.
func (s *Strategy) cut(w *strategy.Worker) {
	s.size, s.buckets = w.Bucket, nil
	s.owner = make([]int, len(s.layout))
	i := len(s.layout)
	for k, b := range Buckets(s.layout, w.Bucket) {
		for range b.Segments {
			i--
			s.owner[i] = k
		}
		s.buckets = append(s.buckets, bucket{name: b.Name, lo: b.Lo, hi: b.Hi, segs: b.Segments})
	}
	s.aside = len(s.buckets) > 1 && w.Group.Size() > 1
	sc, _ := w.Reducer.(reduce.Scatterer)
	for i := range s.buckets {
		b := &s.buckets[i]
		b.vector = reduce.Vector{Name: b.name, Head: max(0, head-b.lo), Off: max(0, b.lo-head), Parts: make([][]float32, len(s.parts))}
		if w.Shard && !s.late(w) && sc != nil && sc.Scatters(b.hi-b.lo) {
			b.update = func(lo, hi int) { s.timed(b.lo+lo, b.lo+hi) }
		}
	}
}

// Step implements strategy.Strategy.
func (s *Strategy) Step(ctx context.Context, w *strategy.Worker) (strategy.Report, error) {
	switch {
	case s.buckets == nil:
		s.prepare(w)
	case s.size != w.Bucket:
		s.cut(w)
	}
	if s.outer != ctx {
		s.outer = ctx
		s.ctx, s.cancel = context.WithCancelCause(ctx)
	}
	s.worker, s.mean = w, 1/float32(w.Samples)
	s.ready, s.err, s.comm, s.updated = 0, nil, 0, 0
	mine := w.Own()
	for i := range s.buckets {
		b := &s.buckets[i]
		b.left = b.segs
		for p := range s.parts {
			b.vector.Parts[p] = s.parts[p][b.lo:b.hi]
		}
		b.vector.Weight, b.vector.Total, b.vector.Step = float64(mine), float64(w.Samples), w.Step
	}
	w.Optimizer.Begin(w.Step+1, w.Rate)
	clock := w.Group.Clock()
	t0 := clock.Now()
	if s.aside {
		clock.Go(s.reduceF)
	}
	err := s.gradients(ctx, w)
	var wait time.Duration
	if !s.aside {
		wait = s.comm // all of it on this goroutine
	} else {
		if err != nil { // a reduction under way fails for the same reason, which the other workers then hear
			s.cancel(err)
		}
		s.mu.Lock()
		t, before := clock.Now(), s.updated
		s.mu.Unlock()
		s.ended.Wait(context.Background()) // it has let go of the buffers
		wait = clock.Now() - t - (s.updated - before)
	}
	if err == nil {
		err = s.err
	}
	if err != nil {
		s.cancel(err)
		s.outer = nil
		return strategy.Report{Times: strategy.Times{Wait: wait}}, err
	}
	if s.late(w) {
		s.update(0, head+len(w.X))
	}
	var rep strategy.Report
	rep.Loss = float64(w.Frame[strategy.HeadLoss]) / float64(w.Samples)
	rep.Stop = w.Frame[strategy.HeadStop] > 0
	rep.Comm, rep.Wait = s.comm, wait
	rep.Compute = clock.Now() - t0 - wait
	return rep, nil
}

// gradients computes this worker's microshards and folds them. In the last one it folds and hands over each bucket as
// it becomes final.
func (s *Strategy) gradients(ctx context.Context, w *strategy.Worker) error {
	if err := w.Parts(ctx, s.folds, s.buffers, s.finalF); err != nil {
		return err
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
	i := s.layout.Index(seg)
	if i < 0 {
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

// handOver folds the buckets up to n that were not yet folded, and has them reduced.
func (s *Strategy) handOver(n int) {
	for k := s.ready; k < n; k++ {
		b := &s.buckets[k]
		for _, f := range s.folds[s.last+1:] {
			s.worker.Add(s.buffers[f.Dst][b.lo:b.hi], s.buffers[f.Src][b.lo:b.hi])
		}
		if !s.aside && s.err == nil {
			s.err = s.reduce(s.outer, k)
		}
	}
	if !s.aside {
		s.ready = n
		return
	}
	s.mu.Lock()
	s.ready = n
	s.mu.Unlock()
	s.more.Set()
}

// reduceAll is the communication goroutine of one step: it reduces the buckets in order as they become ready.
func (s *Strategy) reduceAll() error {
	for k := range s.buckets {
		for {
			s.mu.Lock()
			ready := s.ready
			s.mu.Unlock()
			if ready > k {
				break
			}
			if err := s.more.Wait(s.ctx); err != nil {
				return err
			}
		}
		if err := s.reduce(s.ctx, k); err != nil {
			return err
		}
	}
	return nil
}

// reduce sums bucket k and, unless updates wait for all of them, updates its parameters.
func (s *Strategy) reduce(ctx context.Context, k int) error {
	w, b := s.worker, &s.buckets[k]
	clock := w.Group.Clock()
	t, before := clock.Now(), s.updated
	var err error
	if b.update != nil {
		err = w.Reducer.(reduce.Scatterer).Update(ctx, b.vector, w.Frame[b.lo:b.hi], b.update)
	} else {
		err = w.Reducer.Sum(ctx, b.vector)
	}
	s.comm += clock.Now() - t - (s.updated - before)
	if err == nil && b.update == nil && !s.late(w) {
		s.timed(b.lo, b.hi)
	}
	return err
}

// late tells whether updates wait for the sums of all buckets.
func (*Strategy) late(w *strategy.Worker) bool { return w.Undo || !w.Optimizer.Local() }

// timed is update with its time booked.
func (s *Strategy) timed(lo, hi int) {
	clock := s.worker.Group.Clock()
	t := clock.Now()
	s.update(lo, hi)
	d := clock.Now() - t
	s.mu.Lock()
	s.updated += d
	s.mu.Unlock()
}

// update turns elements lo to hi of the sum into the new elements of the frame: parameters move along their gradient's
// mean, and the head is the sum itself.
func (s *Strategy) update(lo, hi int) {
	w, sum := s.worker, s.parts[0]
	if lo < head && !comm.IsHollow(w.Group) {
		copy(w.Frame[lo:min(hi, head)], sum[lo:min(hi, head)])
	}
	lo, hi = max(lo, head), max(hi, head)
	w.Update(sum[lo:hi], lo-head, s.mean, nil)
}

// Gather implements strategy.Gatherer: of the optimizer's state, each worker has what belongs to its own part of each
// bucket that was updated in parts.
func (s *Strategy) Gather(ctx context.Context, w *strategy.Worker) error {
	for _, b := range s.buckets {
		if b.update == nil {
			continue
		}
		for _, t := range w.Optimizer.State() {
			if t.Type != ckpt.F32 || t.Len() != len(w.X) {
				continue // not one number a parameter
			}
			// The frame of this bucket with the state in the place of the parameters: the same parts of the same length.
			frame := make([]float32, b.hi-b.lo)
			state := vec.Floats(t.Data)[max(0, b.lo-head) : b.hi-head]
			copy(frame[len(frame)-len(state):], state)
			if err := comm.AllGather(ctx, w.Group, frame); err != nil {
				return err
			}
			copy(state, frame[len(frame)-len(state):])
		}
	}
	return nil
}
