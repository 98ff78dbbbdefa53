package convex

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/reduce"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/vec"
)

// oracle answers questions about the objective that take a pass over the data: every worker asks the same, of its own
// leaves, and gets the same answer. Answers are of the mean loss plus the penalty, into vectors of the caller's.
//
// A question is a function of a leaf and of where its share goes; shares are as long as the question's answer. Questions
// that go along a vector or to a place read it from the oracle's fields, so that asking allocates nothing.
type oracle struct {
	model    model.Curved
	sum      reduce.Summer64
	clock    comm.Clock
	parts    int // that this worker hands to a sum
	folds    []comm.Fold
	first    int // leaf
	leaves   []leaf
	strength []float64 // of the penalty
	samples  float64
	n        int64 // parameters: a product with a vector of them is two FLOPs each

	waited time.Duration // for sums of this step
	stop   bool          // somebody asked to stop
	vote   bool          // this worker does

	// One question.
	at                                   []float64 // the point, or the vector that the Hessian is applied to
	t                                    float64
	slopeQ, bendQ, diagonalQ, triQ, gapQ question
	lineQ                                question
	wide, narrow, triangle               shares

	threads int
	threadF func()
	now     question
	flops   int64 // of it, a sample
	into    *shares
	next    atomic.Int64
	ended   []comm.Event
	turn    atomic.Int64 // which event a thread sets at its end
}

type question func(l *leaf, share []float64) error

// leaf is a microshard with its margins, and what they were for the trial point.
type leaf struct {
	batch      *data.Batch
	z, h       []float64
	zTry, hTry []float64
	gap        []float64 // margins of the direction
	err        error
}

// shares are the vectors of one length that leaves' shares go to.
type shares struct {
	n      int
	leaves [][]float64 // by leaf; only of those that are computed together
	bufs   [][]float64 // as comm.Tree.Folds numbers them
}

// The head of a share of slope's: what goes before the gradient.
const (
	headLoss = iota
	headStop
	head
)

const lineLen = 3 // of a share of line's

// most is how many bytes of shares a worker computes side by side: beyond, it goes leaf by leaf, in the fewest buffers.
const most = 64 << 20

func newOracle(w *strategy.Worker, m model.Curved, sum reduce.Summer64, n int) *oracle {
	lo, hi := w.Tree.Run(w.Group.Rank())
	o := &oracle{model: m, sum: sum, clock: w.Group.Clock(), parts: w.Tree.Vectors(w.Group.Rank()), folds: w.Tree.Folds(lo, hi), first: lo,
		leaves: make([]leaf, hi-lo), strength: make([]float64, n), samples: float64(w.Total), n: int64(n)}
	m.Squares(o.strength)
	o.wide, o.narrow = o.shares(head+n), o.shares(lineLen)
	o.slopeQ = func(l *leaf, share []float64) (err error) {
		clear(share)
		share[headLoss], err = o.model.Slope(share[head:], l.zTry, l.hTry, o.at, l.batch)
		if o.vote && l == &o.leaves[0] {
			share[headStop] = 1
		}
		return err
	}
	o.bendQ = func(l *leaf, share []float64) error {
		clear(share)
		o.model.Bend(share[head:], o.at, l.h, l.batch)
		return nil
	}
	o.diagonalQ = func(l *leaf, share []float64) error {
		clear(share)
		o.model.Diagonal(share[head:], l.h, l.batch)
		return nil
	}
	o.triQ = func(l *leaf, share []float64) error {
		clear(share)
		o.model.(model.Hessian).AddHessian(share, l.h, l.batch)
		return nil
	}
	o.gapQ = func(l *leaf, _ []float64) error {
		for i, v := range l.zTry {
			l.gap[i] = v - l.z[i]
		}
		return nil
	}
	o.lineQ = func(l *leaf, share []float64) error {
		share[0], share[1], share[2] = o.model.Line(l.z, l.gap, o.t, l.batch)
		return nil
	}
	o.threads = max(1, min(vec.Threads(), len(o.leaves)))
	o.ended = make([]comm.Event, o.threads-1)
	for i := range o.ended {
		o.ended[i] = o.clock.Event()
	}
	o.threadF = func() {
		o.work()
		o.ended[o.turn.Add(1)-1].Set()
	}
	return o
}

// begin takes, and books, the step's samples.
func (o *oracle) begin(w *strategy.Worker) error {
	o.vote = w.Stop
	for i := range o.leaves {
		b, err := w.Slice(o.first + i)
		if err != nil {
			return err
		}
		l := &o.leaves[i]
		if l.batch = b; l.z == nil {
			n := b.N * o.model.Margins()
			for _, v := range []*[]float64{&l.z, &l.h, &l.zTry, &l.hTry, &l.gap} {
				*v = make([]float64, n)
			}
		}
	}
	return nil
}

func (o *oracle) shares(n int) shares {
	return shares{n: n, bufs: make([][]float64, max(1, comm.Buffers(o.folds)))}
}

