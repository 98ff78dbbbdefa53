package commtest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
)

// Bench times all-reduce by every algorithm that fits, over vectors of 1 KiB to 4 MiB, with one microshard a rank. It
// checks the result before and after it takes the time, and shows the bytes that rank 0 sends in one.
func Bench(b *testing.B, open func(b *testing.B, n int, timeout time.Duration) []comm.Group, sizes ...int) {
	for _, n := range sizes {
		groups := open(b, n, patience)
		tree := comm.NewTree(n, n)
		for _, size := range []int{1 << 10, 16 << 10, 64 << 10, 256 << 10, 4 << 20} {
			for _, alg := range append(slices.Clone(algorithms), comm.Shared) {
				if b, ok := groups[0].(comm.Boarder); alg == comm.Shared && (!ok || b.Board() == nil) {
					continue
				}
				if alg.Fits(tree) {
					b.Run(fmt.Sprintf("ranks=%d/bytes=%d/%v", n, size, alg), func(b *testing.B) {
						bench(b, groups, tree, alg, size/4)
					})
				}
			}
		}
		for _, err := range all(groups, func(g comm.Group) error { return g.Close() }) {
			if err != nil {
				b.Error(err)
			}
		}
	}
}

func bench(b *testing.B, groups []comm.Group, tree comm.Tree, alg comm.Algorithm, n int) {
	check := func(g comm.Group) error {
		p := parts(tree, g.Rank(), func(i, e, _ int) float32 { return float32(i + e%1000) }, n)
		if err := comm.AllReduceBy(bg, g, tree, p, alg); err != nil {
			return err
		}
		m := tree.Leaves()
		return equal(p[0], func(e int) float32 { return float32(m*(m-1)/2 + m*(e%1000)) })
	}
	run := func(f func(g comm.Group) error) {
		for r, err := range all(groups, f) {
			if err != nil {
				b.Fatalf("rank %d: %v", r, err)
			}
		}
	}
	run(check)
	b.SetBytes(int64(4 * n))
	b.ReportAllocs()
	b.ResetTimer()
	run(func(g comm.Group) error {
		zero := make([][]float32, tree.Vectors(g.Rank()))
		for j := range zero {
			zero[j] = comm.Alloc(g, n)
		}
		for range b.N {
			if err := comm.AllReduceBy(bg, g, tree, zero, alg); err != nil {
				return err
			}
		}
		return nil
	})
	b.StopTimer()
	b.ReportMetric(float64(comm.AllReduceBill(alg, tree, 0, n).Payload()), "sent-B/op")
	run(check)
}
