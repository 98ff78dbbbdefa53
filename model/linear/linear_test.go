package linear

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/rng"
)

// sparse hands the samples of a dense data set out as compressed rows.
type sparse struct{ data.Dataset }

func (s sparse) Info() data.Info {
	in := s.Dataset.Info()
	in.Sparse = true
	return in
}

func (s sparse) Gather(b *data.Batch, ids []int) {
	var dense data.Batch
	s.Dataset.Gather(&dense, ids)
	*b = dense
	b.X, b.Row, b.Col, b.Val = nil, []int{0}, nil, nil
	for i := range b.N {
		for j, v := range dense.X[i*b.Dim : (i+1)*b.Dim] {
			if v != 0 {
				b.Col, b.Val = append(b.Col, int32(j)), append(b.Val, v)
			}
		}
		b.Row = append(b.Row, len(b.Col))
	}
}

// plainObjective is each model's objective, written from its documentation in float64, one sample at a time.
func plainObjective(kind string, w []float64, b *data.Batch, outputs int) float64 {
	d := b.Dim
	var norm1, norm2, loss float64
	for _, v := range w[:outputs*d] {
		norm1, norm2 = norm1+math.Abs(v), norm2+v*v
	}
	for i := range b.N {
		z := make([]float64, outputs)
		var sumExp float64
		for k := range z {
			z[k] = w[outputs*d+k]
			for j := range d {
				z[k] += w[k*d+j] * float64(b.X[i*d+j])
			}
			sumExp += math.Exp(z[k])
		}
		switch kind {
		case "logistic":
			loss += math.Log(1 + math.Exp(-float64(2*b.Class[i]-1)*z[0]))
		case "softmax":
			loss += math.Log(sumExp) - z[b.Class[i]]
		default:
			for k := range z {
				loss += math.Pow(z[k]-float64(b.Y[i*outputs+k]), 2)
			}
		}
	}
	switch kind {
	case "ridge":
		return loss + 2*norm2
	case "lasso":
		return loss/(2*float64(b.N)) + 0.3*norm1
	case "logistic":
		return norm2/2 + 0.5*loss
	case "softmax":
		return loss + 0.7/2*norm2
	}
	return loss
}

type family interface {
	model.Model
	model.Objective
}

// members are the models with the strengths that plainObjective has, the data each takes, and by how much their
// objective exceeds the mean loss plus penalty that training minimises.
func members(t *testing.T) map[string]struct {
	m       family
	ds      data.Dataset
	outputs int
	factor  float64
} {
	t.Helper()
	x, y, two, three := table(true)
	numbers := data.DenseTargets("numbers", 3, x, y, 2)
	out := map[string]struct {
		m       family
		ds      data.Dataset
		outputs int
		factor  float64
	}{}
	add := func(name string, m family, err error, ds data.Dataset, outputs int, factor float64) {
		if err != nil {
			t.Fatal(err)
		}
		e := out[name]
		e.m, e.ds, e.outputs, e.factor = m, ds, outputs, factor
		out[name] = e
	}
	c := Config{Dim: 3, Outputs: 2, N: 24}
	lin, err := NewLinear(c)
	add("linear", lin, err, numbers, 2, 2*24)
	ridge, err := NewRidge(c, 2)
	add("ridge", ridge, err, numbers, 2, 2*24)
	lasso, err := NewLasso(c, 0.3)
	add("lasso", lasso, err, numbers, 2, 1)
	logistic, err := NewLogistic(c, 0.5)
	add("logistic", logistic, err, data.Dense("two", 3, x, two, 2), 1, 0.5*24)
	c.Outputs = 3
	softmax, err := NewSoftmax(c, 0.7)
	add("softmax", softmax, err, data.Dense("three", 3, x, three, 3), 3, 24)
	return out
}

