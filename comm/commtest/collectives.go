package commtest

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/vec"
)

// algorithms are all but auto, those with a parameter at several.
var algorithms = []comm.Algorithm{comm.Direct, comm.Doubling, comm.Gather, comm.Binomial, comm.Ring, comm.Torus, comm.Torus.Rows(2),
	comm.Torus.Rows(3), comm.Hierarchical, comm.Hierarchical.Hosts(2), comm.Hierarchical.Hosts(3)}

// algorithms are all that the transport's groups can run.
func (x *exam) algorithms() []comm.Algorithm {
	if x.o.Shared {
		return append(slices.Clone(algorithms), comm.Shared)
	}
	return algorithms
}

// input is the value of element e at leaf i of a sum of vectors of n elements.
type input func(i, e, n int) float32

// rough values add to other bits in another order: their exponents and signs vary.
func rough(i, e, n int) float32 {
	h := uint32(i*n+e)*2654435761 + 12345
	h ^= h >> 15
	h *= 2246822519
	h ^= h >> 13
	return math.Float32frombits(h&0x807fffff | (120+h>>23&15)<<23)
}

// numbered values are all different integers, and their sum over all leaves is a formula, exact in any order.
func numbered(i, e, n int) float32 { return float32(i*n + e + 1) }

func numberedSum(leaves, e, n int) float32 {
	return float32(n*leaves*(leaves-1)/2 + leaves*(e+1))
}

// naive is the canonical sum as DESIGN words it: neighbours, then neighbours of neighbours, the odd one moves up.
func naive(in input, leaves, e, n int) float32 {
	level := make([]float32, leaves)
	for i := range level {
		level[i] = in(i, e, n)
	}
	for len(level) > 1 {
		var up []float32
		for i := 0; i+1 < len(level); i += 2 {
			up = append(up, level[i]+level[i+1])
		}
		if len(level)%2 == 1 {
			up = append(up, level[len(level)-1])
		}
		level = up
	}
	return level[0]
}

// parts computes a rank's leaves and folds them, as a worker does.
func parts(t comm.Tree, r comm.Rank, in input, n int) [][]float32 {
	lo, hi := t.Run(r)
	steps := t.Folds(lo, hi)
	bufs := make([][]float32, max(comm.Buffers(steps), 1))
	for b := range bufs {
		bufs[b] = slices.Repeat([]float32{float32(math.NaN())}, n)
	}
	for _, s := range steps {
		if s.Leaf < 0 {
			vec.Add(bufs[s.Dst], bufs[s.Src])
			continue
		}
		for e := range n {
			bufs[s.Dst][e] = in(s.Leaf, e, n)
		}
	}
	return bufs[:t.Vectors(r)]
}

// equal says where got differs, in bits, from want.
func equal(got []float32, want func(e int) float32) error {
	for e, g := range got {
		if w := want(e); math.Float32bits(g) != math.Float32bits(w) {
			return fmt.Errorf("element %d of %d is %v (%#x), not %v (%#x)", e, len(got), g, math.Float32bits(g), w, math.Float32bits(w))
		}
	}
	return nil
}

// counted wraps every view in a ledger.
func counted(groups []comm.Group) ([]comm.Group, []*comm.Ledger) {
	wrapped, books := make([]comm.Group, len(groups)), make([]*comm.Ledger, len(groups))
	for r, g := range groups {
		books[r] = comm.NewLedger()
		wrapped[r] = comm.Count(g, books[r])
	}
	return wrapped, books
}

// closes checks that everything in the books since the last time was sent by op, as announced.
func closes(l *comm.Ledger, op comm.Op) error {
	_, b := l.Take()
	if e := b[op]; e != b.Sum() || !e.Closes() || e.Control != 0 {
		return fmt.Errorf("after %v the books say:\n%s", op, b.String())
	}
	return nil
}

// leafCounts are the numbers of leaves that n ranks are tried with: fewer, as many, and uneven and even more.
func leafCounts(n int) []int {
	m := []int{1, n, 2 * n, 3*n + 1, 12, 16}
	if n > 2 {
		m = append(m, n-1)
	}
	slices.Sort(m)
	return slices.Compact(m)
}

// layouts are ways that n ranks may lie on hosts: one each, one more on the first than on the second, all but one on the
// first, and of 1, 2, 3 ... ranks.
func layouts(n int) []comm.Hosts {
	all := []comm.Hosts{comm.EvenHosts(n, n)}
	if n > 2 {
		all = append(all, comm.Hosts{0, comm.Rank(n/2 + 1)}, comm.Hosts{0, comm.Rank(n - 1)})
	}
	var grow comm.Hosts
	for first, size := 0, 1; first < n; first, size = first+size, size+1 {
		grow = append(grow, comm.Rank(first))
	}
	return append(all, grow)
}

