package local

import (
	"context"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/reduce"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/vec"
)

// groups are the groups of neighbouring replicas of the method hierarchical that this worker has replicas of: group g of G
// has the leaves data.Slice(g, G, M). Their sums are exact, in the tree over the group's replicas, whoever hosts them:
// groups are for those that are near each other.
type groups struct {
	mine   []group
	counts []int // by leaf, samples since the groups met or all did; nil on a hollow group
}

type group struct {
	lo, hi  int // leaves
	folds   []comm.Fold
	buffers [][]float32
	parts   [][]float32
	red     reduce.Reducer
}

// firstGroup is the id of the first group's comm.Group.
const firstGroup = 0x6c6f0001

func newGroups(w *strategy.Worker, n int) (*groups, error) {
	all := &groups{counts: newCounts(w)}
	from, to := w.Tree.Run(w.Group.Rank())
	for i := range n {
		g := group{}
		g.lo, g.hi = data.Slice(i, n, w.Tree.Leaves())
		if max(from, g.lo) >= min(to, g.hi) {
			continue
		}
		tree, ranks := w.Tree.Within(g.lo, g.hi)
		sub, err := comm.Sub(w.Group, ranks, firstGroup+uint32(i))
		if err != nil {
			return nil, err
		}
		g.folds = tree.Folds(tree.Run(sub.Rank()))
		g.buffers = make([][]float32, comm.Buffers(g.folds))
		for b := range g.buffers {
			g.buffers[b] = comm.Vector(w.Group, len(w.X))
		}
		g.parts = make([][]float32, tree.Vectors(sub.Rank()))
		g.red = &reduce.Exact{Group: sub, Tree: tree}
		all.mine = append(all.mine, g)
	}
	return all, nil
}

// newCounts makes room for samples by leaf: on a hollow group, which may have very many, none.
func newCounts(w *strategy.Worker) []int {
	if comm.IsHollow(w.Group) {
		return nil
	}
	return make([]int, w.Tree.Leaves())
}

// book adds a step's samples by leaf.
func book(counts []int, w *strategy.Worker) {
	for leaf := range counts {
		counts[leaf] += w.Count(leaf)
	}
}

// due tells whether groups meet after this step, since steps after all have met: they do not when all do.
func (g *groups) due(since, k, outer int, last bool) bool {
	return !last && since%k == 0 && since < k*outer
}

// samples is how many the replicas of a group have used since they met; 1 when nobody counts them.
func (g *groups) samples(of group) int {
	if g.counts == nil {
		return 1
	}
	total := 0
	for _, n := range g.counts[of.lo:of.hi] {
		total += n
	}
	return total
}

// meet averages the replicas inside each group.
func (s *Strategy) meet(ctx context.Context, rep *strategy.Report) error {
	clock := s.w.Group.Clock()
	x := s.w.X
	for _, g := range s.groups.mine {
		total := s.groups.samples(g)
		if total == 0 {
			continue
		}
		fold(s.w, g.folds, g.buffers, len(x), func(leaf int, d []float32) {
			leaf += g.lo
			s.w.Pass(len(d), 3, func() { moved(d, s.replicas[leaf-s.firstLeaf].x, x) })
			s.w.Pass(len(d), 2, func() { vec.Scale(float32(s.groups.counts[leaf]), d) })
		})
		copy(g.parts, g.buffers)
		t := clock.Now()
		err := g.red.Sum(ctx, reduce.Vector{Name: s.fragments[0].name, Parts: g.parts, Total: float64(total)})
		rep.Comm += clock.Now() - t
		rep.Wait += clock.Now() - t
		if err != nil {
			return err
		}
		for _, r := range s.replicas {
			if r.leaf >= g.lo && r.leaf < g.hi {
				s.w.Pass(len(x), 2, func() { copy(r.x, x) })
				s.w.Pass(len(x), 3, func() { vec.Axpy(1/float32(total), g.parts[0], r.x) })
			}
		}
	}
	clear(s.groups.counts)
	return nil
}
