package optim

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/rng"
	"github.com/covey-ml/covey/spec"
)

// every is each rule, plain and with each of its parameters.
var every = []string{
	"sgd", "sgd:weight_decay=0.1", "momentum", "momentum:0.8,dampening=0.3,weight_decay=0.01", "nesterov",
	"nesterov:weight_decay=0.1,decoupled=true", "adagrad", "adagrad:lr_decay=0.1,initial_accumulator_value=0.5,eps=1e-3",
	"rmsprop", "rmsprop:alpha=0.9,momentum=0.5,weight_decay=0.1", "rmsprop:centered=true", "rmsprop:centered=true,momentum=0.9",
	"adam", "adam:beta1=0.8,beta2=0.9,eps=1e-3,weight_decay=0.1", "adam:amsgrad=true", "adamw", "adamw:weight_decay=0.3",
	"lars", "lars:momentum=0.5,trust=0.1,weight_decay=0", "lamb", "lamb:weight_decay=0", "adam:clip=0.5", "lamb:clip=3",
	"ftrl", "ftrl:beta=0.5,l1=0.1,l2=0.3",
}

// layers has sizes around the kernels' lanes and the norms' blocks, and running statistics in the middle and at the end.
func layers() model.Layout {
	l := model.Layout{}.Add("a", 70, 61).Add("b", 70).Add("stats", 9).Add("c", 10, 7).Add("d", 1).Add("more", 3)
	l[2].Kind, l[5].Kind = model.Buffer, model.Buffer
	return l
}

func random(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = 2*r.Float32() - 1
	}
	return x
}

func same(a, b []float32) int {
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			return i
		}
	}
	return -1
}

func TestNamesAreAllMade(t *testing.T) {
	for _, c := range Names() {
		if o := make1(t, c.Name, layers()); c.Help == "" || o == nil {
			t.Errorf("%s: help %q", c.Name, c.Help)
		}
		more := ":weight_decay=0.1,clip=2"
		if c.Name == "ftrl" {
			more = ":l2=0.1,clip=2"
		}
		if o := make1(t, c.Name+more, layers()); o.Local() {
			t.Errorf("%s with clip says it is local", c.Name)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"adm":                             `unknown optimizer "adm": did you mean "adam"?`,
		"adam:beta3=0.9":                  `unknown parameter "beta3": did you mean "beta1"?`,
		"adam:0.001":                      `"0.001" has no name`,
		"sgd:0.1":                         `the rate is given apart`,
		"momentum:0.9,0.5":                `"0.5" has no name`,
		"momentum:0.9,momentum=0.8":       `"0.9" has no name`,
		"momentum:1":                      "momentum is 1, expected a number from 0 to below 1",
		"momentum:0.99999999999":          "expected a number from 0 to below 1",
		"adam:beta1=-0.1":                 "beta1 is -0.1",
		"adam:eps=0":                      "eps is 0, expected a number above 0",
		"adam:eps=1e-60":                  "expected a number above 0",
		"adam:weight_decay=-1":            "weight_decay is -1, expected a number from 0 on",
		"adam:weight_decay=inf":           "weight_decay is +Inf",
		"sgd:clip=0":                      "clip is 0",
		"sgd:clip=inf":                    "clip is +Inf",
		"sgd:clip=NaN":                    "expected a number",
		"sgd:nesterov=true":               "momentum above 0 and dampening 0",
		"nesterov:dampening=0.1":          "momentum above 0 and dampening 0",
		"nesterov:0":                      "momentum above 0 and dampening 0",
		"rmsprop:centered=perhaps":        "true or false",
		"lars:decoupled=true":             `unknown parameter "decoupled"`,
		"adagrad:initial_accumulator_v=1": "initial_accumulator_value",
		"ftrl:weight_decay=0.1":           `unknown parameter "weight_decay"`,
		"ftrl:beta=0":                     "beta is 0, expected a number above 0",
	} {
		_, err := New(parse(t, in), layers())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error is %v, want one with %q", in, err, want)
		}
	}
}

// One Spec serves every worker of a process.
func TestNewLeavesTheSpecAlone(t *testing.T) {
	s := parse(t, "momentum:0.5,weight_decay=0.1")
	for range 2 {
		o, err := New(s, layers())
		if err != nil {
			t.Fatal(err)
		}
		if mu := o.(*elementwise).rule.(*sgd).mu; mu != 0.5 {
			t.Fatalf("momentum is %v, want 0.5", mu)
		}
	}
	if _, err := New(&spec.Spec{Name: "adam"}, layers()); err != nil {
		t.Fatal(err)
	}
}