// collectives asks all of them at one size.
func (x *exam) collectives(t *testing.T, n int) {
	g := x.group(t, n, patience)
	c, books := counted(g)
	lengths := []int{0, 1, 2, 17, 1001}
	lengths = lengths[:len(lengths):len(lengths)] // what is appended stays apart
	t.Run("AllReduce", func(t *testing.T) {
		for _, m := range leafCounts(n) {
			tree := comm.NewTree(m, n)
			for _, alg := range append([]comm.Algorithm{comm.Auto}, x.algorithms()...) {
				if !alg.Fits(tree) {
					continue
				}
				for _, length := range lengths {
					x.allReduce(t, c, books, tree, alg, length)
				}
			}
		}
	})
	t.Run("AllReduce64", func(t *testing.T) {
		for _, m := range leafCounts(n) {
			for _, length := range append(lengths, 5000) {
				allReduce64(t, c, books, comm.NewTree(m, n), length)
			}
		}
	})
	t.Run("Hosts", func(t *testing.T) {
		for _, hosts := range layouts(n) {
			for _, m := range leafCounts(n) {
				tree := comm.NewTree(m, n).On(hosts)
				for _, alg := range []comm.Algorithm{comm.Auto, comm.Hierarchical} {
					for _, length := range []int{1, 17, 1001} {
						x.allReduce(t, c, books, tree, alg, length)
					}
				}
			}
		}
	})
	t.Run("Large", func(t *testing.T) {
		tree := comm.NewTree(n, n)
		for _, alg := range x.algorithms() {
			if alg.Fits(tree) {
				x.allReduce(t, c, books, tree, alg, 70001)
			}
		}
	})
	t.Run("Update", func(t *testing.T) {
		for _, m := range leafCounts(n) {
			for _, length := range lengths {
				x.update(t, c, books, comm.NewTree(m, n), length)
			}
		}
		// Chunks of several segments, more than a rank asks for at a time, and of which some have one more than others.
		if n <= 5 {
			x.update(t, c, books, comm.NewTree(n, n), n*comm.SegmentBytes/4+1)
		}
		if n <= 3 {
			x.update(t, c, books, comm.NewTree(n+1, n), n*9*comm.SegmentBytes/4-1)
		}
	})
	t.Run("ReduceScatter", func(t *testing.T) {
		for _, m := range leafCounts(n) {
			tree := comm.NewTree(m, n)
			long := n*2*comm.SegmentBytes/4 + n/2
			if n > 3 || m > n {
				long = 7001
			}
			for _, length := range append(lengths, long) {
				each(t, c, func(g comm.Group) error {
					p := parts(tree, g.Rank(), rough, length)
					if err := comm.ReduceScatter(bg, g, tree, p); err != nil {
						return err
					}
					lo, hi := comm.Chunk(length, n, g.Rank())
					if err := equal(p[0][lo:hi], func(e int) float32 { return naive(rough, m, lo+e, length) }); err != nil {
						return fmt.Errorf("%d leaves, %d elements from %d: %w", m, length, lo, err)
					}
					return closes(books[g.Rank()], comm.OpReduceScatter)
				})
			}
		}
	})
	t.Run("AllGather", func(t *testing.T) {
		for _, length := range append(lengths, 70001) {
			each(t, c, func(g comm.Group) error {
				x := make([]float32, length)
				lo, hi := comm.Chunk(length, n, g.Rank())
				for e := lo; e < hi; e++ {
					x[e] = rough(1, e, length)
				}
				if err := comm.AllGather(bg, g, x); err != nil {
					return err
				}
				if err := equal(x, func(e int) float32 { return rough(1, e, length) }); err != nil {
					return err
				}
				return closes(books[g.Rank()], comm.OpAllGather)
			})
		}
	})
	t.Run("AllGatherBytes", func(t *testing.T) {
		for round, size := range []func(r int) int{
			func(int) int { return 0 }, func(r int) int { return r }, func(r int) int { return 1000 * (r % 3) },
			func(r int) int { return comm.EagerBytes * (1 - r%2) },
		} {
			each(t, c, func(g comm.Group) error {
				var out [][]byte
				for range 2 { // the second time with what the first returned
					var err error
					if out, err = comm.AllGatherBytes(bg, g, fill(size(int(g.Rank())), uint64(round)<<8|uint64(g.Rank())), out); err != nil {
						return err
					}
					for r, p := range out {
						if err := same(p, size(r), uint64(round)<<8|uint64(r)); err != nil {
							return fmt.Errorf("from rank %d: %w", r, err)
						}
					}
				}
				return closes(books[g.Rank()], comm.OpAllGather)
			})
		}
	})
	t.Run("GatherBytes", func(t *testing.T) { x.gatherBytes(t, c, books) })
	t.Run("Broadcast", func(t *testing.T) {
		for root := range comm.Rank(n) {
			for _, size := range []int{0, 1, 1001, comm.EagerBytes + 5} {
				each(t, c, func(g comm.Group) error {
					p := make([]byte, size)
					if g.Rank() == root {
						p = fill(size, uint64(root))
					}
					if err := comm.Broadcast(bg, g, root, p); err != nil {
						return err
					}
					if err := same(p, size, uint64(root)); err != nil {
						return fmt.Errorf("from %d: %w", root, err)
					}
					return closes(books[g.Rank()], comm.OpBroadcast)
				})
			}
		}
	})
	t.Run("AllToAll", func(t *testing.T) {
		size := func(from, to int) int { return (from*31 + to*17) % 5 * 7001 }
		each(t, c, func(g comm.Group) error {
			me := int(g.Rank())
			send, recv := make([][]byte, n), make([][]byte, n)
			for r := range n {
				send[r], recv[r] = fill(size(me, r), uint64(me)<<8|uint64(r)), make([]byte, size(r, me))
			}
			if err := comm.AllToAll(bg, g, send, recv); err != nil {
				return err
			}
			for r, p := range recv {
				if err := same(p, size(r, me), uint64(r)<<8|uint64(me)); err != nil {
					return fmt.Errorf("from %d: %w", r, err)
				}
			}
			return closes(books[me], comm.OpAllToAll)
		})
	})
	t.Run("UpTo", func(t *testing.T) { x.upTo(t, c, books) })
	t.Run("Barrier", func(t *testing.T) {
		var came atomic.Int64
		each(t, c, func(g comm.Group) error {
			for round := range int64(20) {
				came.Add(1)
				if err := comm.Barrier(bg, g); err != nil {
					return err
				}
				if got := came.Load(); got < (round+1)*int64(n) {
					return fmt.Errorf("round %d: left when %d of %d had come", round, got, (round+1)*int64(n))
				}
				if err := comm.Barrier(bg, g); err != nil {
					return err
				}
			}
			return closes(books[g.Rank()], comm.OpBarrier)
		})
	})
	if n > 1 {
		t.Run("Sub", func(t *testing.T) { x.sub(t, c, books) })
	}
}

