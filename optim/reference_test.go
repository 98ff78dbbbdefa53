package optim

import (
	"math"
	"slices"
	"testing"

	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/rng"
	"github.com/covey-ml/covey/spec"
)

// reference is every rule again in float64, one element or one layer at a time, written for likeness to the formulas.
type reference struct {
	name    string
	o       *spec.Spec
	l       model.Layout
	a, b, c []float64 // moments
}

func (r *reference) f(key string, def float64) float64 { return r.o.Float(key, def) }

func (r *reference) step(x, g []float64, t int, rate float64) {
	if most := r.f("clip", math.Inf(1)); !math.IsInf(most, 1) {
		if n := norm64(g); n > most {
			for i := range g {
				g[i] *= most / n
			}
		}
	}
	wd := r.f("weight_decay", map[string]float64{"adamw": 0.01, "lars": 0.0005, "lamb": 0.01}[r.name])
	layerwise := r.name == "lars" || r.name == "lamb"
	decoupled := r.name == "adamw" || r.o.Bool("decoupled", false)
	if !layerwise {
		for i := range x {
			if decoupled {
				x[i] *= 1 - rate*wd
			} else {
				g[i] += wd * x[i]
			}
		}
	}
	b1, b2 := r.f("beta1", 0.9), r.f("beta2", 0.999)
	bias1, bias2 := 1-math.Pow(b1, float64(t)), 1-math.Pow(b2, float64(t))
	mu := r.f("momentum", map[string]float64{"momentum": 0.9, "nesterov": 0.9, "lars": 0.9}[r.name])
	switch r.name {
	case "sgd", "momentum", "nesterov":
		damp := r.f("dampening", 0)
		if t == 1 {
			damp = 0
		}
		for i := range x {
			r.a[i] = mu*r.a[i] + (1-damp)*g[i]
			d := r.a[i]
			if r.name == "nesterov" {
				d = g[i] + mu*d
			}
			x[i] -= rate * d
		}
	case "adagrad":
		rate /= 1 + float64(t-1)*r.f("lr_decay", 0)
		for i := range x {
			if t == 1 {
				r.a[i] = r.f("initial_accumulator_value", 0)
			}
			r.a[i] += g[i] * g[i]
			x[i] -= rate * g[i] / (math.Sqrt(r.a[i]) + r.f("eps", 1e-10))
		}
	case "rmsprop":
		alpha := r.f("alpha", 0.99)
		for i := range x {
			r.a[i] = alpha*r.a[i] + (1-alpha)*g[i]*g[i]
			r.b[i] = alpha*r.b[i] + (1-alpha)*g[i]
			s := r.a[i]
			if r.o.Bool("centered", false) {
				s -= r.b[i] * r.b[i]
			}
			r.c[i] = mu*r.c[i] + g[i]/(math.Sqrt(s)+r.f("eps", 1e-8))
			x[i] -= rate * r.c[i]
		}
	case "adam", "adamw", "lamb":
		u := make([]float64, len(x))
		for i := range x {
			r.a[i] = b1*r.a[i] + (1-b1)*g[i]
			r.b[i] = b2*r.b[i] + (1-b2)*g[i]*g[i]
			r.c[i] = math.Max(r.c[i], r.b[i])
			v := r.b[i]
			if r.o.Bool("amsgrad", false) {
				v = r.c[i]
			}
			u[i] = r.a[i] / bias1 / (math.Sqrt(v/bias2) + r.f("eps", map[bool]float64{false: 1e-8, true: 1e-6}[layerwise]))
		}
		if r.name != "lamb" {
			for i := range x {
				x[i] -= rate * u[i]
			}
			return
		}
		for _, s := range r.l {
			w, u := x[s.Off:s.Off+s.Len], u[s.Off:s.Off+s.Len]
			for i := range w {
				u[i] += wd * w[i]
			}
			ratio := norm64(w) / norm64(u)
			for i := range w {
				w[i] -= rate * ratio * u[i]
			}
		}
	case "ftrl":
		beta, l1, l2 := r.f("beta", 1), r.f("l1", 0), r.f("l2", 0)
		for i := range x {
			if t == 1 {
				r.a[i] = -x[i]*(beta/rate+l2) - math.Copysign(l1, x[i])
			}
			sigma := (math.Sqrt(r.b[i]+g[i]*g[i]) - math.Sqrt(r.b[i])) / rate
			r.a[i] += g[i] - sigma*x[i]
			r.b[i] += g[i] * g[i]
			x[i] = 0
			if z := r.a[i]; math.Abs(z) > l1 {
				x[i] = (math.Copysign(l1, z) - z) / ((beta+math.Sqrt(r.b[i]))/rate + l2)
			}
		}
	case "lars":
		for _, s := range r.l {
			w, g, v := x[s.Off:s.Off+s.Len], g[s.Off:s.Off+s.Len], r.a[s.Off:s.Off+s.Len]
			local := r.f("trust", 0.001) * norm64(w) / (norm64(g) + wd*norm64(w))
			for i := range w {
				v[i] = mu*v[i] + rate*local*(g[i]+wd*w[i])
				w[i] -= v[i]
			}
		}
	}
}

func norm64(x []float64) float64 {
	s := 0.0
	for _, v := range x {
		s += v * v
	}
	return math.Sqrt(s)
}

// TestAgainstFloat64 makes 50 updates along random gradients. Each update rounds x (half a unit in its last place, 6e-8
// relative) and its own change, whose parts carry some ten roundings and, in the adaptive rules, betas that are float32:
// 50*6e-8*|x| plus 2e-6 of the way that x has gone bounds the difference.
func TestAgainstFloat64(t *testing.T) {
	const seed = 7
	for _, rule := range every {
		l := model.Layout{}.Add("a", 70, 61).Add("b", 70).Add("c", 10, 7).Add("d", 3)
		n := l.Len()
		s := parse(t, rule)
		if len(s.Args) == 1 { // momentum:0.8
			s.Opts["momentum"], s.Args = s.Args[0], nil
		}
		ref := &reference{name: s.Name, o: s, l: l, a: make([]float64, n), b: make([]float64, n), c: make([]float64, n)}
		o := make1(t, rule, l)
		r := rng.New(seed, "test "+rule)
		x := random(r, n)
		y := widen(x)
		way := make([]float64, n)
		for step := 1; step <= 50; step++ {
			g := random(r, n)
			was := slices.Clone(y)
			ref.step(y, widen(g), step, float64(float32(0.01)))
			o.Begin(step, 0.01)
			o.Apply(x, g, 0, 1)
			for i := range y {
				way[i] += math.Abs(y[i] - was[i])
			}
		}
		for i := range x {
			if d, bound := math.Abs(float64(x[i])-y[i]), 50*6e-8*(math.Abs(y[i])+way[i])+2e-6*way[i]; d > bound {
				t.Errorf("seed %d: %s: x[%d] is %v, %v in float64: off by %g, bound %g", seed, rule, i, x[i], y[i], d, bound)
				break
			}
		}
	}
}

func widen(x []float32) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(v)
	}
	return out
}
