package convex

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/inproc"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/model/linear"
	"github.com/covey-ml/covey/reduce"
	"github.com/covey-ml/covey/rng"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/vec"
)

// world is a problem, and how many slices its samples are cut into.
type world struct {
	m      model.Model
	ds     data.Dataset
	shards int
}

// ended is what rank 0 had at the end, and whether all ranks had the same.
type ended struct {
	x     []float32
	rep   strategy.Report
	steps int
	state []ckpt.Tensor
}

// solve takes up to so many steps on n workers, from a state if there is one.
func (w world) solve(t *testing.T, n int, o Options, steps int, from []ckpt.Tensor, x32 []float32) ended {
	t.Helper()
	groups := inproc.New(n, 10*time.Second)
	tree := comm.NewTree(w.shards, n)
	out := make([]ended, n)
	errs := make(chan error, n)
	for r, g := range groups {
		go func() {
			defer g.Close()
			errs <- func() error {
				s, err := New(o, w.m.Layout().Len())
				if err != nil {
					return err
				}
				k := &strategy.Worker{Group: g, Tree: tree, Model: w.m, Reducer: &reduce.Exact{Group: g, Tree: tree},
					X: make([]float32, w.m.Layout().Len()), Samples: w.ds.Len(), Total: w.ds.Len()}
				if from != nil {
					copy(k.X, x32)
					if err := s.Load(from); err != nil {
						return err
					}
				}
				kept := map[int]*data.Batch{}
				k.Slice = func(leaf int) (*data.Batch, error) {
					if kept[leaf] == nil {
						kept[leaf] = new(data.Batch)
						lo, hi := data.Slice(leaf, w.shards, w.ds.Len())
						data.View(w.ds, kept[leaf], lo, hi)
					}
					return kept[leaf], nil
				}
				e := &out[r]
				for e.steps < steps && !e.rep.Done {
					if e.rep, err = s.Step(context.Background(), k); err != nil {
						return err
					}
					e.steps++
				}
				e.x, e.state = k.X, s.State()
				return nil
			}()
		}()
	}
	for range groups {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range out[1:] {
		if !slices.Equal(o.x, out[0].x) || o.rep.Loss != out[0].rep.Loss || o.rep.Why != out[0].rep.Why {
			t.Fatalf("the workers ended differently: %+v and %+v", out[0].rep, o.rep)
		}
	}
	return out[0]
}

// draw makes samples of so many features, sparse ones of which a third is written, with classes that a weight vector explains
// but for one in ten.
func draw(r *rand.Rand, n, dim, classes int, sparse bool) data.Dataset {
	w := make([]float64, dim*classes)
	for i := range w {
		w[i] = r.NormFloat64()
	}
	row, col, val, x, class := []int{0}, []int32(nil), []float32(nil), []float32(nil), make([]int32, n)
	for i := range n {
		score := make([]float64, classes)
		for j := range dim {
			v := float32(r.NormFloat64()) * float32(1+j%5)
			if sparse && r.IntN(3) > 0 {
				v = 0
			}
			if x = append(x, v); v != 0 {
				col, val = append(col, int32(j)), append(val, v)
			}
			for c := range score {
				score[c] += float64(v) * w[c*dim+j]
			}
		}
		row = append(row, len(col))
		for c := range score {
			if score[c] > score[class[i]] {
				class[i] = int32(c)
			}
		}
		if r.IntN(10) == 0 {
			class[i] = int32(r.IntN(classes))
		}
	}
	if !sparse {
		return data.Dense("drawn", dim, x, class, classes)
	}
	ds, err := data.CSR("drawn", dim, row, col, val, class, classes, nil)
	if err != nil {
		panic(err)
	}
	return ds
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// methods are all ways to solve.
var methods = []Options{{Method: Newton}, {Method: Newton, Solve: CG}, {Method: LBFGS}, {Method: LBFGS, Memory: 3}}

// condition bounds the condition numbers of the problems: 500 samples with features of up to 4 or so bend the objective
// by less than 1e4, and what is not bent by them is bent by a regulariser of 0.1 or more.
const condition = 1e5

// problems are one of each kind; softmax has no Cholesky of its own and takes conjugate gradients.
func problems(r *rand.Rand, shards int) map[string]world {
	const n, dim = 500, 12
	two, three := draw(r, n, dim, 2, true), draw(r, n, dim, 3, false)
	c := linear.Config{Dim: dim, Outputs: 3, N: n}
	bare := c
	bare.NoBias = true
	x, y := make([]float32, n*dim), make([]float32, n*2)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	for i := range y {
		y[i] = x[i*dim/2] + float32(r.NormFloat64())
	}
	two2 := c
	two2.Outputs = 2
	targets := data.DenseTargets("drawn", dim, x, y, 2)
	return map[string]world{
		"logistic":         {must(linear.NewLogistic(c, 1)), two, shards},
		"logistic no bias": {must(linear.NewLogistic(bare, 100)), two, shards},
		"softmax":          {must(linear.NewSoftmax(c, 0.1)), three, shards},
		"ridge":            {must(linear.NewRidge(two2, 3)), targets, shards},
		"linear":           {must(linear.NewLinear(two2)), targets, shards},
	}
}

// All methods come to the same optimum, with the same bits for every number of workers.
func TestSameOptimumSameBits(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	for name, w := range problems(r, 8) {
		best := math.Inf(1)
		for _, o := range methods {
			one := w.solve(t, 1, o, 300, nil, nil)
			if !one.rep.Done || one.rep.Solving.Gradient > 1e-8 {
				t.Fatalf("seed %d: %s by %+v: after %d steps %+v", seed, name, o, one.steps, *one.rep.Solving)
			}
			obj := w.m.(model.Objective).Objective(one.x, w.ds)
			if math.IsInf(best, 1) {
				best = obj
			}
			// A gradient of 1e-8 of the first leaves the objective within its square times the condition number.
			if math.Abs(obj/best-1) > 1e-16*condition {
				t.Errorf("seed %d: %s by %+v: objective %.15g, by Newton %.15g", seed, name, o, obj, best)
			}
			for _, n := range []int{2, 3, 4, 8, 9} {
				if many := w.solve(t, n, o, 300, nil, nil); !slices.Equal(many.x, one.x) || many.steps != one.steps {
					t.Fatalf("seed %d: %s by %+v: %d workers have other bits than one", seed, name, o, n)
				}
			}
		}
	}
}

// Threads change no bit.
func TestThreads(t *testing.T) {
	seed := rand.Uint64()
	w := problems(rand.New(rand.NewPCG(seed, 1)), 8)["logistic"]
	for _, o := range methods {
		one := w.solve(t, 1, o, 300, nil, nil)
		vec.SetThreads(3)
		three := w.solve(t, 1, o, 300, nil, nil)
		vec.SetThreads(1)
		if !slices.Equal(one.x, three.x) {
			t.Errorf("seed %d: %+v: three threads have other bits than one", seed, o)
		}
	}
}

// A run that was stopped after any step and went on with another number of workers ends as the calm one.
func TestResume(t *testing.T) {
	seed := rand.Uint64()
	w := problems(rand.New(rand.NewPCG(seed, 1)), 8)["logistic no bias"]
	for _, o := range methods {
		calm := w.solve(t, 2, o, 300, nil, nil)
		for _, at := range []int{1, 2, calm.steps / 2, calm.steps - 1, calm.steps} {
			half := w.solve(t, 3, o, at, nil, nil)
			rest := w.solve(t, 1, o, 300, half.state, half.x)
			if !slices.Equal(rest.x, calm.x) {
				t.Fatalf("seed %d: %+v resumed after step %d of %d ends elsewhere", seed, o, at, calm.steps)
			}
		}
	}
}

// The bits of a small fit, for every processor: products that a compiler fuses with a sum on some would show here.
func TestGolden(t *testing.T) {
	const n, dim = 300, 9
	r := rng.New(1, "convex/golden")
	row, col, val, class := []int{0}, []int32(nil), []float32(nil), make([]int32, n)
	x := make([]float32, n*dim)
	for i := range n {
		var sum float32
		for j := range dim {
			if v := float32(r.IntN(7)) / 3; v > 0 && r.IntN(3) > 0 {
				col, val, x[i*dim+j] = append(col, int32(j)), append(val, v), v
				sum += v * float32(1-2*(j%2))
			}
		}
		row = append(row, len(col))
		class[i] = int32(r.IntN(2))
		if r.IntN(4) > 0 && sum > 0 {
			class[i] = 1
		}
	}
	c := linear.Config{Dim: dim, Outputs: 2, N: n}
	logistic, softmax := must(linear.NewLogistic(c, 3)), must(linear.NewSoftmax(c, 0.3))
	sparse := must(data.CSR("golden", dim, row, col, val, class, 2, nil))
	dense := data.Dense("golden", dim, x, class, 2)
	want := map[string]uint64{
		"dense lbfgs:memory=10,tol=1e-08":   0xf8024e35bfe847f0,
		"dense lbfgs:memory=3,tol=1e-08":    0x3ab63266c3271a6b,
		"dense newton:solve=cg,tol=1e-08":   0xcb569a6a7f6fe7f7,
		"dense newton:tol=1e-08":            0x35b9982c35f825b7,
		"softmax lbfgs:memory=10,tol=1e-08": 0x4c58aff244f25c6b,
		"softmax lbfgs:memory=3,tol=1e-08":  0xd2359ff2897f1dd,
		"softmax newton:solve=cg,tol=1e-08": 0xcbeee5b031ae7e86,
		"softmax newton:tol=1e-08":          0xcbeee5b031ae7e86,
		"sparse lbfgs:memory=10,tol=1e-08":  0xd821c4f421315338,
		"sparse lbfgs:memory=3,tol=1e-08":   0xe7563a5bb0c323c1,
		"sparse newton:solve=cg,tol=1e-08":  0xf649fe86fc48dd90,
		"sparse newton:tol=1e-08":           0x29ef242062956125,
	}
	for name, w := range map[string]world{"sparse": {logistic, sparse, 4}, "dense": {logistic, dense, 4}, "softmax": {softmax, sparse, 4}} {
		for _, o := range methods {
			s := must(New(o, w.m.Layout().Len()))
			key := name + " " + s.String()
			var sum uint64
			for _, ts := range w.solve(t, 2, o, 7, nil, nil).state {
				if ts.Name == "x" {
					for _, b := range ts.Data {
						sum = rng.Mix(sum ^ uint64(b))
					}
				}
			}
			if sum != want[key] {
				t.Errorf("%q: %#x,", key, sum)
			}
		}
	}
}

// Newton's method gives the closed form of least squares in a step.
func TestLeastSquares(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	const n, dim = 200, 5
	x, y := make([]float32, n*dim), make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	for i := range y {
		y[i] = 3*x[i*dim] - x[i*dim+1] + 2 + float32(r.NormFloat64())/10
	}
	ds := data.DenseTargets("line", dim, x, y, 1)
	m := must(linear.NewRidge(linear.Config{Dim: dim, Outputs: 1, N: n, Train: ds}, 0.5))
	closed := make([]float32, dim+1)
	stats := make([]float64, m.StatLen())
	var b data.Batch
	data.View(ds, &b, 0, n)
	if err := m.Stats(stats, &b); err != nil {
		t.Fatal(err)
	}
	if err := m.Solve(closed, stats, n); err != nil {
		t.Fatal(err)
	}
	got := world{m, ds, 4}.solve(t, 2, Options{Method: Newton, Solve: Cholesky}, 10, nil, nil)
	if got.steps > 2 {
		t.Errorf("seed %d: %d steps for a parabola", seed, got.steps)
	}
	for i, v := range closed {
		if math.Abs(float64(got.x[i]-v)) > 1e-6 {
			t.Errorf("seed %d: parameter %d is %v, in closed form %v", seed, i, got.x[i], v)
		}
	}
}

// Columns that nothing depends on, or that repeat each other, and classes without a sample stop nobody.
func TestSingular(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	const n, dim = 120, 4
	x, y := make([]float32, n*dim), make([]float32, n)
	class := make([]int32, n)
	for i := range n {
		v := float32(r.NormFloat64())
		x[i*dim], x[i*dim+1], x[i*dim+2] = v, v, float32(r.NormFloat64()) // column 1 repeats 0, column 3 is zero
		y[i] = v + float32(r.NormFloat64())
		class[i] = int32(2 * r.IntN(2)) // class 1 has no sample
	}
	c := linear.Config{Dim: dim, Outputs: 1, N: n}
	three := c
	three.Outputs = 3
	worlds := map[string]world{
		"least squares": {must(linear.NewLinear(c)), data.DenseTargets("d", dim, x, y, 1), 3},
		"empty class":   {must(linear.NewSoftmax(three, 0.1)), data.Dense("d", dim, x, class, 3), 3},
	}
	for name, w := range worlds {
		for _, o := range methods {
			e := w.solve(t, 2, o, 3000, nil, nil)
			if !e.rep.Done || e.rep.Solving.Gradient > 1e-8 || strings.Contains(e.rep.Why, "separable") {
				t.Errorf("seed %d: %s by %+v: %d steps, %s, %+v", seed, name, o, e.steps, e.rep.Why, *e.rep.Solving)
			}
		}
	}
}

// Separable data without a penalty has no optimum, and the report says so; with one it has.
func TestSeparable(t *testing.T) {
	x, class := []float32{-2, -1, 1, 3}, []int32{0, 0, 1, 1}
	ds := data.Dense("apart", 1, x, class, 2)
	c := linear.Config{Dim: 1, Outputs: 2, N: 4}
	for _, o := range methods {
		free := world{must(linear.NewSoftmax(c, 0)), ds, 2}.solve(t, 2, o, 200, nil, nil)
		if !free.rep.Done || !strings.Contains(free.rep.Why, "separable") {
			t.Errorf("%+v without a penalty: %d steps, %q", o, free.steps, free.rep.Why)
		}
		held := world{must(linear.NewSoftmax(c, 0.1)), ds, 2}.solve(t, 2, o, 200, nil, nil)
		if !held.rep.Done || strings.Contains(held.rep.Why, "separable") {
			t.Errorf("%+v with a penalty: %d steps, %q", o, held.steps, held.rep.Why)
		}
	}
}

// A start far off, where whole Newton steps overshoot, still comes home.
func TestFarStart(t *testing.T) {
	seed := rand.Uint64()
	w := problems(rand.New(rand.NewPCG(seed, 1)), 4)["logistic"]
	for _, o := range methods {
		near := w.solve(t, 1, o, 300, nil, nil)
		far := make([]float32, len(near.x))
		for i := range far {
			far[i] = float32(30 - 7*(i%9))
		}
		s := must(New(o, len(far)))
		for i, v := range far {
			s.x[i] = float64(v)
		}
		s.marks[markStart] = 1
		e := w.solve(t, 2, o, 400, s.State(), far)
		a, b := w.m.(model.Objective).Objective(e.x, w.ds), w.m.(model.Objective).Objective(near.x, w.ds)
		if math.Abs(a/b-1) > 1e-10 {
			t.Errorf("seed %d: %+v from afar ends at %v after %d steps, %s; the optimum is %v", seed, o, a, e.steps, e.rep.Why, b)
		}
	}
}

func TestRefusals(t *testing.T) {
	for want, o := range map[string]Options{
		"newton or lbfgs": {Method: "sgd"}, "tol": {Tol: 2}, "memory": {Memory: -1}, "cholesky or cg": {Solve: "lu"},
	} {
		if _, err := New(o, 3); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want one that says %q", o, err, want)
		}
	}
	g := inproc.New(1, time.Second)[0]
	tree := comm.NewTree(1, 1)
	step := func(m model.Model, o Options, n, samples int) error {
		w := &strategy.Worker{Group: g, Tree: tree, Model: m, Reducer: &reduce.Exact{Group: g, Tree: tree}, X: make([]float32, m.Layout().Len()), Samples: samples, Total: 10}
		_, err := must(New(o, n)).Step(context.Background(), w)
		return err
	}
	c := linear.Config{Dim: 2, Outputs: 3, N: 10}
	logistic := must(linear.NewLogistic(c, 1))
	for want, err := range map[string]error{
		"allreduce":      step(must(linear.NewLasso(c, 1)), Options{}, 9, 10),
		"whole training": step(logistic, Options{}, 3, 5),
		"parameters":     step(logistic, Options{}, 4, 10),
		"solve=cg":       step(must(linear.NewSoftmax(c, 1)), Options{Solve: Cholesky}, 9, 10),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error that says %q", err, want)
		}
	}
}