// ask computes all leaves' shares, for so many FLOPs a sample, and adds them up over all workers. The sum is valid until the
// next question of its length.
func (o *oracle) ask(ctx context.Context, q question, s *shares, flops int64) ([]float64, error) {
	o.now, o.flops = q, flops
	together := o.threads > 1 && 8*s.n*len(o.leaves) <= most
	if together {
		if s.leaves == nil {
			s.leaves = vectors(make([][]float64, len(o.leaves)), s.n)
		}
		o.all(s)
	} else if s.bufs[0] == nil {
		vectors(s.bufs, s.n)
	}
	for _, f := range o.folds {
		switch {
		case f.Leaf < 0:
			axpy(1, s.bufs[f.Src], s.bufs[f.Dst])
		case together:
			s.bufs[f.Dst] = s.leaves[f.Leaf-o.first]
		default:
			o.answer(&o.leaves[f.Leaf-o.first], s.bufs[f.Dst])
		}
	}
	for i := range o.leaves {
		if err := o.leaves[i].err; err != nil {
			return nil, err
		}
	}
	t := o.clock.Now()
	err := o.sum.Sum64(ctx, s.bufs[:o.parts])
	o.waited += o.clock.Now() - t
	return s.bufs[0], err
}

func vectors(v [][]float64, n int) [][]float64 {
	for i := range v {
		v[i] = make([]float64, n)
	}
	return v
}

// all puts the question to all leaves, with every thread; s is nil for one whose answer stays with the leaf.
func (o *oracle) all(s *shares) {
	o.into = s
	o.next.Store(0)
	o.turn.Store(0)
	for range o.ended {
		o.clock.Go(o.threadF)
	}
	o.work()
	for _, e := range o.ended {
		e.Wait(context.Background()) // they write to the shares: nothing goes on before they have ended
	}
}

func (o *oracle) work() {
	for {
		i := int(o.next.Add(1)) - 1
		if i >= len(o.leaves) {
			return
		}
		l := &o.leaves[i]
		var share []float64
		if o.into != nil {
			share = o.into.leaves[i]
		}
		o.answer(l, share)
	}
}

// answer puts the question to one leaf, for its cost.
func (o *oracle) answer(l *leaf, share []float64) {
	l.err = o.now(l, share)
	o.clock.Spend(comm.Cost{FLOPs: o.flops * int64(l.batch.N)})
}

// slope evaluates x: its value and gradient. It is the trial point from then on.
func (o *oracle) slope(ctx context.Context, g, x []float64) (value, error) {
	o.at = x
	sum, err := o.ask(ctx, o.slopeQ, &o.wide, 4*o.n)
	if err != nil {
		return value{}, err
	}
	o.stop = o.stop || sum[headStop] > 0
	v := value{loss: sum[headLoss] / o.samples}
	for i, s := range sum[head:] {
		pull := float64(o.strength[i] * x[i])
		v.penalty += float64(pull * x[i])
		g[i] = s/o.samples + pull
	}
	v.penalty /= 2
	return v, nil
}

// accept makes the trial point's margins those of the point.
func (o *oracle) accept() {
	for i := range o.leaves {
		l := &o.leaves[i]
		l.z, l.zTry = l.zTry, l.z
		l.h, l.hTry = l.hTry, l.h
	}
}

// bend overwrites hv by the Hessian at the point times v.
func (o *oracle) bend(ctx context.Context, hv, v []float64) error {
	o.at = v
	sum, err := o.ask(ctx, o.bendQ, &o.wide, 4*o.n)
	if err != nil {
		return err
	}
	for i, s := range sum[head:] {
		hv[i] = s/o.samples + float64(o.strength[i]*v[i])
	}
	return nil
}

// diagonal overwrites d by the Hessian's diagonal at the point.
func (o *oracle) diagonal(ctx context.Context, d []float64) error {
	sum, err := o.ask(ctx, o.diagonalQ, &o.wide, 2*o.n)
	if err != nil {
		return err
	}
	for i, s := range sum[head:] {
		d[i] = s/o.samples + o.strength[i]
	}
	return nil
}

// hessian overwrites a by the lower triangle of the Hessian at the point.
func (o *oracle) hessian(ctx context.Context, a []float64) error {
	if o.triangle.n == 0 {
		o.triangle = o.shares(len(a))
	}
	sum, err := o.ask(ctx, o.triQ, &o.triangle, o.n*o.n)
	if err != nil {
		return err
	}
	at := 0
	for r, d := range o.strength {
		for c := range r + 1 {
			a[at+c] = sum[at+c] / o.samples
		}
		at += r + 1
		a[at-1] += d
	}
	return nil
}

// aim makes the way from the point to the trial point the line that along is asked about.
func (o *oracle) aim() {
	o.now, o.flops = o.gapQ, int64(o.model.Margins())
	o.all(nil)
}

// along returns the mean loss at the point plus t times the way to what was the trial point, and its first two derivatives.
func (o *oracle) along(ctx context.Context, t float64) (loss, slope, bend float64, err error) {
	o.t = t
	sum, err := o.ask(ctx, o.lineQ, &o.narrow, lineLen*int64(o.model.Margins()))
	if err != nil {
		return 0, 0, 0, err
	}
	return sum[0] / o.samples, sum[1] / o.samples, sum[2] / o.samples, nil
}
