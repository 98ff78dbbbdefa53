// Package ps is the parameter server: some ranks hold the parameters and the optimizer's state, each a range, and the others,
// the workers, push gradients to them and pull parameters (Li et al., OSDI 2014; Dean et al., NIPS 2012).
//
// The last Servers ranks of a group are servers. What a worker waits for between its push and its next step is the mode: see
// Config.MayStart, which is all of the decision, and Modes. Where pushes are held until those of all workers are there, they
// are merged in the order of the canonical tree and applied once: the bits of an all-reduce. In the other modes each push is
// applied as it comes, and what comes out depends on time.
//
// Whatever the mode, all meet at the ends of epochs and where a checkpoint is due.
package ps

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/optim"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/vec"
)

var (
	tagPush = comm.MakeTag(comm.OpPush, 0)
	tagPull = comm.MakeTag(comm.OpPull, 0)
)

// Strategy is one rank's part: a worker's or a server's.
type Strategy struct {
	cfg    Config
	w      *strategy.Worker
	ranges []span
	server *server // nil on workers
	worker *worker // nil on servers
	origin uint64  // the generation that began from a checkpoint or afresh, and from which all that there is has come
	whole  int     // where pushes are held, on workers: the step that the parameters here are of; -1: none, or not known
	kept   *kept   // nil where the model has no tables
	coded  coded

	updates [1]int64 // of the parameters so far, as all know it at a checkpoint, where pushes are applied one by one
}

// New returns a rank's strategy. c is one that Parse returned.
func New(c Config) *Strategy { return &Strategy{cfg: c, whole: -1} }

var (
	_ strategy.Strategy = (*Strategy)(nil)
	_ strategy.Preparer = (*Strategy)(nil)
	_ strategy.Settler  = (*Strategy)(nil)
	_ strategy.Gatherer = (*Strategy)(nil)
	_ strategy.Teller   = (*Strategy)(nil)
	_ strategy.Serving  = (*Strategy)(nil)
	_ strategy.Keeper   = (*Strategy)(nil)
	_ strategy.Survivor = (*Strategy)(nil)
)

// Config is what New was given.
func (s *Strategy) Config() Config { return s.cfg }

// Servers implements strategy.Serving.
func (s *Strategy) Servers() int { return s.cfg.Servers }

// Loose implements strategy.Serving.
func (s *Strategy) Loose() bool { return s.cfg.Deal || s.cfg.Mode == Backup }

// Served implements strategy.Teller.
func (s *Strategy) Served() *strategy.Served {
	if s.server == nil {
		return nil
	}
	return s.server.report()
}

// String implements strategy.Strategy. How many servers there are, how many copies and how much memory, does not matter to
// a checkpoint.
func (s *Strategy) String() string {
	c := s.cfg
	c.Servers, c.Copies, c.Budget, c.Spill = 0, 0, 0, ""
	return c.String()
}

// pushesPrefix is what the names of what codes of pushes keep begin with.
const pushesPrefix = "pushes/"

// Codec implements reduce.Coder.
func (s *Strategy) Codec() (d time.Duration) {
	if s.coded.pushes != nil {
		d = s.coded.pushes.Codec()
	}
	if s.worker != nil && s.worker.shadow != nil {
		d += s.worker.shadow.Codec()
	}
	return d
}

// State implements ckpt.Stateful. On rank 0 it has the state of rows, too, as it was when Tables was called.
func (s *Strategy) State() []ckpt.Tensor {
	ts := s.own()
	if s.kept != nil {
		ts = append(ts, s.kept.state...)
	}
	return ts
}

func (s *Strategy) own() (ts []ckpt.Tensor) {
	if !s.cfg.Held() {
		ts = append(ts, ckpt.Int64s("updates", nil, s.updates[:]))
	} else if s.coded.view != nil {
		ts = append(ts, ckpt.Float32s("pulled", nil, s.coded.view), ckpt.Int64s("pulled_set", nil, s.coded.viewed[:]))
	}
	if s.coded.pushes != nil {
		ts = append(ts, ckpt.Prefixed(pushesPrefix, s.coded.pushes.State())...)
	}
	return ts
}

// Load implements ckpt.Stateful. The state of rows is put to use by SetTables.
func (s *Strategy) Load(ts []ckpt.Tensor) error {
	if s.kept != nil {
		ts = s.kept.keepState(ts)
	}
	if s.coded.pushes != nil {
		if err := s.coded.pushes.Load(ckpt.Under(pushesPrefix, ts)); err != nil {
			return err
		}
	}
	return ckpt.Restore(ts, s.own())
}

