package linear

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model"
)

// curvedCases are a dense and a sparse batch of the same samples, for each smooth model.
func curvedCases(t *testing.T, r *rand.Rand, f func(name string, m model.Curved, layout model.Layout, b *data.Batch)) {
	const n, dim, outputs = 300, 7, 3
	dense := &data.Batch{N: n, Dim: dim, X: make([]float32, n*dim), Y: make([]float32, n*outputs), Class: make([]int32, n)}
	sparse := &data.Batch{N: n, Dim: dim, Row: []int{0}, Y: dense.Y, Class: dense.Class}
	for i := range n {
		for j := range dim {
			if r.IntN(2) == 0 {
				continue
			}
			v := float32(r.NormFloat64())
			dense.X[i*dim+j] = v
			sparse.Col, sparse.Val = append(sparse.Col, int32(j)), append(sparse.Val, v)
		}
		sparse.Row = append(sparse.Row, len(sparse.Col))
		dense.Class[i] = int32(r.IntN(2))
	}
	for i := range dense.Y {
		dense.Y[i] = float32(r.NormFloat64())
	}
	for _, noBias := range []bool{false, true} {
		c := Config{Dim: dim, Outputs: outputs, N: n, NoBias: noBias}
		logistic, err := NewLogistic(c, 2)
		if err != nil {
			t.Fatal(err)
		}
		softmax, err := NewSoftmax(c, 0.5)
		if err != nil {
			t.Fatal(err)
		}
		ridge, err := NewRidge(c, 0.5)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range []*data.Batch{dense, sparse} {
			with := *b
			with.Y = nil
			f("logistic", logistic, logistic.Layout(), &with)
			f("softmax", softmax, softmax.Layout(), &with)
			with = *b
			with.Class = nil
			f("ridge", ridge, ridge.Layout(), &with)
		}
	}
}

// All that a Curved model says fits together: the gradient and the Hessian are differences of what comes before them, by
// vector, by diagonal and written down; the line is where the margins say; and float32's Grad and Penalty say the same.
func TestCurvedDerivatives(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	curvedCases(t, r, func(name string, m model.Curved, layout model.Layout, b *data.Batch) {
		n, k := layout.Len(), m.Margins()
		vector := func() []float64 { return make([]float64, n) }
		margins := func() []float64 { return make([]float64, b.N*k) }
		near := func(what string, got, want, tol float64) {
			t.Helper()
			if !(math.Abs(got-want) <= tol*(1+math.Abs(want))) {
				t.Fatalf("seed %d: %s, sparse %v: %s is %v, want %v", seed, name, len(b.Row) > 0, what, got, want)
			}
		}
		x, v := vector(), vector()
		for i := range x {
			x[i], v[i] = r.NormFloat64()/2, r.NormFloat64()
		}
		g, z, h := vector(), margins(), margins()
		at, err := m.Slope(g, z, h, x, b)
		if err != nil {
			t.Fatal(err)
		}
		const step = 1e-5
		eval := func(step float64) (float64, []float64, []float64) {
			y, gy, zy := vector(), vector(), margins()
			for i := range y {
				y[i] = x[i] + step*v[i]
			}
			f, err := m.Slope(gy, zy, margins(), y, b)
			if err != nil {
				t.Fatal(err)
			}
			return f, gy, zy
		}
		up, gUp, zOne := eval(step)
		down, gDown, _ := eval(-step)
		_, _, zOne = eval(1)
		var slope, bend float64
		hv := vector()
		m.Bend(hv, v, h, b)
		for i := range v {
			slope += g[i] * v[i]
			bend += hv[i] * v[i]
			near("the Hessian times a vector", hv[i], (gUp[i]-gDown[i])/(2*step), 1e-6)
		}
		near("the slope", slope, (up-down)/(2*step), 1e-7)
		u := margins()
		for i := range u {
			u[i] = zOne[i] - z[i]
		}
		f, first, second := m.Line(z, u, 0, b)
		near("the line's begin", f, at, 1e-12)
		near("the line's slope", first, slope, 1e-10)
		near("the line's second derivative", second, bend, 1e-10)
		f, _, _ = m.Line(z, u, 1, b)
		g1, z1 := vector(), margins()
		for i := range x {
			x[i] += v[i]
		}
		end, _ := m.Slope(g1, z1, margins(), x, b)
		near("the line's end", f, end, 1e-12)
		for i := range x {
			x[i] -= v[i]
		}
		diagonal := vector()
		m.Diagonal(diagonal, h, b)
		a := make([]float64, n*(n+1)/2)
		written, ok := m.(model.Hessian)
		if ok = ok && k == 1; ok {
			written.AddHessian(a, h, b)
		}
		for i := range n {
			e, he := vector(), vector()
			e[i] = 1
			m.Bend(he, e, h, b)
			near("the diagonal", diagonal[i], he[i], 1e-12)
			for j := 0; ok && j <= i; j++ {
				near("the Hessian", a[i*(i+1)/2+j], he[j], 1e-12)
			}
		}
		// float32's view of the same.
		x32, g32 := make([]float32, n), make([]float32, n)
		for i := range x {
			x32[i] = float32(x[i])
			x[i] = float64(x32[i])
		}
		clear(g)
		at, _ = m.Slope(g, z, h, x, b)
		loss, err := m.(model.Model).Grad(t.Context(), x32, g32, b, nil)
		if err != nil {
			t.Fatal(err)
		}
		near("the loss beside Grad's", at, float64(loss.Sum), 1e-5)
		for i := range g {
			near("the gradient beside Grad's", g[i], float64(g32[i]), 1e-4)
		}
		strength := vector()
		m.Squares(strength)
		var penalty float64
		for i, d := range strength {
			penalty += d * x[i] * x[i] / 2
		}
		near("the penalty", penalty, m.(model.Penalised).Penalty(x32), 1e-12)
	})
}

// A batch that does not fit is an error, an empty one is nothing.
func TestCurvedChecks(t *testing.T) {
	m, err := NewLogistic(Config{Dim: 2, N: 4}, 1)
	if err != nil {
		t.Fatal(err)
	}
	v := func(n int) []float64 { return make([]float64, n) }
	x := []float32{1, 2}
	for name, b := range map[string]*data.Batch{
		"width":  {N: 1, Dim: 3, X: []float32{1, 2, 3}, Class: []int32{0}},
		"class":  {N: 1, Dim: 2, X: x, Class: []int32{2}},
		"hidden": {N: 1, Dim: 2, X: x, Class: []int32{-1}},
		"target": {N: 1, Dim: 2, X: x, Y: []float32{1}},
	} {
		if _, err := m.Slope(v(3), v(1), v(1), v(3), b); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if f, err := m.Slope(v(3), nil, nil, v(3), &data.Batch{}); f != 0 || err != nil {
		t.Errorf("an empty batch: %v, %v", f, err)
	}
	if _, ok := any(&Lasso{}).(model.Curved); ok {
		t.Error("the lasso has no second derivatives")
	}
}