// TestRangesGiveTheSameBits applies Local rules by ranges, in any order, in several goroutines.
func TestRangesGiveTheSameBits(t *testing.T) {
	const seed = 1
	for _, rule := range every {
		l := layers()
		n := l.Len()
		whole, cut := make1(t, rule, l), make1(t, rule, l)
		if !whole.Local() {
			continue
		}
		r := rng.New(seed, "test "+rule)
		x := random(r, n)
		y := slices.Clone(x)
		for step := 1; step <= 4; step++ {
			g := random(r, n)
			h := slices.Clone(g)
			whole.Begin(step, 0.01)
			whole.Apply(x, g, 0, 1)

			ends := []int{0, 0, n} // an empty range too
			for range 12 {
				ends = append(ends, r.IntN(n+1))
			}
			slices.Sort(ends)
			cut.Begin(step, 0.01)
			var wg sync.WaitGroup
			for _, k := range r.Perm(len(ends) - 1) {
				wg.Go(func() { cut.Apply(y, h[ends[k]:ends[k+1]], ends[k], 1) })
			}
			wg.Wait()
			if i := same(x, y); i >= 0 {
				t.Fatalf("seed %d: %s: after update %d with ends %v x[%d] is %v by ranges, %v as a whole", seed, rule, step, ends, i, y[i], x[i])
			}
		}
	}
}

// TestScale: dividing on the way gives the bits of dividing before.
func TestScale(t *testing.T) {
	const seed, mean = 8, float32(1) / 96
	for _, rule := range every {
		l := layers()
		n := l.Len()
		onWay, before := make1(t, rule, l), make1(t, rule, l)
		r := rng.New(seed, "test "+rule)
		x := random(r, n)
		y := slices.Clone(x)
		for step := 1; step <= 3; step++ {
			g := random(r, n)
			h := slices.Clone(g)
			for i := range h {
				h[i] *= mean
			}
			onWay.Begin(step, 0.01)
			onWay.Apply(x, g, 0, mean)
			before.Begin(step, 0.01)
			before.Apply(y, h, 0, 1)
			if i := same(x, y); i >= 0 {
				t.Fatalf("seed %d: %s: after update %d x[%d] is %v, and %v when g was divided before", seed, rule, step, i, x[i], y[i])
			}
		}
	}
}

func TestBuffersAreLeftAlone(t *testing.T) {
	const seed = 2
	for _, rule := range every {
		l := layers()
		r := rng.New(seed, "test "+rule)
		x, g := random(r, l.Len()), random(r, l.Len())
		was := slices.Clone(x)
		other := slices.Clone(x)
		h := slices.Clone(g)
		for _, s := range l {
			for i := s.Off; i < s.Off+s.Len && s.Kind == model.Buffer; i++ {
				h[i] = 1e20 // counts in no norm
			}
		}
		a, b := make1(t, rule, l), make1(t, rule, l)
		a.Begin(1, 0.1)
		a.Apply(x, g, 0, 1)
		b.Begin(1, 0.1)
		b.Apply(other, h, 0, 1)
		if i := same(x, other); i >= 0 {
			t.Errorf("%s: a buffer's gradient changed x[%d]", rule, i)
		}
		for _, s := range l {
			moved := same(x[s.Off:s.Off+s.Len], was[s.Off:s.Off+s.Len]) >= 0
			if moved != (s.Kind == model.Parameter) {
				t.Errorf("%s: segment %s of kind %d: moved is %v", rule, s.Name, s.Kind, moved)
			}
		}
	}
}

// TestStateRoundTrip saves after 3 updates, loads in a fresh rule and goes on: the bits of the one that was not
// interrupted.
func TestStateRoundTrip(t *testing.T) {
	const seed = 3
	for _, rule := range every {
		l := layers()
		n := l.Len()
		r := rng.New(seed, "test "+rule)
		a := make1(t, rule, l)
		x := random(r, n)
		var grads [][]float32
		for range 6 {
			grads = append(grads, random(r, n))
		}
		var b Optimizer
		var y []float32
		for k, g := range grads {
			if k == 3 {
				b, y = make1(t, rule, l), slices.Clone(x)
				var saved []ckpt.Tensor
				for _, s := range a.State() {
					s.Data = slices.Clone(s.Data)
					saved = append(saved, s)
				}
				slices.Reverse(saved) // order must not matter
				if err := b.Load(saved); err != nil {
					t.Fatalf("%s: %v", rule, err)
				}
				for _, s := range saved { // Load copies
					clear(s.Data)
				}
			}
			a.Begin(k+1, 0.01)
			a.Apply(x, slices.Clone(g), 0, 1)
			if b != nil {
				b.Begin(k+1, 0.01)
				b.Apply(y, slices.Clone(g), 0, 1)
			}
		}
		if i := same(x, y); i >= 0 {
			t.Errorf("seed %d: %s: x[%d] is %v after a restart, %v without", seed, rule, i, y[i], x[i])
		}
	}
}

