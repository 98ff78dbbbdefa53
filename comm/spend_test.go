package comm_test

import (
	"sync"
	"testing"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/commtest"
)

func price(groups []comm.Group) []comm.Group {
	out := make([]comm.Group, len(groups))
	for r, g := range groups {
		out[r] = commtest.Price(g)
	}
	return out
}

// In all algorithms that add each part to the sum once, P ranks spend P-1 additions of the vector, each of two reads and a
// write of four bytes an element; in recursive doubling each rank makes log2 P of them, and in Gather all P-1 and two copies.
func TestSumsSpendTheirAdditions(t *testing.T) {
	const ranks, n = 8, 1000
	tree := comm.NewTree(ranks, ranks)
	add, move := int64(12*n), int64(8*n)
	for a, want := range map[comm.Algorithm]int64{
		comm.Direct:   (ranks - 1) * add,
		comm.Binomial: (ranks - 1) * add,
		comm.Ring:     (ranks - 1) * add,
		comm.Doubling: ranks * 3 * add,
		comm.Gather:   ranks * ((ranks-1)*add + 2*move),
		// Each piece of the sum is copied to its place.
		comm.Torus.Rows(4): (ranks-1)*add + move,
	} {
		spent := map[bool]int64{}
		books := map[bool]comm.Books{}
		for _, empty := range []bool{false, true} {
			groups := price(open(t, ranks))
			ledger := comm.NewLedger()
			each(t, groups, func(g comm.Group) error {
				p := g.(*commtest.Priced)
				if empty {
					g = commtest.Hollow{Priced: p}
				}
				g = comm.Count(g, ledger)
				if comm.IsHollow(g) != empty {
					t.Error("Count says otherwise whether the group is hollow")
				}
				x := make([]float32, n)
				for i := range x {
					x[i] = 1
				}
				if err := comm.AllReduceBy(bg, g, tree, [][]float32{x}, a); err != nil {
					return err
				}
				want := float32(ranks)
				if empty {
					want = 1 // nothing was computed
				}
				if x[0] != want || x[n-1] != want {
					t.Errorf("%v, hollow %v: the sum is %v, expected %v", a, empty, x[0], want)
				}
				return nil
			})
			for _, g := range groups {
				c := g.(*commtest.Priced).Tally
				spent[empty] += c.Bytes.Load()
				if c.FLOPs.Load() != 0 {
					t.Errorf("%v: %d FLOPs", a, c.FLOPs.Load())
				}
			}
			books[empty] = ledger.Totals()
		}
		if spent[false] != want || spent[true] != want {
			t.Errorf("%v: %d bytes were spent, and %d on a hollow group; expected %d", a, spent[false], spent[true], want)
		}
		if b := books[false]; books[true] != b || !b[comm.OpAllReduce].Closes() {
			t.Errorf("%v: the books of a hollow group differ:\n%v%v", a, &b, books[true])
		}
	}
}

// What has no length of its own on the wire fails on a hollow group rather than read it from nowhere.
func TestHollowGroupsSayNothing(t *testing.T) {
	g := commtest.Hollow{Priced: price(open(t, 2))[0].(*commtest.Priced)}
	if _, err := comm.AllGatherBytes(bg, g, nil, nil); err == nil {
		t.Error("AllGatherBytes works")
	}
	if _, err := comm.GatherBytes(bg, g, nil, nil); err == nil {
		t.Error("GatherBytes works")
	}
	sub, err := comm.Sub(g, []comm.Rank{0}, 1)
	if err != nil || !comm.IsHollow(sub) {
		t.Errorf("a subgroup of a hollow group is not hollow, %v", err)
	}
	if a, b := comm.Vector(g, 3), comm.Vector(sub, 3); &a[0] != &b[0] {
		t.Error("vectors of hollow groups do not share memory")
	}
	if a, b := comm.Vector(g.Group, 3), comm.Vector(g.Group, 3); &a[0] == &b[0] {
		t.Error("vectors of other groups share memory")
	}
}

// Workers of one process share the plans of trees of one shape, and make them whenever they ask.
func TestTreesShareTheirPlans(t *testing.T) {
	a, b := comm.NewTree(37, 11), comm.NewTree(37, 11)
	if a != b || a.On(comm.Hosts{0, 4}) != b.On(comm.Hosts{0, 4}) {
		t.Error("two trees of one shape have plans of their own")
	}
	if a == comm.NewTree(38, 11) || a == comm.NewTree(37, 12) || a == a.On(comm.Hosts{0, 4}) || a.On(comm.Hosts{0, 4}) == a.On(comm.Hosts{0, 5}) {
		t.Error("trees of different shapes share a plan")
	}
	hosts := comm.Hosts{0, 4}
	placed := a.On(hosts)
	hosts[1] = 5
	if placed == a.On(hosts) {
		t.Error("a plan changes with the caller's hosts")
	}
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			for n := range 20 {
				tree := comm.NewTree(100+(n+i)%20, 7)
				if len(tree.Merge()) != len(tree.AllParts())-1 || tree.Leaves() != 100+(n+i)%20 {
					t.Errorf("a tree of %d leaves has %d parts and %d additions", tree.Leaves(), len(tree.AllParts()), len(tree.Merge()))
				}
			}
		})
	}
	wg.Wait()
}

// Update spends its additions and, without a function of the caller's, a copy of this rank's chunk.
func TestUpdateSpends(t *testing.T) {
	const ranks, n = 4, 1 << 10
	groups := price(open(t, ranks))
	tree := comm.NewTree(ranks, ranks)
	each(t, groups, func(g comm.Group) error {
		x, part := make([]float32, n), make([]float32, n)
		return comm.Update(bg, g, tree, [][]float32{part}, x, nil) // a nil f copies this rank's chunk of the sum
	})
	for r, g := range groups {
		want := int64(n/ranks) * (12*(ranks-1) + 8)
		if got := g.(*commtest.Priced).Tally.Bytes.Load(); got != want {
			t.Errorf("rank %d spent %d bytes, expected %d", r, got, want)
		}
	}
}
