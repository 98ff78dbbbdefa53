// Package local lets replicas train by themselves and brings them together now and then: local SGD and its relatives.
//
// The words. A replica is a microshard (a client, when clients own the data): it has parameters and an optimizer's state
// of its own, and is hosted by the worker that owns that leaf of the tree. In each step every replica takes one step of its
// optimizer along the mean gradient of its microshard; a worker runs its replicas one after another. Every K steps there is
// an exchange, which ends a round: the replicas' moves since the parameters they last had in common, weighted, are summed,
// and from the sum each worker works out the new common parameters, which w.X holds until the next exchange.
//
// The sum is the canonical tree's over replicas, and the method sees replicas and never workers, so that a run has the same
// bits for any number of workers. What goes over the wire are moves, not parameters: they are small and shrink as training
// goes on, which is what compressors and error feedback want. The loss and the votes to stop travel in front of them.
//
// The methods differ in the local gradient, in what the common parameters make of the replicas' mean move d, and in what
// the replicas go on from. x is the common parameters at the round's start, y a replica's:
//
//	local         x += d. Local SGD (Stich, arXiv 1805.09767, algorithm 1); FedAvg (McMahan et al., arXiv 1602.05629,
//	              algorithm 1) when clients own the data. Weights are the samples that a replica used in the round
//	postlocal     an exchange after every step until step Start, and then as local (Lin et al., arXiv 1808.07217, section 3)
//	hierarchical  exchanges inside groups every K steps, of all every K*Outer (the same, appendix)
//	fedprox       as local; a local gradient has mu(y - x) added (Li et al., arXiv 1812.06127, section 3.2)
//	scaffold      a local gradient has c - c_y added (scaffold.go)
//	easgd         x += alpha sum(y - x), y -= alpha (y - x), and y goes on from there (Zhang, Choromanska and LeCun, arXiv
//	              1412.6651, section 3, equations 5 and 6, with the gradients left to the local steps; alpha = beta/p)
//	bmuf          D = momentum D + rate d, x += D (Chen and Huo, ICASSP 2016, section 2: classical block momentum);
//	              nesterov: replicas start from x + momentum D (Nesterov block momentum)
//	diloco        v = momentum v + d, x += rate (d + momentum v): Nesterov's momentum as PyTorch writes it, of the
//	              pseudo-gradient -d (Douillard et al., arXiv 2311.08105, algorithm 1); inner state stays from round to round
//
// Inner optimizers keep their state through exchanges, in all methods. A replica without samples in a step takes none.
// With Fragments and Overlap (Douillard et al., arXiv 2501.18512, sections 2.2 and 2.3) parts of the parameters take turns,
// and an exchange goes on beside the steps after it.
package local

import (
	"context"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/optim"
	"github.com/covey-ml/covey/reduce"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/vec"
)

// Strategy is one worker's part of a method, with the replicas that it hosts.
type Strategy struct {
	cfg    Config
	k      int        // steps of the round under way
	first  [1]float64 // with a period by loss: the loss of the first round, 0 before it
	rounds int        // exchanges of all that have begun

	w         *strategy.Worker
	pen       model.Penalised // nil when the model is not
	prox      model.Proximal
	replicas  []*replica // this worker's, by leaf
	firstLeaf int
	like      optim.Optimizer // a replica's, to tell what state one has
	apart     bool            // replicas' parameters are not all the common ones
	xs        []float32       // the replicas' parameters, one after the other
	losses    []float64       // by replica, the sum of its samples' losses since the last exchange of all began
	steps     int             // since then
	samples   int             // since then, of all replicas
	vote      bool            // this worker has been asked to stop since then
	fragments []*fragment
	outer     []float32 // of bmuf and diloco: momentum of the common parameters
	looked    []float32 // of bmuf, by fragment: the momentum by which the common parameters are ahead
	scaffold  *scaffold // nil in other methods
	groups    *groups   // nil in other methods

	g       []float32   // a gradient
	folds   []comm.Fold // how the replicas' moves become this worker's parts
	buffers [][]float32 // head and moves
	parts   [][]float32 // of the exchange under way
	kept    []float32   // with overlap: the replicas' elements of the fragment when its exchange began, one after the other
	flight  *flight     // an exchange that is not put to use yet; nil when there is none
	ended   comm.Event  // its sum is there
}

// replica is a microshard that trains by itself.
type replica struct {
	leaf int
	x    []float32
	opt  optim.Optimizer
}

