package train

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/strategy"
)

// kept is what a worker keeps of a run from one group to the next.
type kept struct {
	// shots of its state, the newest first; none: it knows nothing of the run. Those of the generation before are kept until a
	// step is done in this one: only then is it sure that all have come as far as this worker.
	shots      []*shot
	generation Generation
	pasts      []*past // of a strategy that survives, in place of shots
	ledger     *comm.Ledger
	wire       wire // of the groups before
	began      time.Duration
	first      int // steps done when it joined
	samples    int
	times      strategy.Times
	joined     bool // it has been in a group that trained
}

// wire is what the sockets of groups that have ended counted.
type wire struct {
	Socket, TLS, Control int64
	// What a group that was broken sent beyond the ledger's books, or less: parts of messages; and what its operations had
	// announced and did not send any more.
	Cut, Unsent int64
}

// add counts a group that has ended.
func (w *wire) add(g comm.Group, l *comm.Ledger, broken bool) {
	counted, ok := g.(comm.Wire)
	if ok {
		sent, _, encrypted := counted.Wired()
		w.Socket, w.TLS, w.Control = w.Socket+sent, w.TLS+encrypted, w.Control+counted.Controlled()
	}
	if !broken {
		return
	}
	books := l.Totals()
	sum := books.Sum()
	w.Unsent = sum.Expected - sum.Payload - sum.Header
	if ok {
		w.Cut = w.Socket - sum.Sent() - w.Control
	}
}

// newest lets a later generation go on from the run's newest checkpoint, should nobody in it know anything of the run.
func (k *kept) newest(c *Config) error {
	if k == nil || k.generation.Number <= 1 || c.Checkpoints == "" {
		return nil
	}
	path, _, err := ckpt.Latest(c.Checkpoints)
	if errors.Is(err, ckpt.ErrNone) {
		return nil
	}
	c.Resume = path
	return err
}

// shot is a worker's state between two steps.
type shot struct {
	Step     int
	Unended  bool // what is due after the step is not done
	Closed   int  // epochs whose books are closed
	Saved    int  // step of the newest checkpoint
	Progress progress
	Last     *EpochInfo
	LastSave string // its folder
	Sliced   bool   // steps use all samples, in slices
	rank     int
	size     int // of the group
	x        []float32
	state    []ckpt.Tensor // without parameters and sample books
	epoch    int           // of the books
	base     *sampleSet
	own      *sampleSet
	gen      uint64
	since    int // the generation's first step
}

// fresh tells whether no step was done in the shot's generation.
func (s *shot) fresh() bool { return s.Step == s.since }

// shoot makes a shot of the run as it is, that shares its memory.
func (r *run) shoot() *shot {
	s := &shot{Step: r.step, Unended: r.unended, Closed: r.closed, Saved: r.saved, Last: r.last, LastSave: r.lastSave, Sliced: r.books.sliced,
		Progress: r.progress(),
		rank:     int(r.g.Rank()), size: r.g.Size(), x: r.w.X, epoch: r.books.epoch, base: r.books.base, own: r.books.own, gen: r.kept.generation.Number, since: r.since}
	for _, p := range r.parts() {
		s.state = append(s.state, ckpt.Prefixed(p.prefix, p.holder.State())...)
	}
	return s
}

// snapshot keeps a copy of the state after a step in which workers talked, unless a step that fails undoes itself. Two are
// kept: workers are at most one exchange apart.
func (r *run) snapshot(ctx context.Context, quiet bool) error {
	if r.kept == nil {
		return nil
	}
	if _, survives := r.strategy.(strategy.Survivor); survives {
		r.outlived()
		return nil
	}
	if r.undo {
		r.kept.shots = nil // of the generation before
		return nil
	}
	if quiet {
		return nil
	}
	if err := r.settle(ctx); err != nil {
		return atStep(r.step, err)
	}
	s := r.shoot()
	keep := r.kept.shots
	if r.step > r.since { // all have come here: two of this generation are enough
		keep = slices.DeleteFunc(keep, func(o *shot) bool { return o.gen != s.gen })
	}
	var old *shot // whose memory is free
	if len(keep) > 1 && r.step > r.since {
		old, keep = keep[1], keep[:1]
	} else {
		old = &shot{own: newSampleSet(r.books.own.n)}
	}
	s.x = append(old.x[:0], s.x...)
	for i := range s.state {
		var room []byte
		if i < len(old.state) {
			room = old.state[i].Data[:0]
		}
		s.state[i].Data = append(room, s.state[i].Data...)
	}
	own := old.own
	own.clear()
	own.add(s.own)
	s.own = own
	r.kept.shots = append([]*shot{s}, keep...)
	return nil
}

// remember keeps what the run has come to when its group ends.
func (r *run) remember() {
	k := r.kept
	if k == nil || !r.held {
		return
	}
	k.began, k.first, k.samples, k.times, k.joined = r.began, r.first, r.samples, r.times, true
	if s, ok := r.strategy.(strategy.Survivor); ok {
		r.bury(s)
		return
	}
	if r.undo {
		k.shots = append([]*shot{r.shoot()}, k.shots...)
		return
	}
	for _, s := range k.shots { // what was done since
		if s.Step == r.step && s.gen == k.generation.Number {
			s.Unended, s.Closed, s.Saved, s.Last, s.LastSave = r.unended, r.closed, r.saved, r.last, r.lastSave
			s.Progress.LossSum, s.Progress.LossOf, s.Progress.Loss = r.lossSum, r.lossOf, r.loss
		}
	}
}

// recall gives this worker the state that its group goes on from: from the memory of its workers, from a checkpoint, or none.
func (r *run) recall(ctx context.Context) error {
	k := r.kept
	if k == nil {
		return r.restore(ctx)
	}
	s, survives := r.strategy.(strategy.Survivor)
	if survives {
		if err := r.revive(ctx, s); err != nil {
			return err
		}
		r.taken()
		return nil
	}
	r.undo = r.undoable()
	me := standing{}
	for _, s := range k.shots {
		me = append(me, stand{s.gen, s.Step, s.fresh(), s.rank, s.size, s.since, s.Unended, s.Saved == s.Step})
	}
	c, err := decide(ctx, r.g, me, func(all []standing) (recollection, error) { return recollect(all, r.undo) })
	if err != nil {
		return err
	}
	if c.Step < 0 {
		err = r.restore(ctx)
	} else {
		err = r.goOn(ctx, c)
	}
	if err != nil {
		return err
	}
	r.taken()
	if !r.undo {
		return r.snapshot(ctx, false)
	}
	return nil
}

// taken notes that the state is what the run has come to.
func (r *run) taken() {
	if k := r.kept; k.joined {
		r.began, r.first, r.samples, r.times = k.began, k.first, k.samples, k.times
	}
	r.held, r.since = true, r.step
}
