package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/optim"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/vec"
)

// Run trains on one worker; every rank of g calls it with the same Config (Dir, Events and Stop may differ). It returns
// the same report on every rank. When the context ends, or a worker is lost, it returns an error that says so: a
// *comm.PeerError names the rank, the operation and the step.
func Run(ctx context.Context, g comm.Group, c Config) (_ *Report, err error) {
	r, err := start(ctx, g, c)
	if err != nil {
		return nil, err
	}
	defer r.metrics.close()
	defer r.closeTables()
	defer r.feed.stop()
	defer func() { r.endSaves(ctx, err) }()
	defer r.giveUp(ctx)
	defer r.remember()
	for said := (strategy.Report{}); ; {
		if r.unended {
			if err := r.endStep(ctx, said); err != nil {
				return nil, err
			}
		}
		if r.kept == nil && errors.Is(r.saveErr, ErrOvertaken) { // else its group tells it, and it may come back to the others
			return nil, r.saveErr
		}
		if said.Stop || said.Done || r.step == r.total {
			report, err := r.report(ctx)
			if err == nil {
				report.Ended = said.Why
			}
			if err == nil && said.Stop && !said.Done && r.step < r.total {
				err = ErrStopped
			}
			return report, err
		}
		if said, err = r.next(ctx); err != nil {
			return nil, err
		}
	}
}

// endStep does what is due after a step: it closes the epoch, and saves.
func (r *run) endStep(ctx context.Context, said strategy.Report) error {
	r.tellSaved()
	regroup := false
	if said.Stop && !said.Done && r.step < r.total && r.kept != nil {
		err := r.settle(ctx)
		if err == nil {
			regroup, err = r.regroups(ctx)
		}
		if err != nil {
			return atStep(r.step, err)
		}
	}
	last := said.Stop && !regroup || said.Done || r.step == r.total
	if r.used == 0 || last || r.saveDue() {
		if err := r.settle(ctx); err != nil {
			return atStep(r.step, err)
		}
	}
	if r.closed < r.epoch || last && !said.Stop {
		if err := r.endEpoch(ctx, last || !r.c.TestAtSaves || r.saveDue()); err != nil {
			return err
		}
	}
	if last || r.saveDue() {
		if err := r.save(ctx, last); err != nil {
			return err
		}
	}
	r.unended = false
	if regroup {
		return ErrRegroup
	}
	return nil
}

// run is the state of Run between steps.
type run struct {
	c        Config
	g        comm.Group
	ledger   *comm.Ledger
	faulty   comm.Faulty // or nil
	w        *strategy.Worker
	strategy strategy.Strategy
	keeper   strategy.Keeper // r.strategy, or nil
	schedule *optim.Schedule
	sampler  batches
	pace     Pace
	feed     *feed
	books    *sampleBooks
	metrics  *metrics
	fence    *fence            // of the run folder; nil: it writes none
	others   map[string]*other // reducers beside w.Reducer, by name

	step     int // steps done
	total    int
	epoch    int // epochs done
	used     int // samples used of the epoch under way
	began    time.Duration
	first    int // steps done when this process started
	samples  int // samples used since
	times    strategy.Times
	lossSum  float64 // over those steps of this epoch whose loss is known
	lossOf   int     // how many these are
	rounds   int     // exchanges so far, of a strategy that counts them
	loss     float64 // of the last epoch that ended
	last     *EpochInfo
	writer   *ckpt.Writer
	underWay bool     // one may be under way, at any worker
	saved    int      // step of the newest checkpoint, written or about to be; -1 when there is none
	lastSave string   // folder of the newest that is written
	saveErr  error    // why the last one could not be written
	notes    []string // of the state that it goes on from

	size    int   // parameters, of tables, too
	workers int   // ranks that compute gradients: all but the servers
	closed  int   // epochs whose books are closed
	unended bool  // what is due after the last step is not done yet
	held    bool  // its state is what the run has come to
	kept    *kept // what outlives this group; nil: nothing does
	undo    bool  // a step that fails leaves everything as it was
	since   int   // the group's first step
	regular int   // and the one from which on all microshards are asked for; see strategy.Revived
}

