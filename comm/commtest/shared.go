package commtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
)

// places are where rank r's vectors of n elements may lie: what Alloc gives, parts of it that begin anywhere, the heap,
// and each of these on other ranks.
var places = []struct {
	name string
	make func(g comm.Group, n int) []float32
}{
	{"alloc", comm.Alloc},
	{"alloc, unaligned", func(g comm.Group, n int) []float32 { return comm.Alloc(g, n+5)[1+int(g.Rank())%3:][:n] }},
	{"heap", func(_ comm.Group, n int) []float32 { return make([]float32, n) }},
	{"alloc on even ranks", func(g comm.Group, n int) []float32 {
		if g.Rank()%2 == 0 {
			return comm.Alloc(g, n)
		}
		return make([]float32, n)
	}},
	{"heap on rank 0", func(g comm.Group, n int) []float32 {
		if g.Rank() == 0 {
			return make([]float32, n)
		}
		return comm.Alloc(g, n)
	}},
}

// sharedPlaces: the bits of collectives do not depend on where the vectors lie, and the books close wherever that is.
func (x *exam) sharedPlaces(t *testing.T) {
	if !x.o.Shared {
		return
	}
	for _, n := range []int{2, 3, 5} {
		groups, books := counted(x.group(t, n, patience))
		for _, m := range []int{n - 1, n, 2*n + 3} { // a spare, one part each, several
			tree := comm.NewTree(m, n)
			for _, length := range []int{1, 1001, 20011, 400_001} {
				if length > 30000 && m > n {
					continue
				}
				want := make([]float32, length)
				for e := range want {
					want[e] = naive(rough, m, e, length)
				}
				for _, place := range places {
					each(t, groups, func(g comm.Group) error {
						if err := x.placed(g, books[g.Rank()], tree, want, place.make); err != nil {
							return fmt.Errorf("%s, %d ranks, %d leaves, %d elements: %w", place.name, n, m, length, err)
						}
						return nil
					})
				}
			}
		}
	}
}

// placed asks the collectives over vectors that make places.
func (x *exam) placed(g comm.Group, books *comm.Ledger, tree comm.Tree, want []float32, place func(g comm.Group, n int) []float32) error {
	n := len(want)
	p := make([][]float32, tree.Vectors(g.Rank()))
	for j := range p {
		p[j] = place(g, n)
	}
	fresh := func() {
		for j, q := range parts(tree, g.Rank(), rough, n) {
			copy(p[j], q)
		}
	}
	lo, hi := comm.Chunk(n, g.Size(), g.Rank())
	sum := func(e int) float32 { return want[e] }
	own := func(e int) float32 { return want[lo+e] }
	fresh()
	if err := comm.AllReduce(bg, g, tree, p); err != nil {
		return err
	}
	if err := errors.Join(equal(p[0], sum), closes(books, comm.OpAllReduce)); err != nil {
		return fmt.Errorf("all-reduce: %w", err)
	}
	fresh()
	if err := comm.ReduceScatter(bg, g, tree, p); err != nil {
		return err
	}
	if err := errors.Join(equal(p[0][lo:hi], own), closes(books, comm.OpReduceScatter)); err != nil {
		return fmt.Errorf("reduce-scatter: %w", err)
	}
	if err := comm.AllGather(bg, g, p[0]); err != nil {
		return err
	}
	if err := errors.Join(equal(p[0], sum), closes(books, comm.OpAllGather)); err != nil {
		return fmt.Errorf("all-gather: %w", err)
	}
	out := place(g, n)
	fresh()
	if err := comm.Update(bg, g, tree, p, out, func(a, b int) {
		for e := a; e < b; e++ {
			out[e] = p[0][e] + 1
		}
	}); err != nil {
		return err
	}
	if err := errors.Join(equal(out, func(e int) float32 { return want[e] + 1 }), closes(books, comm.OpAllReduce)); err != nil {
		return fmt.Errorf("update: %w", err)
	}
	return nil
}

// lateContext is never done; it tells, once, when a wait begins to look at it.
type lateContext struct {
	context.Context
	looked chan struct{}
}

func (c *lateContext) Done() <-chan struct{} {
	select {
	case c.looked <- struct{}{}:
	default:
	}
	return c.Context.Done()
}