// fragment is elements lo to hi of the parameters, whole segments, and where its round stands.
type fragment struct {
	index  int
	name   string
	lo, hi int
	since  int   // steps since its last exchange began
	turn   int   // exchanges so far
	counts []int // by leaf, samples since then; nil on a hollow group
}

const (
	head = strategy.Head
	// headSpread stands beside strategy.HeadLoss and HeadStop: with a period by divergence, the weighted sum of the squared lengths
	// of the moves.
	headSpread = 2
)

// New returns a worker's strategy. c is one that Parse returned.
func New(c Config) *Strategy { return &Strategy{cfg: c, k: c.K} }

var (
	_ strategy.Strategy = (*Strategy)(nil)
	_ strategy.Preparer = (*Strategy)(nil)
	_ strategy.Settler  = (*Strategy)(nil)
	_ strategy.Tunable  = (*Strategy)(nil)
	_ strategy.Checker  = (*Strategy)(nil)
)

// String implements strategy.Strategy.
func (s *Strategy) String() string { return s.cfg.String() }

// Tune implements strategy.Tunable. With fragments and overlap the period stays long enough for one exchange at a time.
func (s *Strategy) Tune(period int) {
	if period == 0 {
		period = s.cfg.K
	}
	s.k = max(1, period, s.cfg.Fragments*(s.cfg.Overlap+1))
}

// Finite implements strategy.Checker.
func (s *Strategy) Finite() bool { return !s.apart || vec.Finite(s.xs) }

// Prepare implements strategy.Preparer: it makes the replicas.
func (s *Strategy) Prepare(w *strategy.Worker) error {
	if err := s.cfg.Fits(w.Tree.Leaves()); err != nil {
		return err
	}
	layout := w.Model.Layout()
	n := layout.Len()
	me := w.Group.Rank()
	lo, hi := w.Tree.Run(me)
	all, err := optimizers(w.NewOptimizer, hi-lo)
	if err != nil {
		return err
	}
	s.w, w.Optimizer = w, nil
	s.pen, _ = w.Model.(model.Penalised)
	s.prox, _ = w.Model.(model.Proximal)
	s.firstLeaf, s.like = lo, all[hi-lo]
	s.xs, s.losses, s.g = comm.Vector(w.Group, (hi-lo)*n), make([]float64, hi-lo), comm.Vector(w.Group, n)
	for i := range hi - lo {
		s.replicas = append(s.replicas, &replica{leaf: lo + i, x: s.xs[i*n : (i+1)*n], opt: all[i]})
	}
	s.cut(layout)
	for _, f := range s.fragments {
		f.counts = newCounts(w)
	}
	if s.cfg.Method == BMUF || s.cfg.Method == DiLoCo {
		s.outer, s.looked = comm.Vector(w.Group, n), make([]float32, len(s.fragments))
	}
	if s.cfg.Method == Scaffold {
		s.scaffold = newScaffold(w, n, hi-lo, s.cfg.Option)
	}
	if s.cfg.Method == Hierarchical {
		if s.groups, err = newGroups(w, s.cfg.Groups); err != nil {
			return err
		}
	}
	s.folds = w.Tree.Folds(lo, hi)
	s.buffers = make([][]float32, max(1, comm.Buffers(s.folds)))
	s.parts = make([][]float32, w.Tree.Vectors(me))
	for i := range s.buffers {
		s.buffers[i], _ = strategy.Frame(w.Group, n)
	}
	if s.cfg.Overlap > 0 && s.cfg.Mix < 0 {
		s.kept = comm.Vector(w.Group, len(s.xs))
	}
	s.ended = w.Group.Clock().Event()
	return nil
}

// cut makes the fragments, see Spans. Their first exchanges are spread evenly over a period.
func (s *Strategy) cut(layout model.Layout) {
	for _, f := range Spans(layout, s.cfg.Fragments) {
		s.fragments = append(s.fragments, &fragment{name: f.Name, lo: f.Lo, hi: f.Hi})
	}
	for i, f := range s.fragments {
		f.index = i
		f.since = s.cfg.K - (i+1)*s.cfg.K/len(s.fragments)
	}
}