// start checks the configuration, meets the other workers and makes or loads the state.
func start(ctx context.Context, g comm.Group, c Config) (_ *run, err error) {
	if err := c.fill(g.Size()); err != nil {
		return nil, err
	}
	if g.Rank() != 0 {
		c.Dir, c.Checkpoints, c.Resume = "", "", "" // rank 0's to write and to read
	}
	if err := c.kept.newest(&c); err != nil {
		return nil, err
	}
	r := &run{c: c, ledger: comm.NewLedger(), saved: -1, kept: c.kept}
	if r.kept != nil {
		r.ledger = r.kept.ledger
	}
	costs, err := c.costs(comm.CostsOf(g))
	if err != nil {
		return nil, err
	}
	r.g = comm.CountAt(g, r.ledger, costs)
	r.faulty, _ = g.(comm.Faulty)
	if r.sampler, err = c.batches(); err != nil {
		return nil, err
	}
	r.measure()
	if r.schedule, err = c.schedule(r.total); err != nil {
		return nil, err
	}
	servers := c.servers()
	r.workers = g.Size() - servers
	r.pace = c.pace(r.workers)
	tree := comm.NewTree(c.Microshards, r.workers).Spare(servers).On(c.Hosts)
	r.books = newSampleBooks(c.Train.Len())
	defer func() {
		if err != nil {
			r.closeTables()
		}
	}()
	if err := r.equip(tree); err != nil {
		return nil, err
	}
	last, err := lastWriter(c.Dir)
	if err != nil {
		return nil, err
	}
	if err := r.agree(ctx); err != nil {
		return nil, err
	}
	if !comm.IsHollow(r.g) {
		r.c.Model.Init(r.w.X, c.Seed)
	}
	r.began, r.first = r.g.Clock().Now(), -1
	if err := r.recall(ctx); err != nil {
		return nil, err
	}
	r.rescale()
	if err := r.openFolder(last); err != nil {
		return nil, err
	}
	r.handOut(tree)
	r.w.Slice = r.slices(tree)
	if r.first < 0 {
		r.first = r.step
	}
	r.announce()
	return r, nil
}

// equip makes the worker that the strategy works with.
func (r *run) equip(tree comm.Tree) (err error) {
	c := &r.c
	r.strategy = c.Strategy()
	r.size = c.Model.Layout().Len()
	if r.keeper, err = c.keep(r.strategy); err != nil {
		return err
	}
	r.w = &strategy.Worker{
		Group: r.g, Tree: tree, Model: c.Model, Bucket: c.bucket(comm.CostsOf(r.g), tree), Total: c.Train.Len(), Shard: !c.Replicate, Undo: c.kept != nil,
	}
	r.w.Seed = c.Seed
	if r.w.Reducer, err = r.reducer(tree, ""); err != nil {
		return err
	}
	if c.kept != nil {
		r.w.Generation = uint32(c.kept.generation.Number)
	}
	r.w.Another = r.another
	r.w.Frame, r.w.X = strategy.Frame(r.g, c.Model.Layout().Len())
	r.w.NewOptimizer = r.optimizer
	if r.w.Optimizer, err = r.optimizer(); err != nil {
		return err
	}
	r.w.Shares = r.sampler.Share
	if r.faulty != nil {
		r.w.Spoil = r.faulty.Spoil
	}
	if s, ok := r.strategy.(strategy.Preparer); ok {
		if err := s.Prepare(r.w); err != nil {
			return &ConfigError{Key: "strategy", Err: err}
		}
	}
	return nil
}

