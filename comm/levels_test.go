package comm_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/inproc"
)

// hostGroups makes, for each rank of so many on hosts, its near and its far group, and what kills it in both.
func hostGroups(t testing.TB, hosts comm.Hosts, ranks int, timeout time.Duration) (near, far []comm.Group, kill func(r int)) {
	near, far = make([]comm.Group, ranks), make([]comm.Group, ranks)
	end := func(h int) int {
		if h+1 < len(hosts) {
			return int(hosts[h+1])
		}
		return ranks
	}
	least := ranks
	for h, first := range hosts {
		least = min(least, end(h)-int(first))
		copy(near[first:], inproc.New(end(h)-int(first), timeout))
	}
	for i := range least {
		for h, g := range inproc.New(len(hosts), timeout) {
			far[int(hosts[h])+i] = g
		}
	}
	closed := func(r int, f func(g comm.Group)) {
		f(near[r])
		if far[r] != nil {
			f(far[r])
		}
	}
	t.Cleanup(func() {
		for r := range ranks {
			closed(r, func(g comm.Group) { g.Close() })
		}
	})
	return near, far, func(r int) { closed(r, inproc.Kill) }
}

// The bits of a sum over two groups a rank are those of one group, and each group's books close by what it sent.
func TestLevels(t *testing.T) {
	seed := rand.Uint64()
	for _, c := range []struct {
		hosts         comm.Hosts
		ranks, leaves int
	}{
		{comm.Hosts{0, 2}, 4, 4}, {comm.Hosts{0, 2}, 5, 12}, {comm.Hosts{0, 1, 4}, 6, 7}, {comm.Hosts{0, 3, 6}, 9, 5}, {comm.Hosts{0, 1, 2}, 3, 3}, {nil, 3, 4},
	} {
		tree := comm.NewTree(c.leaves, c.ranks).On(c.hosts)
		hosts := c.hosts
		if hosts == nil {
			hosts = comm.Hosts{0}
		}
		near, far, _ := hostGroups(t, hosts, c.ranks, time.Minute)
		whole := open(t, c.ranks)
		for _, length := range []int{0, 1, 7, 1000} {
			each(t, whole, func(g comm.Group) error {
				r := g.Rank()
				draw := func() [][]float32 {
					parts := make([][]float32, tree.Vectors(r))
					for j := range parts {
						rng := rand.New(rand.NewPCG(seed, uint64(tree.FirstPart(r)+j)))
						for range length {
							parts[j] = append(parts[j], float32(rng.NormFloat64()*math.Exp2(float64(rng.IntN(20)))))
						}
					}
					return parts
				}
				want, got := draw(), draw()
				if err := comm.AllReduceBy(bg, g, tree, want, comm.Direct); err != nil {
					return err
				}
				a, b := comm.NewLedger(), comm.NewLedger()
				f := far[r]
				if f != nil {
					f = comm.Count(f, b)
				}
				l, err := comm.NewLevels(tree, r, comm.Count(near[r], a), f)
				if err != nil {
					return err
				}
				if err := l.AllReduce(bg, got); err != nil {
					return err
				}
				for e := range length {
					if math.Float32bits(got[0][e]) != math.Float32bits(want[0][e]) {
						return fmt.Errorf("%v, element %d of %d: %v, not %v (seed %d)", c, e, length, got[0][e], want[0][e], seed)
					}
				}
				for _, l := range []*comm.Ledger{a, b} {
					if books := l.Totals(); !books.Sum().Closes() {
						return fmt.Errorf("%v, %d elements: the books do not close:\n%s", c, length, books.String())
					}
				}
				return nil
			})
		}
	}
}