// Step implements strategy.Strategy.
func (s *Strategy) Step(ctx context.Context, w *strategy.Worker) (strategy.Report, error) {
	if s.w == nil {
		if err := s.Prepare(w); err != nil {
			return strategy.Report{}, err
		}
	}
	clock := w.Group.Clock()
	t := clock.Now()
	e := &exchanged{}
	err := s.train(ctx, w, &e.rep)
	if err == nil && s.flight != nil && (w.Last || w.Step >= s.flight.due) {
		err = s.land(ctx, e)
	}
	if err == nil && s.groups != nil && s.groups.due(s.fragments[0].since, s.k, s.cfg.Outer, w.Last) {
		err = s.meet(ctx, &e.rep)
	}
	for _, f := range s.fragments {
		if err == nil && s.flight == nil && (w.Last || f.since >= s.period(w.Step)) {
			if s.cfg.Overlap > 0 && !w.Last {
				s.launch(ctx, f)
			} else {
				err = s.exchange(ctx, f, e)
			}
		}
	}
	if err == nil && w.Last && s.cfg.Method != EASGD {
		s.apart = false
	}
	e.rep.Compute = clock.Now() - t - e.rep.Wait
	return e.report(), err
}

// period is how many steps a round takes that would end with this one.
func (s *Strategy) period(step int) int {
	switch {
	case s.cfg.Method == PostLocal && step < s.cfg.Start:
		return 1
	case s.groups != nil:
		return s.k * s.cfg.Outer
	}
	return s.k
}

// train takes one step of each replica.
func (s *Strategy) train(ctx context.Context, w *strategy.Worker, rep *strategy.Report) error {
	if !s.apart {
		for _, r := range s.replicas {
			w.Pass(len(r.x), 2, func() { copy(r.x, w.X) })
		}
		if s.scaffold != nil {
			w.Pass(len(s.scaffold.gradients), 1, s.scaffold.begin)
		}
		s.apart = true
	}
	s.vote = s.vote || w.Stop
	s.steps++
	s.samples += w.Samples
	for _, f := range s.fragments {
		f.since++
		book(f.counts, w)
	}
	if s.groups != nil {
		book(s.groups.counts, w)
	}
	sum, n := 0.0, 0
	for i, r := range s.replicas {
		b, err := w.Microshard(r.leaf)
		if err != nil {
			return err
		}
		if b.N == 0 {
			continue
		}
		loss, err := w.Grad(ctx, r.x, s.g, b, nil)
		if err != nil {
			return err
		}
		s.losses[i] += float64(loss.Sum)
		sum += float64(loss.Sum)
		n += b.N
		s.step(w, i, 1/float32(b.N))
		if s.cfg.Option == 1 { // s.g is free again
			if _, err := w.Grad(ctx, w.X, s.g, b, nil); err != nil {
				return err
			}
			w.Pass(len(s.g), 3, func() { s.scaffold.add(s.g, i) })
		}
	}
	if n > 0 {
		rep.Loss = sum / float64(n)
	}
	return nil
}

// step takes replica i along its gradient in s.g, of which scale makes the mean.
func (s *Strategy) step(w *strategy.Worker, i int, scale float32) {
	r, n := s.replicas[i], len(s.g)
	if s.pen != nil || s.cfg.Mu > 0 || s.scaffold != nil { // something joins the mean gradient
		by := scale
		w.Pass(n, 2, func() { vec.Scale(by, s.g) })
		scale = 1
	}
	if s.pen != nil {
		w.Pass(n, 3, func() { s.pen.AddPenaltyGrad(r.x, s.g, 0) })
	}
	if s.cfg.Mu > 0 {
		w.Pass(n, 4, func() { pull(s.g, r.x, w.X, float32(s.cfg.Mu)) })
	}
	if s.scaffold != nil {
		w.Pass(n, 4, func() { s.scaffold.correct(s.g, i, w.Rate) })
	}
	w.Apply(r.opt, n, func() {
		r.opt.Begin(w.Step+1, w.Rate)
		r.opt.Apply(r.x, s.g, 0, scale)
		if s.prox != nil {
			s.prox.Prox(r.x, 0, n, w.Rate)
		}
	})
}

// pull adds mu*(y - x) to g: the gradient of FedProx's term mu/2 |y - x|^2.
func pull(g, y, x []float32, mu float32) {
	for i := range g {
		g[i] += float32(mu * (y[i] - x[i]))
	}
}

// exchanged is what the exchanges that ended in a step brought to its report.
type exchanged struct {
	rep     strategy.Report
	loss    float64
	samples int
}

func (e *exchanged) report() strategy.Report {
	if e.rep.Quiet = e.rep.Steps == 0; !e.rep.Quiet {
		e.rep.Loss = e.loss / float64(e.samples)
	}
	return e.rep
}

