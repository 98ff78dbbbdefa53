package ps

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/optim"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/vec"
)

// When ranks are lost, those that are left form another group, in which they may have other roles. Of each range the copy that has
// come furthest is taken. What has been added to it is known by microshard, so nothing is undone and nothing added twice: the run
// goes on from the least that a microshard has done anywhere, and what a range has already it leaves out.
//
// Where pushes are held, all ranges are at one step or some are one ahead. Then the step is done again for those that are behind, at
// the parameters that it was done at: workers keep theirs until all servers have answered.

// standing is what a rank knows of the run.
type standing struct {
	Origin uint64
	Ranges []rangeStanding
	Whole  int // see Strategy.whole

	// Of a worker: the steps of each of its microshards, from First on, whose pushes were acknowledged.
	First, Acked int
	Leaves       int
	Loss         float32 // the mean of the first pushes, for a guard; 0: not known
}

// rangeStanding is how far a range has come that a rank has.
type rangeStanding struct {
	Range   int
	Version int
	tally
}

// Standing implements strategy.Survivor.
func (s *Strategy) Standing() any {
	st := standing{Origin: s.origin, Whole: s.whole}
	if v := s.server; v != nil {
		if st.Whole = -1; !v.begun {
			return st
		}
		st.Ranges = append(st.Ranges, rangeStanding{s.serves(), v.version, v.tally})
		for _, d := range v.duplicates {
			st.Ranges = append(st.Ranges, rangeStanding{d.of, d.version, d.tally})
		}
		return st
	}
	lo, hi := s.w.Tree.Run(s.w.Group.Rank())
	st.First, st.Leaves, st.Acked = lo, hi-lo, s.worker.acked
	st.Loss = s.worker.first
	return st
}

// serves is the number of the range that this server serves.
func (s *Strategy) serves() int { return int(s.w.Group.Rank()) - (s.w.Group.Size() - s.cfg.Servers) }

// copyOf is a copy of a range: on which rank, and in which of its strategies of earlier groups, from the newest.
type copyOf struct {
	rank, before int
	rangeStanding
}

// agreement is what a group goes on from.
type agreement struct {
	origin  uint64
	ranges  []copyOf // by range
	done    []int    // by microshard
	first   float32  // the mean loss of the first pushes, for a guard; 0: not known
	step    int      // the least of them
	regular int
	whole   int // a rank that has the parameters of step, where some ranges are ahead of it and pushes are held; -1: none is needed
}

// errNoCopy says that nobody has a range, or what it takes to bring it to where the others are.
var errNoCopy = errors.New("no copy is left")

// agree decides what to go on from. It is a function of what all say.
func (s *Strategy) agree(all [][]standing) (*agreement, error) {
	a := &agreement{ranges: make([]copyOf, s.cfg.Servers), done: make([]int, s.w.Tree.Leaves()), whole: -1}
	for _, ss := range all {
		for _, st := range ss {
			a.origin, a.first = max(a.origin, st.Origin), max(a.first, st.Loss)
		}
	}
	found := make([]bool, len(a.ranges))
	for rank, ss := range all {
		for before, st := range ss {
			if st.Origin != a.origin {
				continue
			}
			for _, r := range st.Ranges {
				if r.Range < 0 || r.Range >= len(a.ranges) || len(r.Done) != len(a.done) {
					return nil, fmt.Errorf("ps: rank %d has range %d with %d microshards, and there are %d with %d", rank, r.Range, len(r.Done), len(a.ranges), len(a.done))
				}
				if !found[r.Range] || sum(r.Done) > sum(a.ranges[r.Range].Done) {
					a.ranges[r.Range], found[r.Range] = copyOf{rank, before, r}, true
				}
			}
		}
	}
	if slices.Contains(found, false) {
		return nil, errNoCopy
	}
	for leaf := range a.done {
		a.done[leaf] = a.ranges[0].Done[leaf]
		for _, r := range a.ranges {
			a.done[leaf] = min(a.done[leaf], r.Done[leaf])
			a.regular = max(a.regular, r.Done[leaf])
		}
	}
	a.step = slices.Min(a.done)
	for rank, ss := range all { // what cannot be, if this package keeps its word
		for _, st := range ss {
			for leaf := st.First; leaf < st.First+st.Leaves && st.Origin == a.origin && leaf < len(a.done); leaf++ {
				if a.done[leaf] < st.Acked {
					return nil, fmt.Errorf("ps: step %d of microshard %d was acknowledged to rank %d, and no server has it", st.Acked, leaf, rank)
				}
			}
		}
	}
	if !s.cfg.Held() || a.regular == a.step {
		return a, nil
	}
	a.regular = a.step
	for rank, ss := range all {
		if slices.ContainsFunc(ss, func(st standing) bool { return st.Origin == a.origin && st.Whole == a.step }) {
			a.whole = rank
			return a, nil
		}
	}
	return nil, errNoCopy
}

func sum(all []int) (n int) {
	for _, i := range all {
		n += i
	}
	return n
}