func TestLoadRefusesAndChangesNothing(t *testing.T) {
	const seed = 4
	for _, rule := range every {
		l := layers()
		n := l.Len()
		o := make1(t, rule, l)
		r := rng.New(seed, "test "+rule)
		o.Begin(1, 0.1)
		o.Apply(random(r, n), random(r, n), 0, 1)
		state := func() string { return ckpt.WeightsHash(o.State()) }
		before := state()

		good := o.State()
		refuse := func(what, want string, ts []ckpt.Tensor) {
			t.Helper()
			if err := o.Load(ts); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %s: error is %v, want one that names %s", rule, what, err, want)
			}
			if state() != before {
				t.Errorf("%s: %s: the refused Load changed the state", rule, what)
			}
		}
		zeros := func(k, n int) []ckpt.Tensor { // good, zeroed, tensor k with n elements
			var ts []ckpt.Tensor
			for i, g := range good {
				m := g.Len()
				if i == k {
					m = n
				}
				ts = append(ts, ckpt.Float32s(g.Name, nil, make([]float32, m)))
			}
			return ts
		}
		refuse("an unknown tensor", "stranger", append(zeros(-1, 0), ckpt.Float32s("stranger", nil, make([]float32, n))))
		if last := len(good) - 1; last >= 0 {
			refuse("a short tensor", good[last].Name, zeros(last, n-1))
			refuse("a missing tensor", good[last].Name, zeros(-1, 0)[:last])
			other := zeros(-1, 0)
			other[last] = ckpt.Uint64s(good[last].Name, nil, make([]uint64, n))
			refuse("another type", good[last].Name, other)
		}
	}
	adam, rms := make1(t, "adam", layers()), make1(t, "rmsprop", layers())
	if err := adam.Load(rms.State()); err == nil || !strings.Contains(err.Error(), "adam.m") || !strings.Contains(err.Error(), "rmsprop.square") {
		t.Errorf("adam took rmsprop's state: %v", err)
	}
}

func TestApplyDoesNotAllocate(t *testing.T) {
	for _, rule := range every {
		l := layers()
		o := make1(t, rule, l)
		r := rng.New(5, "test")
		x, g := random(r, l.Len()), random(r, l.Len())
		step := 0
		if n := testing.AllocsPerRun(20, func() {
			step++
			o.Begin(step, 1e-3)
			o.Apply(x, g, 0, 1)
		}); n != 0 {
			t.Errorf("%s: %v allocations an update", rule, n)
		}
	}
}

func TestClipBoundsTheNorm(t *testing.T) {
	const seed = 6
	l := layers()
	r := rng.New(seed, "test")
	for range 20 {
		g := random(r, l.Len())
		x := make([]float32, l.Len())
		o := make1(t, "sgd:clip=2", l)
		o.Begin(1, 1)
		o.Apply(x, slices.Clone(g), 0, 1)
		var norm, dot, gg float64
		for i := range x {
			norm += float64(x[i]) * float64(x[i])
			if x[i] != 0 {
				gg += float64(g[i]) * float64(g[i])
				dot -= float64(x[i]) * float64(g[i])
			}
		}
		// The factor and each product round to float32: twice 2^-24.
		if n := math.Sqrt(norm); n > 2*(1+0x1p-23) || n < 2-1e-5 {
			t.Errorf("seed %d: the clipped norm is %v, want 2", seed, n)
		}
		if cos := dot / math.Sqrt(norm*gg); cos < 1-1e-6 {
			t.Errorf("seed %d: clipping turned the gradient: cosine %v", seed, cos)
		}
	}
	// What is not a number is not hidden.
	x, g := make([]float32, l.Len()), make([]float32, l.Len())
	g[0] = float32(math.NaN())
	o := make1(t, "sgd:clip=2", l)
	o.Begin(1, 1)
	o.Apply(x, g, 0, 1)
	if x[1] == x[1] {
		t.Errorf("a gradient that is not a number gave %v", x[1])
	}
}

func TestMisusePanics(t *testing.T) {
	l := layers()
	n := l.Len()
	x := make([]float32, n)
	for name, f := range map[string]func(){
		"update 0":                func() { make1(t, "sgd", l).Begin(0, 1) },
		"lamb update 0":           func() { make1(t, "lamb", l).Begin(0, 1) },
		"beyond the end":          func() { make1(t, "sgd", l).Apply(x, x, 1, 1) },
		"short x":                 func() { make1(t, "sgd", l).Apply(x[1:], x[1:], 0, 1) },
		"before the start":        func() { make1(t, "sgd", l).Apply(x, x[1:], -1, 1) },
		"lars, half of a segment": func() { make1(t, "lars", l).Apply(x, x[:1], 0, 1) },
		"clip in ranges":          func() { make1(t, "sgd:clip=1", l).Apply(x, x[1:], 1, 1) },
		"schedule rate 0":         func() { schedule(t, "constant", 1, 0, 1).Rate(0) },
	} {
		func() {
			defer func() {
				if p := recover(); p == nil || !strings.Contains(fmt.Sprint(p), "optim: ") {
					t.Errorf("%s: panic is %v", name, p)
				}
			}()
			f()
		}()
	}
}
