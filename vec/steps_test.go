package vec

import (
	"math"
	"testing"
)

// TestStepsFollowTheirFormulas compares ten steps of each rule with PyTorch's formulas in float64.
func TestStepsFollowTheirFormulas(t *testing.T) {
	const n, steps = 50, 10
	type state struct{ x, m, v float64 }
	for _, rule := range []struct {
		name string
		f32  func(t int, x, g, m, v []float32)
		f64  func(t float64, s *state, g float64)
	}{
		{"momentum", func(_ int, x, g, m, _ []float32) { Momentum(x, g, m, 1, 0.1, 0.9, 0.25, false) },
			func(_ float64, s *state, g float64) {
				s.m = 0.9*s.m + 0.75*g
				s.x -= 0.1 * s.m
			}},
		{"nesterov", func(_ int, x, g, m, _ []float32) { Momentum(x, g, m, 1, 0.1, 0.9, 0, true) },
			func(_ float64, s *state, g float64) {
				s.m = 0.9*s.m + g
				s.x -= 0.1 * (g + 0.9*s.m)
			}},
		{"adam", func(t int, x, g, m, v []float32) {
			Adam(x, g, m, v, 1, 0.01, 0.875, 0.96875, 1e-8, float32(1-math.Pow(0.875, float64(t))), float32(1-math.Pow(0.96875, float64(t))))
		}, func(t float64, s *state, g float64) {
			s.m = 0.875*s.m + 0.125*g
			s.v = 0.96875*s.v + 0.03125*g*g
			s.x -= 0.01 * (s.m / (1 - math.Pow(0.875, t))) / (math.Sqrt(s.v/(1-math.Pow(0.96875, t))) + 1e-8)
		}},
		{"rmsprop", func(_ int, x, g, _, v []float32) { RMSProp(x, g, v, 1, 0.01, 0.9375, 1e-8) },
			func(_ float64, s *state, g float64) {
				s.v = 0.9375*s.v + 0.0625*g*g
				s.x -= 0.01 * g / (math.Sqrt(s.v) + 1e-8)
			}},
		{"adagrad", func(_ int, x, g, _, v []float32) { Adagrad(x, g, v, 1, 0.01, 1e-10) },
			func(_ float64, s *state, g float64) {
				s.v += g * g
				s.x -= 0.01 * g / (math.Sqrt(s.v) + 1e-10)
			}},
	} {
		src := newSource(31, plain)
		x, m, v := src.numbers(n), make([]float32, n), make([]float32, n)
		want := make([]state, n)
		for i := range want {
			want[i].x = float64(x[i])
		}
		for step := 1; step <= steps; step++ {
			g := src.numbers(n)
			rule.f32(step, x, g, m, v)
			for i := range want {
				rule.f64(float64(step), &want[i], float64(g[i]))
			}
		}
		for i := range want {
			if e := math.Abs(float64(x[i]) - want[i].x); e > 3e-6 {
				t.Errorf("%s: element %d is %g, want %g", rule.name, i, x[i], want[i].x)
			}
		}
	}
}

// TestAdamDirection: x - lr d is Adam's step up to rounding.
func TestAdamDirection(t *testing.T) {
	s := newSource(32, plain)
	const n = 60
	x, g, m, v := s.numbers(n), s.numbers(n), s.numbers(n), s.positive(n)
	m2, v2 := append([]float32{}, m...), append([]float32{}, v...)
	d, y := s.raw(n), append([]float32{}, x...)
	Adam(x, g, m, v, 1, 0.01, 0.9, 0.99, 1e-8, 0.271, 0.0297)
	AdamDirection(d, g, m2, v2, 1, 0.9, 0.99, 1e-8, 0.271, 0.0297)
	Axpy(-0.01, d, y)
	for i := range x {
		if math.Abs(float64(x[i]-y[i])) > 1e-6 {
			t.Errorf("element %d: %g and %g", i, x[i], y[i])
		}
	}
	if err := sameBits(append(m, v...), append(m2, v2...)); err != nil {
		t.Errorf("the moments differ: %v", err)
	}
}
