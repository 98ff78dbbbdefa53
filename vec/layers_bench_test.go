package vec

import (
	"fmt"
	"math"
	"testing"
)

// BenchmarkLayers times what the layers of a network do beside products, on a batch of 256.
func BenchmarkLayers(b *testing.B) {
	const rows = 256
	for _, cols := range []int{128, 1024} {
		n := rows * cols
		x, y, z, bias := benchNumbers(n), make([]float32, n), make([]float32, n), benchNumbers(cols)
		for _, k := range []struct {
			name string
			f    func()
			want func(r, j int) float32 // of z, after f was called once on zeros
		}{
			{"AddBias", func() { AddBias(z, bias, rows) }, func(r, j int) float32 { return bias[j] }},
			{"ReLU", func() { ReLU(z, x) }, func(r, j int) float32 { return max(x[r*cols+j], 0) }},
			{"ReLUGrad", func() { ReLUGrad(z, x, y) }, func(r, j int) float32 { return 0 }},
			{"SumRows", func() { SumRows(z[:cols], bias, 1, false); SumRows(y[:cols], x, rows, false) }, func(r, j int) float32 {
				if r == 0 {
					return bias[j]
				}
				return 0
			}},
		} {
			b.Run(fmt.Sprintf("%s/%dx%d", k.name, rows, cols), func(b *testing.B) {
				clear(z)
				k.f()
				for i, v := range z {
					if want := k.want(i/cols, i%cols); v != want {
						b.Fatalf("element %d is %g, want %g", i, v, want)
					}
				}
				b.SetBytes(4 * int64(n))
				for b.Loop() {
					k.f()
				}
			})
		}
	}
	for _, cols := range []int{10, 1000} {
		b.Run(fmt.Sprintf("SoftmaxXent/%dx%d", rows, cols), func(b *testing.B) {
			x, d, class := benchNumbers(rows*cols), make([]float32, rows*cols), make([]int32, rows)
			var want float64
			for i := range class {
				class[i] = int32(i * 7 % cols)
				var s float64
				for _, v := range x[i*cols : (i+1)*cols] {
					s += math.Exp(float64(v))
				}
				want += math.Log(s) - float64(x[i*cols+int(class[i])])
			}
			if got := SoftmaxXent(d, x, class, rows, cols); math.Abs(float64(got)-want) > 1e-6*want {
				b.Fatalf("loss %g, want %g", got, want)
			}
			for b.Loop() {
				SoftmaxXent(d, x, class, rows, cols)
			}
			b.ReportMetric(b.Elapsed().Seconds()*1e9/float64(b.N)/float64(rows*cols), "ns/element")
		})
	}
}