// A rank that dies is named by its number among all, on its own host and on the others, now and later.
func TestLevelsNameTheLost(t *testing.T) {
	for _, victim := range []int{0, 3, 4} {
		hosts := comm.Hosts{0, 2, 4}
		tree := comm.NewTree(6, 6).On(hosts)
		near, far, kill := hostGroups(t, hosts, 6, time.Minute)
		errs := make([]error, 6)
		var wg sync.WaitGroup
		var dead sync.Once
		for r := range errs {
			wg.Go(func() {
				l, err := comm.NewLevels(tree, comm.Rank(r), near[r], far[r])
				x := [][]float32{make([]float32, 5000)}
				for i := 0; err == nil; i++ {
					if r == victim && i == 3 {
						dead.Do(func() { kill(r) })
					}
					err = l.AllReduce(bg, x)
				}
				if again := l.AllReduce(bg, x); r != victim && again != err {
					err = fmt.Errorf("first %w, then %w", err, again)
				}
				errs[r] = err
			})
		}
		wg.Wait()
		for r, err := range errs {
			var pe *comm.PeerError
			if r != victim && (!errors.As(err, &pe) || pe.Rank != comm.Rank(victim) || !errors.Is(err, comm.ErrLost)) {
				t.Errorf("rank %d says: %v; it was %d that died", r, err, victim)
			}
			if r == victim && err != comm.ErrClosed {
				t.Errorf("the dead rank says: %v", err)
			}
		}
	}
}

// A call whose context has ended before anything moved harms nobody; one that ends half-way names its rank to all.
func TestLevelsCancelled(t *testing.T) {
	hosts := comm.Hosts{0, 2}
	tree := comm.NewTree(4, 4).On(hosts)
	near, far, _ := hostGroups(t, hosts, 4, time.Minute)
	var levels [4]*comm.Levels
	books := comm.NewLedger()
	for r := range levels {
		g := near[r]
		if r == 2 {
			g = comm.Count(g, books)
		}
		l, err := comm.NewLevels(tree, comm.Rank(r), g, far[r])
		if err != nil {
			t.Fatal(err)
		}
		levels[r] = l
	}
	ctx, cancel := context.WithCancel(bg)
	cancel()
	x := func() [][]float32 { return [][]float32{make([]float32, 100)} }
	if err := levels[2].AllReduce(ctx, x()); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, l := range levels {
		wg.Go(func() {
			if err := l.AllReduce(bg, x()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	before := books.Totals()
	ctx, cancel = context.WithCancel(bg)
	given := make(chan bool)
	for r, l := range levels {
		wg.Go(func() {
			c := bg
			switch r {
			case 1: // comes when rank 2, which cannot end without it, has given up
				<-given
			case 2:
				c = ctx
				defer close(given)
			}
			var pe *comm.PeerError
			if err := l.AllReduce(c, x()); !errors.As(err, &pe) || pe.Rank != 2 {
				t.Errorf("rank %d says: %v", r, err)
			}
		})
	}
	for b := books.Totals(); b[comm.OpAllReduce].Messages == before[comm.OpAllReduce].Messages; b = books.Totals() { // until rank 2 has sent something
		runtime.Gosched()
	}
	cancel()
	wg.Wait()
}

func TestLevelsRefuseOtherGroups(t *testing.T) {
	hosts := comm.Hosts{0, 1}
	tree := comm.NewTree(3, 3).On(hosts)
	near, far, _ := hostGroups(t, hosts, 3, time.Minute)
	for what, c := range map[string]struct {
		rank      comm.Rank
		near, far comm.Group
	}{
		"no such rank":      {3, near[2], nil},
		"another's near":    {1, near[2], far[1]},
		"another's far":     {1, near[1], far[0]},
		"no far":            {0, near[0], nil},
		"one far too many":  {2, near[2], far[1]},
		"near of two hosts": {0, near[1], far[0]},
	} {
		if _, err := comm.NewLevels(tree, c.rank, c.near, c.far); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	l, err := comm.NewLevels(tree, 2, near[2], nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.AllReduce(bg, nil); err == nil {
		t.Error("no vectors are summed")
	}
}