// sharedFaults: a rank that does not come, one that gives up amid a collective, ranks that disagree, and one that is
// late, where no message tells of it.
func (x *exam) sharedFaults(t *testing.T) {
	if !x.o.Shared {
		return
	}
	const n, missing = 4, 2
	tree := comm.NewTree(n, n)
	for _, c := range []struct{ length, owed int }{{100, 400}, {100_000, 100_000}} {
		groups, books := counted(x.group(t, n, 300*time.Millisecond))
		each(t, groups, func(g comm.Group) error { return comm.Barrier(bg, g) })
		for r, err := range all(groups, func(g comm.Group) error {
			books[g.Rank()].SetStep(7)
			if g.Rank() == missing {
				return nil
			}
			return comm.AllReduceBy(bg, g, tree, parts(tree, g.Rank(), rough, c.length), comm.Shared)
		}) {
			if r == missing {
				continue
			}
			var pe *comm.PeerError
			if err := failed(err, missing, comm.OpAllReduce, comm.ErrTimeout); err != nil {
				t.Errorf("rank %d: %v", r, err)
			}
			if errors.As(err, &pe); pe != nil && (pe.Step != 7 || pe.Missing != int64(c.owed)) {
				t.Errorf("rank %d: %v: want step 7 and %d bytes missing", r, err, c.owed)
			}
		}
		if err := failed(comm.Barrier(bg, groups[missing]), missing, comm.OpAllReduce, comm.ErrTimeout); err != nil {
			t.Errorf("the rank that comes too late: %v", err)
		}
	}
	for _, length := range []int{100, 100_000} { // given up once it has been shown to the others
		g := x.group(t, n, patience)
		ctx, cancel := context.WithCancel(bg)
		late := &lateContext{ctx, make(chan struct{}, 1)}
		go func() {
			<-late.looked
			cancel()
		}()
		sum := func(ctx context.Context, g comm.Group) error {
			return comm.AllReduceBy(ctx, g, tree, parts(tree, g.Rank(), rough, length), comm.Shared)
		}
		if err := failed(sum(late, g[1]), 1, comm.OpAllReduce, context.Canceled); err != nil {
			t.Fatal(err)
		}
		for _, r := range []comm.Rank{0, 2, 3} {
			if err := failed(sum(bg, g[r]), 1, comm.OpAllReduce, context.Canceled); err != nil {
				t.Errorf("rank %d: %v", r, err)
			}
		}
	}
	for name, call := range map[string]func(g comm.Group) error{
		"lengths": func(g comm.Group) error {
			return comm.AllReduce(bg, g, tree, parts(tree, g.Rank(), rough, 300+3*int(g.Rank()/2)))
		},
		"long and short": func(g comm.Group) error {
			return comm.AllReduce(bg, g, tree, parts(tree, g.Rank(), rough, 300+300_000*int(g.Rank()/2)))
		},
		"operations": func(g comm.Group) error {
			if g.Rank() == missing {
				return comm.Barrier(bg, g)
			}
			return comm.AllReduce(bg, g, tree, parts(tree, g.Rank(), rough, 300))
		},
		"roots": func(g comm.Group) error { return comm.Broadcast(bg, g, g.Rank()/2, make([]byte, 100)) },
		"trees": func(g comm.Group) error {
			tree := comm.NewTree(n+int(g.Rank())/2, n)
			return comm.Update(bg, g, tree, parts(tree, g.Rank(), rough, 300), make([]float32, 300), nil)
		},
	} {
		g := x.group(t, n, 2*time.Second)
		for r, err := range all(g, func(g comm.Group) error {
			if err := call(g); err != nil {
				return err
			}
			return comm.Barrier(bg, g) // who was served before the others disagreed hears of it here
		}) {
			var pe *comm.PeerError
			if !errors.As(err, &pe) {
				t.Errorf("ranks that disagree about %s: rank %d: %v", name, r, err)
			}
		}
	}
	// A rank that is late for a while costs time, and no bit.
	g := x.group(t, n, patience)
	each(t, g, func(g comm.Group) error {
		for round := range 8 {
			if int(g.Rank()) == round%n {
				if err := g.Clock().Sleep(bg, 5*time.Millisecond); err != nil {
					return err
				}
			}
			length := []int{100, 50_000}[round%2]
			p := parts(tree, g.Rank(), rough, length)
			if err := comm.AllReduce(bg, g, tree, p); err != nil {
				return err
			}
			if err := equal(p[0], func(e int) float32 { return naive(rough, n, e, length) }); err != nil {
				return fmt.Errorf("round %d: %w", round, err)
			}
			q := slices.Repeat([]byte{byte(g.Rank())}, 70_000*(round%3))
			if err := comm.Broadcast(bg, g, comm.Rank(round%n), q); err != nil {
				return err
			}
			if len(q) > 0 && (q[0] != byte(round%n) || q[len(q)-1] != byte(round%n)) {
				return fmt.Errorf("round %d: broadcast gave %d and %d", round, q[0], q[len(q)-1])
			}
		}
		return nil
	})
}