// TestObjective holds Objective, and the mean loss plus penalty times the member's factor, to the documented formula;
// and the gradient, penalty included, to that formula's central differences. The lasso's penalty has the gradient
// alpha sign(w) where it has one.
func TestObjective(t *testing.T) {
	for name, c := range members(t) {
		for _, form := range []data.Dataset{c.ds, sparse{c.ds}} {
			what := fmt.Sprintf("%s, sparse %v", name, form.Info().Sparse)
			n := c.m.Layout().Len()
			x, g, p := make([]float32, n), make([]float32, n), make([]float64, n)
			r := rng.New(5, name)
			for i := range x {
				x[i] = 2*r.Float32() - 1
				p[i] = float64(x[i])
			}
			dense := whole(c.ds)
			want := plainObjective(name, p, dense, c.outputs)
			if got := c.m.Objective(x, form); math.Abs(got-want) > 1e-12*want {
				t.Errorf("%s: objective %v, expected %v", what, got, want)
			}
			loss, err := c.m.Grad(context.Background(), x, g, whole(form), nil)
			if err != nil {
				t.Fatal(err)
			}
			mean := float64(loss.Sum) / 24
			if q, ok := c.m.(interface{ Penalty([]float32) float64 }); ok {
				mean += q.Penalty(x)
			}
			if math.Abs(mean*c.factor-want) > 1e-6*want {
				t.Errorf("%s: mean loss and penalty %v times %v, expected %v", what, mean, c.factor, want)
			}
			for i := range g {
				g[i] /= 24
			}
			if q, ok := c.m.(model.Penalised); ok {
				q.AddPenaltyGrad(x, g[:2], 0)
				q.AddPenaltyGrad(x, g[2:n], 2)
			}
			for i := range p {
				const h = 1e-5
				p[i] += h
				up := plainObjective(name, p, dense, c.outputs)
				p[i] -= 2 * h
				down := plainObjective(name, p, dense, c.outputs)
				p[i] += h
				want := (up - down) / (2 * h) / c.factor
				if name == "lasso" && i < c.outputs*3 {
					want -= math.Copysign(0.3, p[i])
				}
				if math.Abs(float64(g[i])-want) > 3e-6*(1+math.Abs(want)) {
					t.Errorf("%s: gradient %d is %v, expected %v", what, i, g[i], want)
				}
			}
		}
	}
}

func TestLayoutAndStart(t *testing.T) {
	for name, c := range members(t) {
		l := c.m.Layout()
		if len(l) != 2 || l[0].Name != "weight" || !slices.Equal(l[0].Shape, []int{c.outputs, 3}) || l[1].Name != "bias" || !slices.Equal(l[1].Shape, []int{c.outputs}) {
			t.Errorf("%s: layout %v", name, l)
		}
		x := []float32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}[:l.Len()]
		c.m.Init(x, 1)
		if slices.ContainsFunc(x, func(v float32) bool { return v != 0 }) {
			t.Errorf("%s starts at %v", name, x)
		}
	}
	_, direct := any((*Lasso)(nil)).(model.Direct)
	_, smooth := any((*Lasso)(nil)).(model.Penalised)
	if direct || smooth {
		t.Error("the lasso has neither a closed form nor a gradient everywhere")
	}
	if m, err := NewLogistic(Config{Dim: 3, N: 1, NoBias: true}, 1); err != nil || len(m.Layout()) != 1 {
		t.Errorf("without bias: %v, %v", m.Layout(), err)
	}
}

// TestProx compares with the definition, argmin_u r(u) + |u-x|^2/(2 rate), searched on a grid.
func TestProx(t *testing.T) {
	m, err := NewLasso(Config{Dim: 6, Outputs: 1, N: 10}, 0.5)
	if err != nil {
		t.Fatal(err)
	}
	start := []float32{1, -1, 0.05, -0.05, 0.1, 0, 3}
	x := slices.Clone(start)
	m.Prox(x, 0, 1, 0.25)
	m.Prox(x, 1, 7, 0.25)
	if x[6] != 3 {
		t.Errorf("the bias moved to %v", x[6])
	}
	for i, v := range start[:6] {
		best, at := math.Inf(1), 0.0
		for u := -2.0; u <= 2; u += 1.0 / 1024 {
			if f := 0.5*math.Abs(u) + (u-float64(v))*(u-float64(v))/(2*0.25); f < best {
				best, at = f, u
			}
		}
		if math.Abs(at-float64(x[i])) > 1.0/1024 {
			t.Errorf("prox of %v is %v, expected %v", v, x[i], at)
		}
	}
	x[0] = float32(math.NaN())
	if m.Prox(x, 0, 1, 0.25); x[0] == x[0] {
		t.Error("Prox hides a NaN")
	}
}

func TestRefuses(t *testing.T) {
	c := Config{Dim: 3, Outputs: 2, N: 10}
	nobody := c
	nobody.N = 0
	for want, build := range map[string]func() (model.Model, error){
		"0 outputs":               func() (model.Model, error) { return NewLinear(Config{Dim: 3}) },
		"samples of 0 features":   func() (model.Model, error) { return NewLinear(Config{Outputs: 1}) },
		"alpha is -1":             func() (model.Model, error) { return NewRidge(c, -1) },
		"alpha is NaN":            func() (model.Model, error) { return NewLasso(c, math.NaN()) },
		"C is 0":                  func() (model.Model, error) { return NewLogistic(c, 0) },
		"l2 is +Inf":              func() (model.Model, error) { return NewSoftmax(c, math.Inf(1)) },
		"number of training samp": func() (model.Model, error) { return NewRidge(nobody, 1) },
	} {
		if _, err := build(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, expected %q", err, want)
		}
	}
}
