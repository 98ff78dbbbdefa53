package nn

import (
	"context"
	"fmt"
	"testing"

	"github.com/covey-ml/covey/data"
)

// BenchmarkGrad times one gradient of the networks that Covey is measured by. It first holds the gradient against the
// sum of those of two halves of the batch.
func BenchmarkGrad(b *testing.B) {
	for _, hidden := range [][]Layer{
		{Dense{Out: 128}, ReLU{}},
		{Dense{Out: 1024}, ReLU{}, Dense{Out: 1024}, ReLU{}},
	} {
		net, x, g := build(b, Config{In: 784, Layers: append(hidden, Dense{Out: 10}), Head: CrossEntropy{}})
		grad := func(g []float32, part *data.Batch) {
			if _, err := net.Grad(context.Background(), x, g, part, nil); err != nil {
				b.Fatal(err)
			}
		}
		for _, n := range []int{128, 256} {
			all := batch(1, n, 784, 10, 0)
			b.Run(fmt.Sprintf("%d layers/%d", len(hidden)+1, n), func(b *testing.B) {
				sum, half := make([]float64, len(g)), make([]float32, len(g))
				for lo := 0; lo < n; lo += n / 2 {
					grad(half, rows(all, lo, lo+n/2, 0))
					for i, v := range half {
						sum[i] += float64(v)
					}
				}
				grad(g, all)
				within(b, "gradient", g, sum, 1e-5)
				for b.Loop() {
					grad(g, all)
				}
				b.ReportMetric(float64(net.FLOPs(n))*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
			})
		}
	}
}
