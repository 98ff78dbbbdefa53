package vec

import (
	"math"
	"testing"
)

// Without regularisers FTRL-Proximal is gradient descent with the rate alpha/(beta + sqrt(sum of g*g)) for each coordinate
// (McMahan et al. 2013, section 3), wherever it starts.
func TestFTRLIsGradientDescent(t *testing.T) {
	const count, steps, alpha, beta = 40, 50, 0.1, 0.5
	src := newSource(35, plain)
	x, z, n := src.numbers(count), make([]float32, count), make([]float32, count)
	clear(x[:count/2])
	want, squares := make([]float64, count), make([]float64, count)
	for i, v := range x {
		want[i] = float64(v)
	}
	for range steps {
		g := src.numbers(count)
		FTRL(x, g, z, n, 0.5, alpha, beta, 0, 0)
		for i, v := range g {
			v := 0.5 * float64(v)
			squares[i] += v * v
			want[i] -= alpha * v / (beta + math.Sqrt(squares[i]))
		}
	}
	for i, v := range x {
		if !(math.Abs(float64(v)-want[i]) < 2e-6) {
			t.Errorf("element %d is %v, want %v", i, v, want[i])
		}
	}
}

// What has no gradient keeps its bits and its state, whatever it started from, and what is not a number stays to be seen.
func TestFTRLLeavesAlone(t *testing.T) {
	x, z, n := []float32{0.3, -2, 0}, make([]float32, 3), make([]float32, 3)
	for range 3 {
		FTRL(x, make([]float32, 3), z, n, 1, 0.1, 1, 0.7, 0.3)
	}
	for i, want := range []float32{0.3, -2, 0} {
		if x[i] != want || z[i] != 0 || n[i] != 0 {
			t.Errorf("element %d is %v with state %v, %v after no gradient", i, x[i], z[i], n[i])
		}
	}
	FTRL(x, []float32{float32(math.NaN()), 1, 1}, z, n, 1, 0.1, 1, 0.7, 0.3)
	if x[0] == x[0] || x[1] != x[1] || x[2] != x[2] {
		t.Errorf("after a NaN in element 0 alone: %v", x)
	}
}