// next does one step.
func (r *run) next(ctx context.Context) (strategy.Report, error) {
	batch := r.sampler.Size(r.step)
	r.feed.begin(ctx, r.step)
	r.begin(batch)
	said, err := r.strategy.Step(ctx, r.w)
	if err != nil {
		return said, atStep(r.step+1, r.diverged(err))
	}
	if math.IsNaN(said.Loss) || math.IsInf(said.Loss, 0) { // in a quiet step this worker's own, which would be everybody's
		return said, r.divergedAt(r.step+1, said.Loss)
	}
	if !said.Unused {
		r.books.commit(r.epoch)
	}
	r.step++
	r.samples += batch
	r.unended = true
	said.Codec = r.codec()
	r.times.Add(said.Times)
	if said.Unmeasured {
		m, err := r.evaluate(ctx, r.c.Train)
		if err != nil {
			return said, err
		}
		said.Loss = m.Loss / float64(m.N)
	}
	if !said.Quiet {
		n := max(1, said.Steps)
		r.lossSum += float64(said.Loss * float64(n))
		r.lossOf += n
		r.rounds = said.Round
	}
	info := StepInfo{Step: r.step, Epoch: r.epoch + 1, Samples: batch, Loss: said.Loss, Quiet: said.Quiet, Round: said.Round,
		Rate: float64(r.w.Rate), Solving: said.Solving, Decided: said.Decided, At: r.g.Clock().Now() - r.began, Times: said.Times}
	_, info.Books = r.ledger.Take()
	if r.c.Events.Step != nil {
		r.c.Events.Step(info)
	}
	r.metrics.step(info)
	r.epoch, r.used = r.sampler.At(r.step)
	return said, r.snapshot(ctx, said.Quiet)
}

// begin tells the worker, the books and the group which step comes, of so many samples.
func (r *run) begin(batch int) {
	r.w.Step, r.w.Samples, r.w.Rate = r.step, batch, r.rate()
	r.books.drop()
	r.w.Stop = r.c.Stop != nil && r.c.Stop() || r.c.Regroup != nil && r.c.Regroup()
	r.w.Last = r.step+1 == r.total
	r.ledger.SetStep(r.step + 1)
	if r.faulty != nil {
		r.faulty.Begin(r.step + 1)
	}
}

// settle waits until no exchange of the strategy is under way, so that the group is free.
func (r *run) settle(ctx context.Context) error {
	if s, ok := r.strategy.(strategy.Settler); ok {
		return s.Settle(ctx)
	}
	return nil
}

// giveUp ends an exchange that is still under way when the run ends.
func (r *run) giveUp(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	r.settle(ctx)
}

// atStep says at which step err came about, unless it does so itself.
func atStep(step int, err error) error {
	var peer *comm.PeerError
	if errors.As(err, &peer) {
		return err
	}
	return fmt.Errorf("step %d: %w", step, err)
}