// Revive implements strategy.Survivor.
func (s *Strategy) Revive(ctx context.Context, w *strategy.Worker, before []strategy.Strategy, all [][]json.RawMessage) (*strategy.Revived, error) {
	said := make([][]standing, len(all))
	for rank, ss := range all {
		for _, b := range ss {
			var st standing
			if err := json.Unmarshal(b, &st); err != nil {
				return nil, fmt.Errorf("ps: what rank %d knows: %w", rank, err)
			}
			said[rank] = append(said[rank], st)
		}
	}
	s.origin = uint64(w.Generation)
	if !slices.ContainsFunc(said, func(ss []standing) bool { return len(ss) > 0 }) {
		return nil, nil
	}
	a, err := s.agree(said)
	switch {
	case errors.Is(err, errNoCopy):
		return nil, nil
	case err != nil:
		return nil, err
	}
	mine := make([]*Strategy, len(before))
	for i, b := range before {
		mine[i], _ = b.(*Strategy)
	}
	for of := range a.ranges {
		if err := s.take(ctx, a, of, mine, said); err != nil {
			return nil, lost(w, fmt.Errorf("ps: range %d: %w", of, err))
		}
	}
	s.origin = a.origin
	if s.cfg.Held() {
		s.whole = a.step
	}
	s.takeUp(a)
	return &strategy.Revived{Done: a.done, Regular: a.regular, Notes: a.notes(w, said)}, nil
}

// take brings a range where it is needed: the parameters to all, and with the optimizer's state to who is to keep it.
func (s *Strategy) take(ctx context.Context, a *agreement, of int, mine []*Strategy, said [][]standing) error {
	w, c, r := s.w, a.ranges[of], s.ranges[of]
	me := int(w.Group.Rank())
	elements := vec.Bytes(w.Frame[r.lo:r.hi])
	from := c.rank
	if a.whole >= 0 && c.Done[0] > a.step {
		from = a.whole
	}
	if me == from {
		i := c.before
		if from != c.rank {
			i = slices.IndexFunc(said[me], func(st standing) bool { return st.Origin == a.origin && st.Whole == a.step })
		}
		copy(w.Frame[r.lo:r.hi], mine[i].w.Frame[r.lo:r.hi])
	}
	if err := comm.Broadcast(ctx, w.Group, comm.Rank(from), elements); err != nil {
		return err
	}
	parts := r.state(w.Optimizer, len(w.X))
	var have [][]byte
	if me == c.rank {
		have = r.state(mine[c.before].optimizer(of), len(w.X))
	}
	if from != c.rank { // who keeps the range has the next step of it
		parts = append(parts, elements)
		if me == c.rank {
			have = append(have, vec.Bytes(mine[c.before].w.Frame[r.lo:r.hi]))
		}
	}
	if err := s.spread(ctx, of, c.rank, parts, have); err != nil || s.kept == nil {
		return err
	}
	return s.takeRows(ctx, c, of, mine, s.cfg.Held() && c.Done[0] > a.step)
}

// spread gives those who are to keep a range what one rank has of it: have there, and parts where it goes.
func (s *Strategy) spread(ctx context.Context, of, from int, parts, have [][]byte) error {
	w := s.w
	me := int(w.Group.Rank())
	for _, to := range s.keepers(of) {
		for i, p := range parts {
			var err error
			switch {
			case me == from && me == to:
				copy(p, have[i])
			case me == from:
				err = send(ctx, w.Group, comm.Rank(to), tagCopy(0), have[i])
			case me == to:
				_, n, e := w.Group.Recv(ctx, comm.Rank(from), tagCopy(0), p)
				if err = e; e == nil && n != len(p) {
					err = fmt.Errorf("%d bytes of its state came from rank %d, and there are %d", n, from, len(p))
				}
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// keepers are the ranks that are to keep a range, its server first.
func (s *Strategy) keepers(of int) (ranks []int) {
	for _, server := range s.cfg.keepers(of, s.cfg.copies(s.w.Undo)) {
		ranks = append(ranks, s.w.Group.Size()-s.cfg.Servers+server)
	}
	return ranks
}

// optimizer is the one that has the state of a range which this rank had.
func (s *Strategy) optimizer(of int) optim.Optimizer {
	for _, d := range s.server.duplicates {
		if d.of == of && d.seeded {
			return d.w.Optimizer
		}
	}
	return s.w.Optimizer
}

// takeUp takes the role of this rank up from where all are.
func (s *Strategy) takeUp(a *agreement) {
	tree, workers := s.w.Tree, s.w.Group.Size()-s.cfg.Servers
	if s.worker != nil {
		s.worker.again(a.done, a.regular)
		return
	}
	v := s.server
	own := a.ranges[s.serves()]
	v.version, v.begun = own.Version, true
	if v.shelf != nil {
		v.shelf.back = s.cfg.Held() && own.Done[0] > a.step
	}
	v.tally = own.clone()
	for _, d := range v.duplicates {
		d.version = a.ranges[d.of].Version
		d.tally = a.ranges[d.of].clone()
	}
	if v.guard != nil && a.first > 0 {
		v.guard.first, v.guard.seen = float64(a.first), v.guard.workers
	}
	v.first = make([]int, workers)
	for who := range v.first {
		v.first[who] = least(a.done, tree, comm.Rank(who), a.step)
	}
}

// least is how many steps all microshards of a worker have done, or if it has none, all of the run.
func least(done []int, t comm.Tree, who comm.Rank, all int) int {
	lo, hi := t.Run(who)
	if lo == hi {
		return all
	}
	return slices.Min(done[lo:hi])
}

// notes say what there is, for people.
func (a *agreement) notes(w *strategy.Worker, said [][]standing) []string {
	acked, more := 0, 0
	known := make([]int, len(a.done)) // steps acknowledged to a rank that is here
	for _, ss := range said {
		for _, st := range ss {
			for leaf := st.First; leaf < min(st.First+st.Leaves, len(known)); leaf++ {
				known[leaf] = max(known[leaf], st.Acked)
			}
		}
	}
	for leaf, done := range a.done {
		acked, more = acked+min(known[leaf], done), more+max(0, done-known[leaf])
	}
	return []string{fmt.Sprintf("of all microshards together %d steps were acknowledged to workers that are here, and are in the parameters; so are %d more", acked, more)}
}
