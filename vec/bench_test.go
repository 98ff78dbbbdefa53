package vec

import (
	"fmt"
	"math"
	"testing"

	"github.com/covey-ml/covey/rng"
)

func benchNumbers(n int) []float32 {
	r := rng.New(1, "vec bench")
	x := make([]float32, n)
	for i := range x {
		x[i] = 2*r.Float32() - 1
	}
	return x
}

// checkProduct holds the corners of c, which are in tiles of different sizes, to their sums in float64.
func checkProduct(b *testing.B, kind string, c, x, y []float32, m, n, k int) {
	b.Helper()
	for _, t := range mats {
		if t.name != kind {
			continue
		}
		for _, at := range [][2]int{{0, 0}, {m - 1, 0}, {0, n - 1}, {m - 1, n - 1}} {
			var sum float64
			for p := range k {
				sum += float64(t.a(x, m, k, at[0], p)) * float64(t.b(y, n, k, p, at[1]))
			}
			if got := float64(c[at[0]*n+at[1]]); math.Abs(got-sum) > 1e-6*float64(k) {
				b.Fatalf("element %v is %g, want %g", at, got, sum)
			}
		}
	}
}

func BenchmarkProduct(b *testing.B) {
	kinds := []struct {
		name string
		f    func(c, a, b []float32, m, n, k int, acc bool)
	}{{"NN", MatMul}, {"NT", MatMulNT}, {"TN", MatMulTN}}
	for _, s := range [][3]int{ // m, n, k
		{512, 512, 512}, {1024, 1024, 1024}, {256, 128, 784}, {784, 128, 256}, {128, 784, 256}, {256, 10, 128}, {10, 128, 256}, {256, 128, 10},
		{1, 1024, 1024}, {1024, 1, 784}, {32, 128, 784}, {64, 64, 64}, {256, 256, 256}, {2048, 2048, 2048},
		{128, 128, 784}, {10, 128, 128}, {128, 128, 10}, {128, 784, 128},
		{128, 10, 128}, {128, 1024, 1024}, {256, 1024, 1024}, {1024, 1024, 128}, {1024, 1024, 256},
	} {
		m, n, k := s[0], s[1], s[2]
		x, y, c := benchNumbers(m*k), benchNumbers(k*n), make([]float32, m*n)
		for _, kind := range kinds {
			b.Run(fmt.Sprintf("%s/%dx%dx%d", kind.name, m, n, k), func(b *testing.B) {
				kind.f(c, x, y, m, n, k, false)
				checkProduct(b, kind.name, c, x, y, m, n, k)
				for b.Loop() {
					kind.f(c, x, y, m, n, k, false)
				}
				b.ReportMetric(2*float64(m)*float64(n)*float64(k)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
			})
		}
	}
}

func BenchmarkKernels(b *testing.B) {
	const n = 100_000
	x, y, z, v := benchNumbers(n), benchNumbers(n), benchNumbers(n), make([]float32, n)
	class := make([]int32, n/10)
	cases := []struct {
		name string
		f    func()
	}{
		{"Add", func() { Add(y, x) }},
		{"Scale", func() { Scale(1, y) }},
		{"Axpy", func() { Axpy(0.1, x, v) }},
		{"Dot", func() { Dot(x, y) }},
		{"SumSquares", func() { SumSquares(x) }},
		{"Finite", func() { Finite(x) }},
		{"ArgMax10", func() {
			for i := 0; i < n; i += 10 {
				ArgMax(x[i : i+10])
			}
		}},
		{"AddBias", func() { AddBias(y, x[:100], n/100) }},
		{"SumRows", func() { SumRows(v[:100], x, n/100, false) }},
		{"ReLU", func() { ReLU(z, x) }},
		{"ReLUGrad", func() { ReLUGrad(z, x, y) }},
		{"Tanh", func() { Tanh(z, x) }},
		{"TanhGrad", func() { TanhGrad(z, x, y) }},
		{"GELU", func() { GELU(z, x) }},
		{"GELUGrad", func() { GELUGrad(z, x, y) }},
		{"Sigmoid", func() { Sigmoid(z, x) }},
		{"Softmax1000", func() { Softmax(z, x, n/1000, 1000) }},
		{"SoftmaxXent10", func() { SoftmaxXent(z, x, class, n/10, 10) }},
		{"Momentum", func() { Momentum(z, x, y, 1, 1e-9, 0.9, 0, false) }},
		{"Adam", func() { Adam(z, x, y, v, 1, 1e-9, 0.9, 0.999, 1e-8, 1, 1) }},
	}
	for _, c := range cases {
		b.Run(c.name, func(b *testing.B) {
			clear(v)
			for b.Loop() {
				c.f()
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds()/1e9, "Gelem/s")
		})
	}
}

// BenchmarkAdam counts the bytes that a step moves: it reads four vectors and writes three.
func BenchmarkAdam(b *testing.B) {
	for _, n := range []int{20_000, 2_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			x, g, m, v := benchNumbers(n), benchNumbers(n), make([]float32, n), make([]float32, n)
			Adam(x, g, m, v, 1, 0.25, 0.5, 0.75, 1e-8, 0.5, 0.25)
			start := benchNumbers(n)
			for i := range x {
				if d := x[i] - start[i]; g[i]*g[i] > 1e-6 && (d*g[i] > 0 || d*d < 0.0624 || d*d > 0.0626) {
					b.Fatalf("the first step moves x[%d] by %g against a gradient of %g, want the rate", i, d, g[i])
				}
			}
			b.SetBytes(28 * int64(n))
			for b.Loop() {
				Adam(x, g, m, v, 0.5, 1e-9, 0.9, 0.999, 1e-8, 1, 1)
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds()/1e9, "Gelem/s")
		})
	}
}
