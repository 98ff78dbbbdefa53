package data

import (
	"fmt"
	"testing"

	"github.com/covey-ml/covey/rng"
)

// BenchmarkGatherImages gathers batches of 256 images of 28 x 28 bytes from 60,000, in a random order.
func BenchmarkGatherImages(b *testing.B) {
	const n, dim, batch = 60_000, 784, 256
	r := rng.New(1, "data bench")
	pix := make([]byte, n*dim)
	for i := range pix {
		pix[i] = byte(r.Uint32())
	}
	for _, deviation := range []float32{0, 0.31} {
		b.Run(fmt.Sprintf("deviation=%v", deviation), func(b *testing.B) {
			s := &Schema{Format: "idx", Task: Classification, Dim: dim, Shape: []int{28, 28}, Classes: 10, Mean: 0.13, Deviation: deviation}
			ds := newImages(s.Info("bench"), s, "bench", pix, make([]int32, n))
			order := r.Perm(n)
			var got Batch
			ds.Gather(&got, order[:batch])
			for i, v := range got.X {
				want := float32(pix[order[i/dim]*dim+i%dim]) / 255
				if deviation != 0 {
					want = (want - 0.13) / deviation
				}
				if v != want {
					b.Fatalf("value %d is %g, want %g", i, v, want)
				}
			}
			b.SetBytes(4 * batch * dim)
			at := 0
			for b.Loop() {
				ds.Gather(&got, order[at:at+batch])
				if at += batch; at+batch > n {
					at = 0
				}
			}
		})
	}
}