// A whole step sends what its questions' closed forms say, and allocates nothing once it goes.
func TestMessages(t *testing.T) {
	seed := rand.Uint64()
	w := problems(rand.New(rand.NewPCG(seed, 1)), 2)["logistic"]
	groups := inproc.New(2, 10*time.Second)
	tree := comm.NewTree(2, 2)
	errs := make(chan error, 2)
	for r, g := range groups {
		go func() {
			defer g.Close()
			ledger := comm.NewLedger()
			g := comm.Count(g, ledger)
			s := must(New(Options{Method: Newton, Solve: Cholesky}, w.m.Layout().Len()))
			k := &strategy.Worker{Group: g, Tree: tree, Model: w.m, Reducer: &reduce.Exact{Group: g, Tree: tree},
				X: make([]float32, w.m.Layout().Len()), Samples: w.ds.Len(), Total: w.ds.Len()}
			b := new(data.Batch)
			lo, hi := data.Slice(r, 2, w.ds.Len())
			data.View(w.ds, b, lo, hi)
			k.Slice = func(int) (*data.Batch, error) { return b, nil }
			errs <- func() error {
				for i := range 3 {
					if _, err := s.Step(context.Background(), k); err != nil {
						return err
					}
					_, books := ledger.Take()
					n := w.m.Layout().Len()
					triangle, value := int64(8*n*(n+1)/2), int64(8*(head+n))
					least := int64(1) // values: of the trial point, and before of the start
					if i == 0 {
						least++
					}
					sum := books.Sum()
					values := (sum.Payload - triangle) / value
					if !sum.Closes() || sum.Payload != triangle+values*value || values < least || values > least+chordsMost {
						return fmt.Errorf("step %d sent %d bytes: a Hessian of %d and %d to %d times %d", i+1, sum.Payload, triangle, least, least+chordsMost, value)
					}
				}
				return nil
			}()
		}()
	}
	for range 2 {
		if err := <-errs; err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

func TestStepsDoNotAllocate(t *testing.T) {
	w := problems(rand.New(rand.NewPCG(1, 1)), 4)["logistic"]
	for _, o := range methods {
		o.Tol = 1e-300
		g := inproc.New(1, time.Second)[0]
		tree := comm.NewTree(4, 1)
		s := must(New(o, w.m.Layout().Len()))
		k := &strategy.Worker{Group: g, Tree: tree, Model: w.m, Reducer: &reduce.Exact{Group: g, Tree: tree},
			X: make([]float32, w.m.Layout().Len()), Samples: w.ds.Len(), Total: w.ds.Len()}
		var b [4]data.Batch
		for i := range b {
			lo, hi := data.Slice(i, 4, w.ds.Len())
			data.View(w.ds, &b[i], lo, hi)
		}
		k.Slice = func(leaf int) (*data.Batch, error) { return &b[leaf], nil }
		allocs := testing.AllocsPerRun(3, func() {
			if _, err := s.Step(context.Background(), k); err != nil {
				t.Fatal(err)
			}
		})
		if allocs > 1 { // the report of how far it has come
			t.Errorf("%+v: %v allocations a step", o, allocs)
		}
		g.Close()
	}
}