// allReduce checks one sum of values whose order matters and one of which the result is a formula.
func (x *exam) allReduce(t *testing.T, groups []comm.Group, books []*comm.Ledger, tree comm.Tree, alg comm.Algorithm, n int) {
	t.Helper()
	want := make([]float32, n)
	for e := range want {
		want[e] = naive(rough, tree.Leaves(), e, n)
	}
	each(t, groups, func(g comm.Group) error {
		about := func(err error) error {
			return fmt.Errorf("%v of %d elements over %d leaves: %w", alg, n, tree.Leaves(), err)
		}
		if alg.Canonical() {
			p := parts(tree, g.Rank(), rough, n)
			if err := comm.AllReduceBy(bg, g, tree, p, alg); err != nil {
				return about(err)
			}
			if err := equal(p[0], func(e int) float32 { return want[e] }); err != nil {
				return about(err)
			}
		}
		if n*tree.Leaves()*tree.Leaves() < 1<<24 { // integers that a float32 holds
			p := parts(tree, g.Rank(), numbered, n)
			if err := comm.AllReduceBy(bg, g, tree, p, alg); err != nil {
				return about(err)
			}
			if err := equal(p[0], func(e int) float32 { return numberedSum(tree.Leaves(), e, n) }); err != nil {
				return about(err)
			}
		}
		if err := closes(books[g.Rank()], comm.OpAllReduce); err != nil {
			return about(err)
		}
		return nil
	})
}

