package shm

import (
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/vec"
)

// TestSenselessCell: what a broken peer writes into its cell is an error that names it, and never a fault.
func TestSenselessCell(t *testing.T) {
	for name, c := range map[string]struct {
		at    uint64
		words string
	}{
		"a place beyond its arena":     {16<<20 + 1, "arena"},
		"a place far beyond":           {1 << 62, "arena"},
		"a vector that ends beyond it": {16<<20 - 4 + 1, "arena"},
		"a place amid a number":        {2 + 1, "arena"},
		"a place that wraps around":    {outside - 1, "arena"},
		"no place":                     {0, "names no vector"},
	} {
		t.Run(name, func(t *testing.T) {
			groups := attachAll(t, 2, Options{Arena: 16 << 20}, 2*time.Second)
			tree, n := comm.NewTree(2, 2), 100_000
			// Rank 1 says something else than where its vectors are, as soon as it has said that.
			cell := groups[1].(*group).e.shared.Cell(1)
			p := [2][]float32{groups[0].(*group).Alloc(n), groups[1].(*group).Alloc(n)}
			var errs [2]error
			var wg sync.WaitGroup
			wg.Go(func() {
				errs[1] = comm.AllReduce(t.Context(), groups[1], tree, [][]float32{p[1]})
			})
			for result := comm.Slots - 1; cell.At[result].Load() == 0; { // the first meeting's; it is the last that it writes
				runtime.Gosched()
			}
			for i := range cell.At {
				cell.At[i].Store(c.at)
			}
			errs[0] = comm.AllReduce(t.Context(), groups[0], tree, [][]float32{p[0]})
			wg.Wait()
			var pe *comm.PeerError
			if !errors.As(errs[0], &pe) || pe.Rank != 1 || !errors.Is(errs[0], errCell) || !strings.Contains(errs[0].Error(), c.words) {
				t.Errorf("the sound rank says: %v", errs[0])
			}
			if !errors.As(errs[1], &pe) {
				t.Errorf("the broken one says: %v", errs[1])
			}
		})
	}
}

// TestAllocOutlivesTheGroup: what Alloc gave can be read and written after Close, and the rest of the arenas is gone.
func TestAllocOutlivesTheGroup(t *testing.T) {
	groups := attachAll(t, 2, Options{Arena: 8 << 20}, time.Minute)
	small, large := comm.Alloc(groups[0], 1000), comm.Alloc(groups[0], 1<<20)
	for _, x := range [][]float32{small, large} {
		if off := groups[0].(*group).e.shared.Publish(0, vec.Bytes(x)); !off {
			t.Fatal("Alloc gave memory outside of the arena")
		}
		for i := range x {
			if x[i] != 0 {
				t.Fatalf("element %d is %v", i, x[i])
			}
			x[i] = float32(i)
		}
	}
	if x := comm.Alloc(groups[0], 2<<20); groups[0].(*group).e.shared.Publish(0, vec.Bytes(x)) || len(x) != 2<<20 {
		t.Error("an arena of 8 MiB has given 12")
	}
	if err := groups[0].Close(); err != nil {
		t.Fatal(err)
	}
	for i := range large {
		if large[i] != float32(i) {
			t.Fatalf("after Close element %d is %v", i, large[i])
		}
		large[i] = 1
	}
	if x := comm.Alloc(groups[0], 10); len(x) != 10 {
		t.Error("no vector after Close")
	}
}