// Prepare implements strategy.Preparer.
func (s *Strategy) Prepare(w *strategy.Worker) (err error) {
	workers := w.Group.Size() - s.cfg.Servers
	if workers < 1 {
		return fmt.Errorf("ps: %d servers in a group of %d ranks leave no worker", s.cfg.Servers, w.Group.Size())
	}
	if err := s.cfg.Fits(workers); err != nil {
		return err
	}
	if err := s.cfg.Outlives(); err != nil && w.Undo {
		return err
	}
	if w.Undo && w.Rules.Lossy() {
		return errors.New("ps: with compressed pushes a run cannot go on when workers or servers are lost: leave out the compressor, or let none be lost")
	}
	s.w = w
	if s.ranges, err = divide(w.Model.Layout(), w.Optimizer, s.cfg.Servers, s.kept != nil); err != nil {
		return err
	}
	if s.coded, err = newCoded(s.cfg, w); err != nil {
		return err
	}
	if i := int(w.Group.Rank()) - workers; i >= 0 {
		s.server = newServer(s.cfg, w, s.ranges[i], &s.coded)
		if err := s.server.keepCopies(s.ranges, s.cfg.copies(w.Undo)); err != nil {
			return err
		}
	} else {
		s.worker = newWorker(s.cfg, w, s.ranges, &s.coded)
	}
	if s.kept != nil {
		return s.prepareTables(w)
	}
	return nil
}

// divide gives each server its range of the frame: about as many elements, in whole cache lines, or where the optimizer needs
// whole segments in those. Where servers have tables, too, few elements may all be the first one's.
func divide(l model.Layout, o optim.Optimizer, servers int, tables bool) ([]span, error) {
	n := head + l.Len()
	ranges := make([]span, servers)
	if tables && n < 2*headFloats*servers {
		for i := range ranges {
			ranges[i] = span{n, n}
		}
		ranges[0].lo = 0
		return ranges, nil
	}
	lo := 0
	for i := range ranges {
		hi := n
		if i < servers-1 {
			hi = n * (i + 1) / servers / headFloats * headFloats
			if !o.Local() {
				if _, ok := o.(optim.Segmented); !ok {
					return nil, fmt.Errorf("ps: the optimizer needs a norm of all parameters, which %d servers do not have: use servers=1", servers)
				}
				hi = border(l, hi-head) + head
			}
		}
		ranges[i] = span{lo, max(lo, hi)}
		lo = ranges[i].hi
	}
	for i, r := range ranges {
		if r.hi-r.lo < headFloats && i > 0 || r.hi == r.lo {
			return nil, fmt.Errorf("ps: %d servers for %d parameters leave server %d with %d of them: use fewer", servers, l.Len(), i, r.hi-r.lo)
		}
	}
	return ranges, nil
}

// border is the segment border that is nearest to an element.
func border(l model.Layout, at int) int {
	best := 0
	for _, s := range l {
		if end := s.Off + s.Len; abs(end-at) < abs(best-at) {
			best = end
		}
	}
	return best
}

func abs(n int) int { return max(n, -n) }

// Step implements strategy.Strategy.
func (s *Strategy) Step(ctx context.Context, w *strategy.Worker) (strategy.Report, error) {
	if s.server != nil {
		return s.server.step(ctx, w, int(s.updates[0]))
	}
	if !s.cfg.Held() {
		return s.worker.step(ctx, w)
	}
	s.whole = w.Step
	rep, err := s.worker.step(ctx, w)
	if err == nil {
		s.whole++
	}
	return rep, err
}

// Settle implements strategy.Settler: all meet.
func (s *Strategy) Settle(ctx context.Context) error {
	if s.server != nil {
		return s.server.settle(ctx)
	}
	return s.worker.settle(ctx, s.w)
}

// Gather implements strategy.Gatherer: each server's part of the optimizer's state, and of EF21's sums, goes to all.
func (s *Strategy) Gather(ctx context.Context, w *strategy.Worker) error {
	if !s.cfg.Held() {
		if s.server != nil {
			s.updates[0] = int64(s.server.version)
		}
		if err := comm.Broadcast(ctx, w.Group, comm.Rank(w.Group.Size()-1), s.own()[0].Data); err != nil {
			return err
		}
	}
	var all [][]float32 // one number a parameter
	if s.coded.pushes != nil && s.coded.pushes.Follows() {
		all = append(all, s.coded.pushes.Sums())
	}
	for _, t := range w.Optimizer.State() {
		if t.Type == ckpt.F32 && t.Len() == len(w.X) {
			all = append(all, vec.Floats(t.Data))
		}
	}
	for _, state := range all {
		for i, r := range s.ranges {
			from := comm.Rank(w.Group.Size() - s.cfg.Servers + i)
			lo, hi := r.flat()
			if err := comm.Broadcast(ctx, w.Group, from, vec.Bytes(state[lo:hi])); err != nil {
				return err
			}
		}
	}
	return nil
}