// update checks sums whose halves of the work, the pieces, are as they must be, into another vector and into the parts
// themselves; and that it books what its bill says.
func (x *exam) update(t *testing.T, groups []comm.Group, books []*comm.Ledger, tree comm.Tree, n int) {
	t.Helper()
	sum := make([]float32, n)
	for e := range sum {
		sum[e] = naive(rough, tree.Leaves(), e, n)
	}
	by := comm.Direct
	if x.o.Shared {
		by = comm.Shared
	}
	each(t, groups, func(g comm.Group) error {
		for _, how := range []string{"apart", "in place", "in place, no f", "apart, no f"} {
			p := parts(tree, g.Rank(), rough, n)
			x := p[0]
			if how[0] == 'a' {
				x = slices.Repeat([]float32{-1}, n)
			}
			lo, hi := comm.Chunk(n, g.Size(), g.Rank())
			next := lo
			want := func(e int) float32 { return sum[e] - float32(e%7) }
			f := func(a, b int) {
				if a != next || b <= a || b > hi {
					t.Errorf("rank %d of %d, %d elements: f is given [%d, %d) where [%d, ...%d) comes next", g.Rank(), g.Size(), n, a, b, next, hi)
				}
				for e := a; e < b; e++ {
					x[e] = p[0][e] - float32(e%7)
				}
				next = b
			}
			if strings.HasSuffix(how, "no f") {
				want, next, f = func(e int) float32 { return sum[e] }, hi, nil
			}
			about := func(err error) error {
				return fmt.Errorf("update %s of %d elements over %d leaves: %w", how, n, tree.Leaves(), err)
			}
			if err := comm.Update(bg, g, tree, p, x, f); err != nil {
				return about(err)
			}
			if next != hi {
				return about(fmt.Errorf("f was given what is before %d of [%d, %d)", next, lo, hi))
			}
			if err := equal(x, want); err != nil {
				return about(err)
			}
			_, b := books[g.Rank()].Take()
			e, bill := b[comm.OpAllReduce], comm.UpdateBill(by, tree, g.Rank(), n)
			if e != b.Sum() || !e.Closes() || e.Messages != bill.Messages() || e.Payload != bill.Payload() {
				return about(fmt.Errorf("the books say:\n%s", b.String()))
			}
		}
		return nil
	})
}

// sub: subgroups work beside each other and inside each other, and count on their group's ledger.
func (x *exam) sub(t *testing.T, groups []comm.Group, books []*comm.Ledger) {
	n := len(groups)
	var sides [2][]comm.Rank // odd ranks, and even ones backwards
	for r := range comm.Rank(n) {
		if r%2 == 1 {
			sides[1] = append(sides[1], r)
		} else {
			sides[0] = slices.Insert(sides[0], 0, r)
		}
	}
	each(t, groups, func(g comm.Group) error {
		side := sides[g.Rank()%2]
		s, err := comm.Sub(g, side, uint32(1+g.Rank()%2))
		if err != nil {
			return err
		}
		if s.Size() != len(side) || side[s.Rank()] != g.Rank() {
			return fmt.Errorf("rank %d of %d in %v", s.Rank(), s.Size(), side)
		}
		tree := comm.NewTree(2*s.Size()+1, s.Size())
		p := parts(tree, s.Rank(), rough, 100)
		if err := comm.AllReduce(bg, s, tree, p); err != nil {
			return err
		}
		if err := equal(p[0], func(e int) float32 { return naive(rough, tree.Leaves(), e, 100) }); err != nil {
			return err
		}
		if err := closes(books[g.Rank()], comm.OpAllReduce); err != nil {
			return err
		}
		// From anybody, but only of this subgroup: both sides use the same tag.
		last := comm.Rank(s.Size() - 1)
		if s.Rank() == last {
			for range last {
				from, k, err := s.Recv(bg, comm.AnyRank, tag(30), make([]byte, 4))
				if err != nil || from >= last || k != 4 {
					return fmt.Errorf("from %d: %d bytes, %v", from, k, err)
				}
			}
		} else if err := s.Send(bg, last, tag(30), number(int(g.Rank()))); err != nil {
			return err
		}
		if s.Size() > 1 && s.Rank() < 2 { // the first two of each side, one level further in
			in, err := comm.Sub(s, []comm.Rank{1, 0}, uint32(3+g.Rank()%2))
			if err != nil {
				return err
			}
			p := []byte{byte(g.Rank())}
			if err := comm.Broadcast(bg, in, 1, p); err != nil {
				return err
			}
			if comm.Rank(p[0]) != side[0] {
				return fmt.Errorf("inner broadcast gave %d, not %d", p[0], side[0])
			}
		}
		books[g.Rank()].Take()
		return comm.Barrier(bg, g)
	})
	for _, l := range books {
		l.Take()
	}
}