// exchange is a whole exchange of a fragment.
func (s *Strategy) exchange(ctx context.Context, f *fragment, e *exchanged) error {
	if s.scaffold != nil { // first, while the common parameters are those of the round's start
		took, err := s.exchangeVariates(ctx)
		e.rep.Comm += took
		e.rep.Wait += took
		if err != nil {
			return err
		}
	}
	fl := s.begin(f)
	fl.direct = true
	v := s.vector(fl)
	clock := s.w.Group.Clock()
	t := clock.Now()
	fl.err = s.w.Reducer.Sum(ctx, v)
	fl.comm = clock.Now() - t
	e.rep.Wait += fl.comm
	return s.put(fl, e)
}

// flight is an exchange between the moment when its moves were taken and that when it is put to use.
type flight struct {
	f       *fragment
	due     int // the step after which it is put to use
	steps   int // since the exchange before, for the loss
	samples int
	total   float64 // of the weights of all replicas
	weight  float64 // of this worker's
	parts   [][]float32
	direct  bool // put to use at once
	done    bool // the sum is in parts[0]
	err     error
	comm    time.Duration
	cancel  context.CancelCauseFunc
}

// begin folds the replicas' moves of a fragment into this worker's parts, and starts the next round's books.
func (s *Strategy) begin(f *fragment) *flight {
	fl := &flight{f: f, due: s.w.Step + s.cfg.Overlap, steps: s.steps, samples: s.samples}
	for leaf := range f.counts {
		fl.total += s.weight(f, leaf)
	}
	if f.counts == nil {
		fl.total = float64(s.samples)
	}
	vote := float32(0)
	if s.vote {
		vote = 1
	}
	x := s.w.X[f.lo:f.hi]
	fl.parts = s.fold(head+f.hi-f.lo, func(r *replica, buf []float32) {
		if !comm.IsHollow(s.w.Group) { // or the buffer is not this worker's alone
			clear(buf[:head])
			buf[strategy.HeadLoss], buf[strategy.HeadStop] = float32(s.losses[r.leaf-s.firstLeaf]), vote
		}
		vote = 0
		weight := s.weight(f, r.leaf)
		fl.weight += weight
		d := buf[head:]
		s.w.Pass(len(d), 3, func() { moved(d, r.x[f.lo:f.hi], x) })
		if s.cfg.Period == ByDivergence {
			s.w.Pass(len(d), 1, func() { buf[headSpread] = float32(weight * vec.SumSquares(d)) })
		}
		s.w.Pass(len(d), 2, func() { vec.Scale(float32(weight), d) })
	})
	clear(s.losses)
	s.vote, s.steps, s.samples = false, 0, 0
	f.turn++
	f.since = 0
	clear(f.counts)
	if s.groups != nil {
		clear(s.groups.counts)
	}
	s.rounds++
	return fl
}

// weight is what a replica's move of a fragment counts.
func (s *Strategy) weight(f *fragment, leaf int) float64 {
	switch s.cfg.Method {
	case EASGD:
		return 1
	case Scaffold: // the same in every round: see scaffold.go
		return float64(s.w.Share(leaf))
	}
	if f.counts == nil {
		return float64(s.w.Count(leaf))
	}
	return float64(f.counts[leaf])
}

// moved is d = y - x.
func moved(d, y, x []float32) {
	for i := range d {
		d[i] = y[i] - x[i]
	}
}

// fold runs put for each leaf on n elements of a buffer, and folds these into parts.
func fold(w *strategy.Worker, folds []comm.Fold, buffers [][]float32, n int, put func(leaf int, buf []float32)) {
	for _, f := range folds {
		if f.Leaf < 0 {
			w.Add(buffers[f.Dst][:n], buffers[f.Src][:n])
		} else {
			put(f.Leaf, buffers[f.Dst][:n])
		}
	}
}

// fold runs put for each replica on n elements of a buffer, and folds these into this worker's parts.
func (s *Strategy) fold(n int, put func(r *replica, buf []float32)) [][]float32 {
	if len(s.folds) == 0 && !comm.IsHollow(s.w.Group) {
		clear(s.buffers[0][:n])
	}
	fold(s.w, s.folds, s.buffers, n, func(leaf int, buf []float32) { put(s.replicas[leaf-s.firstLeaf], buf) })
	for i := range s.parts {
		s.parts[i] = s.buffers[i][:n]
	}
	return s.parts
}

// vector is what the reducer sums of an exchange.
func (s *Strategy) vector(fl *flight) reduce.Vector {
	return reduce.Vector{Name: fl.f.name, Head: head, Off: fl.f.lo, Parts: fl.parts, Weight: fl.weight, Total: fl.total, Step: fl.f.turn - 1}
}
