package nn

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/vec"
)

// within fails unless got is want up to tol times the largest of want.
func within(t testing.TB, what string, got []float32, want []float64, tol float64) {
	t.Helper()
	var top float64
	for _, v := range want {
		top = max(top, math.Abs(v))
	}
	for i, v := range want {
		if d := math.Abs(float64(got[i]) - v); !(d <= tol*top) {
			t.Fatalf("%s: element %d is %g, expected %g (largest %g)", what, i, got[i], v, top)
		}
	}
}

func wide(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

// TestGradAgainstDifferences holds losses and gradients of all layers and heads, dense and sparse, against central
// differences of the float64 reference. 3e-6 is some thirty roundings of float32 on the largest element.
func TestGradAgainstDifferences(t *testing.T) {
	for _, c := range networks() {
		t.Run(c.name, func(t *testing.T) {
			net, x, g := build(t, c.conf)
			for seed := uint64(1); seed <= 3; seed++ {
				b := batch(seed, 9, 7, c.classes, c.targets)
				want := differences(net, x, b)
				loss := reference(net, wide(x), b)
				forms := []*data.Batch{b, sparse(b)}
				if c.dense {
					forms = forms[:1]
				}
				for _, b := range forms {
					for i := range g {
						g[i] = float32(math.NaN()) // Grad overwrites
					}
					l, err := net.Grad(context.Background(), x, g, b, nil)
					if err != nil {
						t.Fatal(err)
					}
					what := fmt.Sprintf("seed %d, sparse %v", seed, len(b.Row) > 0)
					within(t, what, g, want, 3e-6)
					if l.N != 9 || math.Abs(float64(l.Sum)-loss) > 1e-6*loss {
						t.Fatalf("%s: loss %v of %d, expected %v of 9", what, l.Sum, l.N, loss)
					}
				}
			}
		})
	}
}

// TestMicroshards: the sum of the parts' gradients is the whole's, up to rounding, dropout included, however it is cut.
func TestMicroshards(t *testing.T) {
	for _, c := range networks() {
		net, x, g := build(t, c.conf)
		for _, b := range []*data.Batch{batch(5, 13, 7, c.classes, c.targets), sparse(batch(6, 13, 7, c.classes, c.targets))} {
			if c.dense && len(b.Row) > 0 {
				continue
			}
			if _, err := net.Grad(context.Background(), x, g, b, nil); err != nil {
				t.Fatal(err)
			}
			whole := wide(g)
			for _, cut := range []int{1, 3, 5, 13} {
				sum := make([]float32, len(g))
				for lo := 0; lo < b.N; lo += cut {
					if _, err := net.Grad(context.Background(), x, g, rows(b, lo, min(lo+cut, b.N), c.targets), nil); err != nil {
						t.Fatal(err)
					}
					for i, v := range g {
						sum[i] += v
					}
				}
				within(t, fmt.Sprintf("%s cut by %d", c.name, cut), sum, whole, 1e-6)
			}
		}
	}
}

// TestSparseIsDense: the bits of dense samples up to vec.BlockK features and samples, rounding apart beyond.
func TestSparseIsDense(t *testing.T) {
	for _, c := range networks() {
		for _, size := range [][2]int{{vec.BlockK, vec.BlockK}, {vec.BlockK, 3}, {1, vec.BlockK}, {2*vec.BlockK + 5, 2*vec.BlockK + 5}} {
			if c.dense {
				continue
			}
			c.conf.In = size[0]
			net, x, g := build(t, c.conf)
			b := batch(12, size[1], size[0], c.classes, c.targets)
			if _, err := net.Grad(context.Background(), x, g, b, nil); err != nil {
				t.Fatal(err)
			}
			s := make([]float32, len(g))
			if _, err := net.Grad(context.Background(), x, s, sparse(b), nil); err != nil {
				t.Fatal(err)
			}
			if size[0] <= vec.BlockK && !slices.Equal(s, g) {
				t.Errorf("%s: %d samples of %d features: dense and sparse bits differ", c.name, size[1], size[0])
			}
			within(t, c.name, s, wide(g), 1e-5)
		}
	}
}

// TestRowsAreIndependent: a sample's prediction has the same bits alone, in company and in another place.
func TestRowsAreIndependent(t *testing.T) {
	for _, c := range networks() {
		net, x, _ := build(t, c.conf)
		for _, b := range []*data.Batch{batch(7, 37, 7, c.classes, c.targets), sparse(batch(7, 37, 7, c.classes, c.targets))} {
			if c.dense && len(b.Row) > 0 {
				continue
			}
			o := net.Outputs()
			all, one := make([]float32, b.N*o), make([]float32, o)
			if err := net.Predict(context.Background(), x, b, all); err != nil {
				t.Fatal(err)
			}
			for i := range b.N {
				if err := net.Predict(context.Background(), x, rows(b, i, i+1, c.targets), one); err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(one, all[i*o:(i+1)*o]) {
					t.Fatalf("%s: sample %d alone predicts %v, in a batch %v", c.name, i, one, all[i*o:(i+1)*o])
				}
			}
		}
	}
}

// TestDone: every segment is reported once, last layer first, and is final by then.
func TestDone(t *testing.T) {
	for _, c := range networks() {
		net, x, g := build(t, c.conf)
		for _, n := range []int{0, 9} {
			b := batch(8, n, 7, c.classes, c.targets)
			seen := map[string][]float32{}
			var order []int
			_, err := net.Grad(context.Background(), x, g, b, func(s model.Segment) {
				if _, twice := seen[s.Name]; twice {
					t.Fatalf("%s: %s is reported twice", c.name, s.Name)
				}
				seen[s.Name] = slices.Clone(g[s.Off : s.Off+s.Len])
				order = append(order, s.Off)
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range net.Layout() {
				if v, ok := seen[s.Name]; !ok || !slices.Equal(v, g[s.Off:s.Off+s.Len]) {
					t.Fatalf("%s: %s was reported %v, and not final: %v", c.name, s.Name, ok, v)
				}
			}
			if !slices.IsSortedFunc(order, func(a, b int) int { return b - a }) {
				t.Fatalf("%s: segments at %v are not reported last first", c.name, order)
			}
		}
	}
}

func TestEmptyBatch(t *testing.T) {
	for _, c := range networks() {
		net, x, g := build(t, c.conf)
		for _, b := range []*data.Batch{{}, {Dim: 7, Row: []int{0}}} {
			if c.dense && len(b.Row) > 0 {
				continue
			}
			g[0] = 1
			l, err := net.Grad(context.Background(), x, g, b, nil)
			if err != nil || l != (model.Loss{}) || slices.ContainsFunc(g, func(v float32) bool { return v != 0 }) {
				t.Fatalf("%s: Grad of nothing: %v %v, g %v", c.name, l, err, g)
			}
			if m, err := net.Eval(context.Background(), x, b); err != nil || m != (model.Metrics{}) {
				t.Fatalf("%s: Eval of nothing: %v %v", c.name, m, err)
			}
			if err := net.Predict(context.Background(), x, b, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestEval: Eval's loss is the reference's without dropout, and its counts are those of the predictions.
func TestEval(t *testing.T) {
	for _, c := range networks() {
		net, x, _ := build(t, c.conf)
		still := &Network{conf: c.conf}
		still.conf.Layers = slices.Clone(c.conf.Layers)
		for i, l := range still.conf.Layers {
			if _, ok := l.(Dropout); ok {
				still.conf.Layers[i] = Dropout{}
			}
		}
		b := batch(9, 50, 7, c.classes, c.targets)
		m, err := net.Eval(context.Background(), x, b)
		if err != nil {
			t.Fatal(err)
		}
		want := reference(still, wide(x), b)
		if m.N != 50 || math.Abs(m.Loss-want) > 1e-6*want {
			t.Fatalf("%s: loss %v of %d, expected %v of 50", c.name, m.Loss, m.N, want)
		}
		o := net.Outputs()
		out := make([]float32, b.N*o)
		if err := net.Predict(context.Background(), x, b, out); err != nil {
			t.Fatal(err)
		}
		var correct int
		var sq float64
		for i := range b.N {
			p := out[i*o : (i+1)*o]
			if c.classes == 0 {
				for k, v := range p {
					sq += math.Pow(float64(v)-float64(b.Y[i*o+k]), 2)
				}
				continue
			}
			var sum float64
			best := 0
			for k, v := range p {
				sum += float64(v)
				if v > p[best] {
					best = k
				}
			}
			if math.Abs(sum-1) > 1e-6 {
				t.Fatalf("%s: probabilities %v add up to %v", c.name, p, sum)
			}
			if best == int(b.Class[i]) {
				correct++
			}
		}
		if m.Correct != correct || math.Abs(m.SqErr-sq) > 1e-6*sq {
			t.Fatalf("%s: %d correct, squared error %v; predictions say %d and %v", c.name, m.Correct, m.SqErr, correct, sq)
		}
	}
}

// TestLogisticIsStable: no overflow at logits of 1000, and a gradient that keeps its digits where p is nearly 1.
func TestLogisticIsStable(t *testing.T) {
	z := []float32{1000, -1000, 1000, -1000, 30, 0}
	b := &data.Batch{N: 6, Class: []int32{1, 1, 0, 0, 1, 0}}
	dz := make([]float32, 6)
	loss := Logistic{}.Loss(dz, z, b)
	if want := float32(2000 + math.Log(2)); loss != want {
		t.Errorf("loss %v, expected %v", loss, want)
	}
	within(t, "dz", dz, []float64{0, -1, 1, 0, -9.357622968840175e-14, 0.5}, 1e-7)
	if rel := float64(dz[4])/-9.357622968840175e-14 - 1; math.Abs(rel) > 1e-6 {
		t.Errorf("gradient at z=30 is %v, off by %v", dz[4], rel)
	}
}

func digest(x []float32) string {
	var buf bytes.Buffer
	for _, v := range x {
		binary.Write(&buf, binary.LittleEndian, math.Float32bits(v))
	}
	h := sha256.Sum256(buf.Bytes())
	return hex.EncodeToString(h[:8])
}

// TestGolden holds the bits of Init and Grad of one network: a checkpoint made from a seed on one machine is made on
// all. A change here changes the weights of every job.
func TestGolden(t *testing.T) {
	net, x, g := build(t, Config{In: 7, Layers: []Layer{Dense{Out: 20}, ReLU{}, Dropout{P: 0.25}, Dense{Out: 17}, Tanh{}, Dense{Out: 9}, GELU{}, Dense{Out: 3}}, Head: CrossEntropy{}})
	if got, want := digest(x), "29cf3419f5b6ff7c"; got != want {
		t.Errorf("Init has digest %s, expected %s", got, want)
	}
	b := batch(11, 33, 7, 3, 0)
	for i, want := range []string{"024314edfb973618", "024314edfb973618"} {
		if _, err := net.Grad(context.Background(), x, g, []*data.Batch{b, sparse(b)}[i], nil); err != nil {
			t.Fatal(err)
		}
		if got := digest(g); got != want {
			t.Errorf("Grad %d has digest %s, expected %s", i, got, want)
		}
	}
}

// TestInit: torch.nn.Linear's bounds, filled, centred, and a function of the seed alone.
func TestInit(t *testing.T) {
	net, x, y := build(t, Config{In: 50, Layers: []Layer{Dense{Out: 400}, ReLU{}, Dense{Out: 30}}, Head: CrossEntropy{}})
	net.Init(y, 3)
	if !slices.Equal(x, y) {
		t.Error("the same seed gives other parameters")
	}
	net.Init(y, 4)
	if slices.Equal(x, y) {
		t.Error("another seed gives the same parameters")
	}
	fan := map[string]float64{"0.weight": 50, "0.bias": 50, "2.weight": 400, "2.bias": 400}
	for _, s := range net.Layout() {
		bound := 1 / math.Sqrt(fan[s.Name])
		var low, high, sum float64
		for _, v := range x[s.Off : s.Off+s.Len] {
			low, high, sum = min(low, float64(v)), max(high, float64(v)), sum+float64(v)
		}
		// The standard deviation of the mean of n uniforms on ±bound is bound / sqrt(3 n); five of them.
		if tol := 5 * bound / math.Sqrt(3*float64(s.Len)); low < -bound || high > bound || low > -0.8*bound || high < 0.8*bound || math.Abs(sum/float64(s.Len)) > tol {
			t.Errorf("%s: from %v to %v, mean %v; the bound is %v", s.Name, low, high, sum/float64(s.Len), bound)
		}
	}
}

func TestLayout(t *testing.T) {
	net, _, _ := build(t, Config{In: 784, Layers: []Layer{Dense{Out: 128}, ReLU{}, Dropout{P: 0.1}, Dense{Out: 10}}, Head: CrossEntropy{}})
	var got []string
	for _, s := range net.Layout() {
		got = append(got, fmt.Sprint(s.Name, s.Shape, s.Off, s.Len, s.Kind))
	}
	want := []string{"0.weight[128 784] 0 100352 0", "0.bias[128] 100352 128 0", "3.weight[10 128] 100480 1280 0", "3.bias[10] 101760 10 0"}
	if !slices.Equal(got, want) {
		t.Errorf("layout %q, expected %q", got, want)
	}
	if s := net.String(); s != "784, dense 128, relu, dropout 0.1, dense 10, cross-entropy" {
		t.Errorf("prints as %q", s)
	}
	// y and dW of both layers, dx of the second, biases added and summed, relu and dropout there and back.
	if got, want := net.FLOPs(3), int64(3*(4*784*128+2*128+2*128+2*128+6*128*10+2*10)); got != want {
		t.Errorf("%d operations, expected %d", got, want)
	}
	if got, want := net.Forward(3), int64(3*(2*784*128+128+128+128+2*128*10+10)); got != want {
		t.Errorf("%d operations forward, expected %d", got, want)
	}
	// A bias is final before its weight, and after relu and dropout above it; a weight after dx, which reads it.
	for i, want := range []int64{2 * 784 * 128, 128 + 128 + 128, 4 * 128 * 10, 10} {
		if got := net.Backward(3, i); got != 3*want {
			t.Errorf("%s: %d operations, expected %d", net.Layout()[i].Name, got, 3*want)
		}
	}
}

// What Forward and Backward say adds up to FLOPs, whatever the layers.
func TestCostsAddUp(t *testing.T) {
	for _, layers := range [][]Layer{
		{Dense{Out: 3}},
		{Dropout{P: 0.5}, Dense{Out: 3}, Tanh{}},
		{Dense{Out: 7, NoBias: true}, GELU{}, GELU{}, Dense{Out: 3, NoBias: true}, ReLU{}},
		{Tanh{}, Dense{Out: 7}, Dropout{P: 0.1}, ReLU{}, Dense{Out: 5}, Dense{Out: 3}},
	} {
		net, _, _ := build(t, Config{In: 4, Layers: layers, Head: CrossEntropy{}})
		sum := net.Forward(2)
		for i := range net.Layout() {
			if net.Backward(2, i) <= 0 {
				t.Errorf("%v: %s costs nothing", net, net.Layout()[i].Name)
			}
			sum += net.Backward(2, i)
		}
		if want := net.FLOPs(2); sum != want || want == 0 {
			t.Errorf("%v: %d operations in parts, %d in all", net, sum, want)
		}
	}
}

// TestConcurrent: one network, many goroutines, batches of several sizes, the bits of one goroutine.
func TestConcurrent(t *testing.T) {
	for _, c := range networks() {
		net, x, g := build(t, c.conf)
		var batches []*data.Batch
		var want [][]float32
		for i := range 4 {
			b := batch(uint64(20+i), 5+9*i, 7, c.classes, c.targets)
			if _, err := net.Grad(context.Background(), x, g, b, nil); err != nil {
				t.Fatal(err)
			}
			batches, want = append(batches, b), append(want, slices.Clone(g))
		}
		var wg sync.WaitGroup
		for k := range 8 {
			wg.Go(func() {
				g := make([]float32, len(x))
				for r := range 12 {
					i := (k + r) % len(batches)
					if _, err := net.Grad(context.Background(), x, g, batches[i], nil); err != nil || !slices.Equal(g, want[i]) {
						t.Errorf("%s: goroutine %d, round %d: another gradient (%v)", c.name, k, r, err)
						return
					}
					if _, err := net.Eval(context.Background(), x, batches[i]); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
	}
}

func TestNoAllocation(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes sync.Pool forget at random")
	}
	ctx := context.Background()
	for _, c := range networks() {
		net, x, g := build(t, c.conf)
		b := batch(30, 40, 7, c.classes, c.targets)
		out := make([]float32, b.N*net.Outputs())
		forms := []*data.Batch{b, sparse(b)}
		if c.dense {
			forms = forms[:1]
		}
		done := func(model.Segment) {}
		for _, b := range forms {
			if n := testing.AllocsPerRun(100, func() {
				if _, err := net.Grad(ctx, x, g, b, done); err != nil {
					t.Fatal(err)
				}
				if _, err := net.Eval(ctx, x, b); err != nil {
					t.Fatal(err)
				}
				if err := net.Predict(ctx, x, b, out); err != nil {
					t.Fatal(err)
				}
			}); n != 0 {
				t.Errorf("%s, sparse %v: %v allocations a call", c.name, len(b.Row) > 0, n)
			}
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for want, c := range map[string]Config{
		"samples of 0 features":                        {Layers: []Layer{Dense{Out: 2}}, Head: CrossEntropy{}},
		"no head":                                      {In: 3, Layers: []Layer{Dense{Out: 2}}},
		"no layer has parameters":                      {In: 3, Layers: []Layer{ReLU{}}, Head: CrossEntropy{}},
		"layer 1 (dense 0): width 0":                   {In: 3, Layers: []Layer{ReLU{}, Dense{}}, Head: CrossEntropy{}},
		"layer 0 (dropout 1): probability 1":           {In: 3, Layers: []Layer{Dropout{P: 1}}, Head: CrossEntropy{}},
		"layer 0 (dropout NaN): probability NaN":       {In: 3, Layers: []Layer{Dropout{P: math.NaN()}}, Head: CrossEntropy{}},
		"head cross-entropy: 1 class":                  {In: 3, Layers: []Layer{Dense{Out: 1}}, Head: CrossEntropy{}},
		"head logistic: takes one number a sample":     {In: 3, Layers: []Layer{Dense{Out: 2}}, Head: Logistic{}},
		"a bare network has one layer with parameters": {In: 3, Layers: []Layer{Dense{Out: 2}, Dense{Out: 2}}, Head: CrossEntropy{}, Bare: true},
	} {
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, expected %q", err, want)
		}
	}
}

func TestBadBatches(t *testing.T) {
	class, x, g := build(t, Config{In: 7, Layers: []Layer{Dense{Out: 3}}, Head: CrossEntropy{}})
	good := batch(1, 4, 7, 3, 0)
	for want, spoil := range map[string]func(b *data.Batch){
		"samples have 6 features, the model takes 7": func(b *data.Batch) { b.Dim = 6 },
		"holds 27 values":                                         func(b *data.Batch) { b.X = b.X[:27] },
		"has 3 row offsets, expected 5":                           func(b *data.Batch) { b.Row = make([]int, 3) },
		"4 samples have 3 class labels":                           func(b *data.Batch) { b.Class = b.Class[:3] },
		"sample 1007 has class 3; the model knows classes 0 to 2": func(b *data.Batch) { b.Class = []int32{0, 3, 0, 0} },
		"sample 1000 has class -1":                                func(b *data.Batch) { b.Class = []int32{-1, 0, 0, 0} },
	} {
		b := *good
		spoil(&b)
		if _, err := class.Grad(context.Background(), x, g, &b, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Grad: %v, expected %q", err, want)
		}
		if _, err := class.Eval(context.Background(), x, &b); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Eval: %v, expected %q", err, want)
		}
	}
	number, nx, ng := build(t, Config{In: 7, Layers: []Layer{Dense{Out: 2}}, Head: MeanSquared{}})
	if _, err := number.Grad(context.Background(), nx, ng, good, nil); err == nil || !strings.Contains(err.Error(), "4 samples have 0 targets in all; the model predicts 2 each") {
		t.Error(err)
	}
	drop, dx, dg := build(t, Config{In: 7, Layers: []Layer{Dropout{P: 0.5}, Dense{Out: 3}}, Head: CrossEntropy{}})
	if _, err := drop.Grad(context.Background(), dx, dg, sparse(good), nil); err == nil || !strings.Contains(err.Error(), "sparse samples need a dense layer first, and layer 0 is dropout 0.5") {
		t.Error(err)
	}
	unlabelled := *good
	unlabelled.Class = nil
	if err := class.Predict(context.Background(), x, &unlabelled, make([]float32, 12)); err != nil {
		t.Errorf("Predict asks for labels: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := class.Grad(ctx, x, g, good, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled Grad returns %v", err)
	}
	func() {
		defer func() {
			if r := fmt.Sprint(recover()); !strings.Contains(r, "x has 23 elements, the layout 24") {
				t.Errorf("a short x panics with %q", r)
			}
		}()
		class.Grad(context.Background(), x[1:], g, good, nil)
	}()
}
