package data

import (
	"testing"

	"github.com/covey-ml/covey/rng"
)

// BenchmarkGather gathers batches of 256 images of 28 x 28 bytes from 60,000, in a random order.
func BenchmarkGather(b *testing.B) {
	const n, dim, batch = 60_000, 784, 256
	r := rng.New(1, "data bench")
	pix := make([]byte, n*dim)
	for i := range pix {
		pix[i] = byte(r.Uint32())
	}
	s := &Schema{Format: "idx", Task: Classification, Dim: dim, Shape: []int{28, 28}, Classes: 10, Mean: 0.13, Deviation: 0.31}
	ds := newImages(s.info("bench"), s, "bench", pix, make([]int32, n))
	order := r.Perm(n)
	var batches Batch
	ds.Gather(&batches, order[:batch])
	for i, v := range batches.X {
		p := pix[order[i/dim]*dim+i%dim]
		if want := (float32(p)/255 - 0.13) / 0.31; v != want {
			b.Fatalf("value %d is %g, want %g", i, v, want)
		}
	}
	b.SetBytes(4 * batch * dim)
	at := 0
	for b.Loop() {
		ds.Gather(&batches, order[at:at+batch])
		if at += batch; at+batch > n {
			at = 0
		}
	}
}