// optimizer makes a worker's, or another one. On a hollow group, where none is ever applied, all workers of this process have
// the same.
func (r *run) optimizer() (o optim.Optimizer, err error) {
	s := r.c.shared
	if s == nil || !comm.IsHollow(r.g) {
		return r.c.optimizer()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.optimizer == nil {
		if o, err = r.c.optimizer(); err != nil {
			return nil, err
		}
		s.optimizer = idle{o}
	}
	return s.optimizer, nil
}

// idle is an optimizer that is never applied, so that many workers can have it at the same time.
type idle struct{ optim.Optimizer }

func (idle) Begin(int, float32) {}

// Bytes implements optim.Costed.
func (o idle) Bytes() int { return optim.BytesOf(o.Optimizer) }

// handOut makes the feed and the worker's Microshard, which books what it hands out.
func (r *run) handOut(tree comm.Tree) {
	lo, hi := tree.Run(r.g.Rank())
	r.feed = &feed{ds: r.c.Train, sampler: r.sampler, seed: r.c.Seed, step: r.step, last: r.total,
		ahead: r.c.Ahead, regular: r.regular, clock: r.g.Clock(), hollow: comm.IsHollow(r.g), dim: data.Shape(r.c.Train).Dim}
	r.w.Counts = func(leaf int) int { return r.sampler.Count(r.step, leaf) }
	if s, ok := r.strategy.(strategy.Serving); ok && s.Loose() {
		r.feed.loose, r.feed.ahead = true, false
		lo, hi = 0, tree.Leaves()
	}
	r.w.Microshard = func(leaf int) (*data.Batch, error) {
		if leaf < lo || leaf >= hi {
			return nil, fmt.Errorf("train: microshard %d was asked for; this worker has %d to %d", leaf, lo, hi-1)
		}
		b, err := r.feed.take(leaf)
		if err == nil {
			r.books.use(b.ID)
		}
		return b, err
	}
}

// slices returns the worker's Slice.
func (r *run) slices(tree comm.Tree) func(leaf int) (*data.Batch, error) {
	lo, hi := tree.Run(r.g.Rank())
	var batches []*data.Batch
	return func(leaf int) (*data.Batch, error) {
		if leaf < lo || leaf >= hi {
			return nil, fmt.Errorf("train: microshard %d was asked for; this worker has %d to %d", leaf, lo, hi-1)
		}
		from, to := data.Slice(leaf, r.c.Microshards, r.c.Train.Len())
		if batches == nil {
			batches = make([]*data.Batch, hi-lo)
		}
		if batches[leaf-lo] == nil {
			batches[leaf-lo] = new(data.Batch)
			data.View(r.c.Train, batches[leaf-lo], from, to)
		}
		r.books.useRun(from, to)
		return batches[leaf-lo], nil
	}
}

func (r *run) saveDue() bool {
	if r.c.SaveEvery > 0 {
		return r.step%r.c.SaveEvery == 0
	}
	return r.used == 0
}

// endEpoch closes the sample books of the epoch and tests the model.
func (r *run) endEpoch(ctx context.Context, test bool) error {
	info := EpochInfo{Epoch: r.epoch, Step: r.step, Loss: r.loss, Quiet: r.lossOf == 0}
	if r.lossOf > 0 {
		info.Loss = r.lossSum / float64(r.lossOf)
	}
	whole := r.used == 0
	if !whole {
		info.Epoch++
	}
	exactly, missing, repeated, err := r.audit(ctx)
	if err != nil {
		return err
	}
	info.Unbooked = comm.IsHollow(r.g)
	if whole {
		info.Exactly, info.Missing, info.Repeated = exactly, missing, repeated
	}
	r.loss = info.Loss
	if test && r.c.Test != nil {
		if info.Test, err = r.evaluate(ctx, r.c.Test); err != nil {
			return err
		}
		if data.Shape(r.c.Train).Task == data.Classification {
			acc := float64(info.Test.Correct) / float64(info.Test.N)
			info.Accuracy = &acc
		}
	}
	info.At, info.Books = r.g.Clock().Now()-r.began, r.ledger.Totals()
	r.last = &info
	if whole {
		r.closed = r.epoch
		r.lossSum, r.lossOf = 0, 0
	}
	if r.c.Events.Epoch != nil {
		r.c.Events.Epoch(info)
	}
	r.metrics.epoch(info)
	return nil
}

// audit brings the sample books of all to rank 0, which checks them and tells everybody what it found.
func (r *run) audit(ctx context.Context) (exactly bool, missing, repeated []int, err error) {
	if comm.IsHollow(r.g) { // samples are not handed out
		return false, nil, nil, nil
	}
	now := r.books.own.clone()
	if err := r.gatherBooks(ctx, now); err != nil {
		return false, nil, nil, err
	}
	var found struct {
		Exactly           bool
		Missing, Repeated []int
	}
	if r.g.Rank() == 0 {
		r.books.collect(now)
		found.Exactly, found.Missing, found.Repeated = r.books.all.audit()
	}
	found, err = tell(ctx, r.g, found, nil)
	return found.Exactly, found.Missing, found.Repeated, err
}

// gatherBooks adds to what a worker used what those below it in the tree did: on rank 0, all.
func (r *run) gatherBooks(ctx context.Context, now *sampleSet) error {
	if alone(r.g) {
		return nil
	}
	_, err := comm.GatherBytes(ctx, r.g, now.encode(), func(_, came []byte) ([]byte, error) {
		err := now.merge(came)
		return now.encode(), err
	})
	return err
}

// finite tells whether the parameters are numbers that a checkpoint may hold.
func (r *run) finite() error {
	if comm.IsHollow(r.g) {
		return nil
	}
	c, ok := r.strategy.(strategy.Checker)
	if vec.Finite(r.w.X) && (!ok || c.Finite()) {
		return nil
	}
	return r.divergedAt(r.step, math.NaN())
}
