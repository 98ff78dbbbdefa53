package ctr

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/model/linear"
	"github.com/covey-ml/covey/model/nn"
	"github.com/covey-ml/covey/rng"
)

var ctx = context.Background()

// clicks draws n samples with up to one feature in each of the fields, sometimes more in the last.
func clicks(r *rand.Rand, n, dim int, fields []int) *data.Batch {
	b := &data.Batch{N: n, Dim: dim, Row: []int{0}, Seed: 11}
	for i := range n {
		for f, lo := range fields {
			hi := dim
			if f+1 < len(fields) {
				hi = fields[f+1]
			}
			for col := lo + r.IntN(hi-lo); col < hi && r.IntN(4) > 0; col += 1 + r.IntN(hi-lo) {
				b.Col, b.Val = append(b.Col, int32(col)), append(b.Val, 2*r.Float32()-0.5)
			}
		}
		b.Row, b.ID, b.Class = append(b.Row, len(b.Col)), append(b.ID, i), append(b.Class, int32(r.IntN(2)))
	}
	return b
}

func wideDeep(t testing.TB, dim int, fields []int) *Model {
	t.Helper()
	m, err := NewWideDeep(Config{Dim: dim, Fields: fields, Width: 3, Layers: []nn.Layer{nn.Dense{Out: 5}, nn.Tanh{}}})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func logistic(t testing.TB, dim int) *Model {
	t.Helper()
	m, err := NewLogistic(dim)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func draw(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = 2*r.Float32() - 1
	}
	return x
}

// The logistic model has the bits of package linear's, on samples of any size.
func TestLogisticIsLinear(t *testing.T) {
	const dim, seed = 50, 1
	r := rng.New(seed, "test")
	l, err := linear.NewLogistic(linear.Config{Dim: dim, N: 100}, 1)
	if err != nil {
		t.Fatal(err)
	}
	w := model.NewWhole(logistic(t, dim))
	for _, n := range []int{0, 1, 2, 7, 300} {
		b := clicks(r, n, dim, []int{0, 20})
		x := draw(r, dim+1)
		bias, weight := x[:1], x[1:] // dense parameters come first
		theirs := append(slices.Clone(weight), bias...)
		g, h := make([]float32, dim+1), make([]float32, dim+1)
		loss, err := w.Grad(ctx, x, g, b, nil)
		if err != nil {
			t.Fatal(err)
		}
		want, err := l.Grad(ctx, theirs, h, b, nil)
		if err != nil {
			t.Fatal(err)
		}
		if loss != want || !slices.Equal(g, append(h[dim:], h[:dim]...)) {
			t.Errorf("%d samples: loss %v, want %v; gradient\n%v\nwant bias, then weight\n%v", n, loss, want, g, h)
		}
		e, err := w.Eval(ctx, x, b)
		if err != nil {
			t.Fatal(err)
		}
		f, err := l.Eval(ctx, theirs, b)
		if err != nil {
			t.Fatal(err)
		}
		if e != f {
			t.Errorf("%d samples: %+v, want %+v", n, e, f)
		}
		p, q := make([]float32, 2*n), make([]float32, 2*n)
		if err := w.Predict(ctx, x, b, p); err != nil {
			t.Fatal(err)
		}
		if err := l.Predict(ctx, theirs, b, q); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(p, q) {
			t.Errorf("%d samples: predicts %v, want %v", n, p, q)
		}
	}
}

// loss64 is the sum of the log-losses of a wide-and-deep network of one tanh layer, again, in float64, from Cheng et al.'s
// equations 1 to 3.
func loss64(m *Model, x []float64, b *data.Batch) float64 {
	seg := func(name string) []float64 {
		l := model.NewWhole(m).Layout()
		for _, s := range l {
			if s.Name == name {
				return x[s.Off : s.Off+s.Len]
			}
		}
		panic(name)
	}
	width := m.tables[1].Width
	in := len(m.fields) * width
	var sum float64
	for i := range b.N {
		z := seg("wide.bias")[0] + seg("deep.2.bias")[0]
		a := make([]float64, in)
		for k := b.Row[i]; k < b.Row[i+1]; k++ {
			c, v := int(b.Col[k]), float64(b.Val[k])
			z += v * seg("wide.weight")[c]
			f := 0
			for f+1 < len(m.fields) && c >= m.fields[f+1] {
				f++
			}
			for j := range width {
				a[f*width+j] += v * seg("deep.embedding")[c*width+j]
			}
		}
		for u, out := range seg("deep.2.weight") {
			h := seg("deep.0.bias")[u]
			for j := range in {
				h += seg("deep.0.weight")[u*in+j] * a[j]
			}
			z += out * math.Tanh(h)
		}
		sum += math.Log1p(math.Exp(map[int32]float64{0: z, 1: -z}[b.Class[i]]))
	}
	return sum
}

// The gradient is the slope of the loss, by central differences in float64.
func TestWideDeepGradient(t *testing.T) {
	const seed = 2
	r := rng.New(seed, "test")
	for _, fields := range [][]int{nil, {0, 4, 11}, {0, 1, 2, 3, 19}} {
		m := wideDeep(t, 20, fields)
		w := model.NewWhole(m)
		b := clicks(r, 9, 20, m.fields)
		x := draw(r, w.Layout().Len())
		g := make([]float32, len(x))
		told := map[string]int{}
		loss, err := w.Grad(ctx, x, g, b, func(s model.Segment) { told[s.Name]++ })
		if err != nil {
			t.Fatal(err)
		}
		wide := make([]float64, len(x))
		for i, v := range x {
			wide[i] = float64(v)
		}
		if want := loss64(m, wide, b); math.Abs(float64(loss.Sum)-want) > 1e-5*want {
			t.Errorf("fields %v: loss %v, want %v", fields, loss.Sum, want)
		}
		for i := range x {
			const h = 1e-5
			at := wide[i]
			wide[i] = at + h
			up := loss64(m, wide, b)
			wide[i] = at - h
			down := loss64(m, wide, b)
			wide[i] = at
			if want := (up - down) / (2 * h); !(math.Abs(float64(g[i])-want) < 1e-5*max(1, math.Abs(want))) {
				t.Errorf("seed %d, fields %v: gradient %d is %v, want %v", seed, fields, i, g[i], want)
			}
		}
		for _, s := range w.Layout() {
			if told[s.Name] != 1 {
				t.Errorf("fields %v: %s was said to be final %d times", fields, s.Name, told[s.Name])
			}
		}
	}
}

// Whoever holds the tables gets the same loss and the same gradients, bit for bit, and nothing else of the tables changes.
func TestRowsAreTheWhole(t *testing.T) {
	const dim, seed = 200, 3
	r := rng.New(seed, "test")
	for _, m := range []*Model{logistic(t, dim), wideDeep(t, dim, nil), wideDeep(t, dim, []int{0, 50, 60})} {
		w := model.NewWhole(m)
		all, dense := clicks(r, 40, dim, []int{0, 50, 60}), m.Layout().Len()
		x := draw(r, w.Layout().Len())
		g := make([]float32, len(x))
		for _, b := range []*data.Batch{all, {N: 0, Dim: dim},
			// As data.View has it, whose rows begin anywhere.
			{N: 10, Dim: dim, Row: all.Row[5:16], Col: all.Col, Val: all.Val, Class: all.Class[5:15]}} {
			loss, err := w.Grad(ctx, x, g, b, nil)
			if err != nil {
				t.Fatal(err)
			}
			var p model.Picked
			if err := m.Pick(&p, b); err != nil {
				t.Fatal(err)
			}
			px := slices.Clone(x[:dense])
			want := slices.Clone(g[:dense])
			at := dense
			for i, table := range m.Tables() {
				for row := range int(table.Rows) {
					if slices.Contains(p.Rows[i], uint64(row)) {
						px = append(px, x[at:at+table.Width]...)
						want = append(want, g[at:at+table.Width]...)
					} else if slices.ContainsFunc(g[at:at+table.Width], func(v float32) bool { return v != 0 }) {
						t.Errorf("row %d of %s, which no sample has, has the gradient %v", row, table.Name, g[at:at+table.Width])
					}
					at += table.Width
				}
			}
			if p.Len(m) != len(px) {
				t.Fatalf("Len is %d, want %d", p.Len(m), len(px))
			}
			pg := make([]float32, len(px))
			again, err := m.Grad(ctx, px, pg, b, &p, nil)
			if err != nil {
				t.Fatal(err)
			}
			if again != loss || !slices.Equal(pg, want) {
				t.Errorf("loss %v, want %v; gradient\n%v, want\n%v", again, loss, pg, want)
			}
		}
	}
}

// Pick names each feature once, in order, and each value's place among them.
func TestPick(t *testing.T) {
	for seed := range uint64(50) {
		r := rng.New(seed, "test pick")
		dim := 1 + r.IntN(1<<(1+r.IntN(31)))
		m := logistic(t, dim)
		b := &data.Batch{N: 1 + r.IntN(20), Dim: dim, Row: []int{0}}
		for range b.N {
			var col []int32
			for range r.IntN(30) {
				col = append(col, int32(r.IntN(dim)))
			}
			slices.Sort(col)
			b.Col = append(b.Col, slices.Compact(col)...)
			b.Row = append(b.Row, len(b.Col))
		}
		b.Val = make([]float32, len(b.Col))
		want := []uint64{}
		for _, c := range b.Col {
			want = append(want, uint64(c))
		}
		slices.Sort(want)
		want = slices.Compact(want)
		var p model.Picked
		for range 2 { // the second time over the first
			if err := m.Pick(&p, b); err != nil {
				t.Fatal(err)
			}
			if len(p.Rows) != 1 || !slices.Equal(p.Rows[0], want) {
				t.Fatalf("seed %d: rows %v, want %v", seed, p.Rows, want)
			}
			for k, c := range b.Col {
				if p.Rows[0][p.Place[k]] != uint64(c) {
					t.Fatalf("seed %d: value %d of feature %d is sent to row %d", seed, k, c, p.Rows[0][p.Place[k]])
				}
			}
		}
	}
}

// The size of the tables costs nothing.
func TestHugeTables(t *testing.T) {
	m, err := NewWideDeep(Config{Dim: maxDim, Fields: []int{0, 1 << 30}, Width: 16, Layers: []nn.Layer{nn.Dense{Out: 4}, nn.ReLU{}}})
	if err != nil {
		t.Fatal(err)
	}
	b := &data.Batch{N: 2, Dim: maxDim, Row: []int{0, 2, 3}, Col: []int32{7, math.MaxInt32, 7}, Val: []float32{1, 1, 1}, Class: []int32{0, 1}}
	var p model.Picked
	if err := m.Pick(&p, b); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(p.Rows[1], []uint64{7, math.MaxInt32}) {
		t.Fatalf("rows %v", p.Rows)
	}
	x, g := make([]float32, p.Len(m)), make([]float32, p.Len(m))
	m.Init(x[:m.Layout().Len()], 1)
	at := m.Layout().Len()
	for i, table := range m.Tables() {
		for _, row := range p.Rows[i] {
			table.Initial(1)(x[at:at+table.Width], row)
			at += table.Width
		}
	}
	loss, err := m.Grad(ctx, x, g, b, &p, nil)
	if err != nil || !(math.Abs(float64(loss.Sum)-2*math.Ln2) < 1) {
		t.Errorf("loss %v, %v", loss, err)
	}
}

// A row begins the same whoever makes it, within its bound, unlike its neighbours, and the whole begins so.
func TestRowsBegin(t *testing.T) {
	m := wideDeep(t, 100, nil)
	w := model.NewWhole(m)
	x := make([]float32, w.Layout().Len())
	w.Init(x, 7)
	table := m.Tables()[1]
	embedding := x[len(x)-100*table.Width:]
	seen := map[float32]bool{}
	for row := range 100 {
		v := make([]float32, table.Width)
		table.Initial(7)(v, uint64(row))
		if !slices.Equal(v, embedding[row*table.Width:(row+1)*table.Width]) {
			t.Errorf("row %d begins as %v", row, v)
		}
		for _, u := range v {
			if u < -Embedding || u >= Embedding || seen[u] {
				t.Errorf("row %d begins as %v", row, v)
			}
			seen[u] = true
		}
	}
	if i := slices.IndexFunc(x[m.Layout().Len()-1:len(x)-len(embedding)], func(v float32) bool { return v != 0 }); i >= 0 {
		t.Errorf("the bias and the weights begin at 0, and %d does not", i)
	}
	other := make([]float32, table.Width)
	if table.Initial(8)(other, 0); slices.Equal(other, embedding[:table.Width]) {
		t.Error("another seed begins alike")
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		c    Config
		want string
	}{
		{Config{Dim: 0, Width: 1}, "samples of 0 features"},
		{Config{Dim: maxDim + 1, Width: 1}, "are possible"},
		{Config{Dim: 5}, "embeddings of 0 numbers"},
		{Config{Dim: 5, Width: 1, Fields: []int{1}}, "begin with feature 0"},
		{Config{Dim: 5, Width: 1, Fields: []int{0, 3, 3}}, "increasing order"},
		{Config{Dim: 5, Width: 1, Fields: []int{0, 5}}, "below 5"},
		{Config{Dim: 5, Width: 1, Layers: []nn.Layer{nn.Dense{Out: 0}}}, "width 0"},
	} {
		if _, err := NewWideDeep(c.c); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error is %v, want one with %q", c.c, err, c.want)
		}
	}
	m := logistic(t, 5)
	w := model.NewWhole(m)
	x := make([]float32, 6)
	for want, b := range map[string]*data.Batch{
		"takes sparse ones":     {N: 1, Dim: 5, X: make([]float32, 5), Class: []int32{0}},
		"3 row offsets":         {N: 1, Dim: 5, Row: []int{0, 0, 0}, Class: []int32{0}},
		"samples have 6 feat":   {N: 1, Dim: 6, Row: []int{0, 0}, Class: []int32{0}},
		"feature 5, the model":  {N: 1, Dim: 5, Row: []int{0, 1}, Col: []int32{5}, Val: []float32{1}, Class: []int32{0}},
		"feature -1, the model": {N: 1, Dim: 5, Row: []int{0, 1}, Col: []int32{-1}, Val: []float32{1}, Class: []int32{0}},
		"class 2":               {N: 1, Dim: 5, ID: []int{0}, Row: []int{0, 0}, Class: []int32{2}},
		"have 0 class labels":   {N: 1, Dim: 5, Row: []int{0, 0}},
	} {
		if _, err := w.Grad(ctx, x, make([]float32, 6), b, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want one with %q", err, want)
		}
	}
	var p model.Picked
	b := clicks(rng.New(1, "test"), 5, 5, []int{0})
	if err := m.Pick(&p, b); err != nil {
		t.Fatal(err)
	}
	b.Row = []int{0, 1, 1, 1, 1, 1}
	if _, err := m.Eval(ctx, make([]float32, p.Len(m)), b, &p); err == nil || !strings.Contains(err.Error(), "Pick was not asked") {
		t.Errorf("error is %v", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	deep := model.NewWhole(wideDeep(t, 5, nil))
	v := make([]float32, deep.Layout().Len())
	if _, err := deep.Grad(ended, v, slices.Clone(v), clicks(rng.New(1, "test"), 5, 5, []int{0}), nil); err != context.Canceled {
		t.Errorf("error is %v", err)
	}
}

func BenchmarkGrad(b *testing.B) {
	const dim = 1 << 20
	fields := make([]int, 32)
	for i := range fields {
		fields[i] = i * dim / len(fields)
	}
	batch := clicks(rng.New(1, "bench"), 256, dim, fields)
	deep, err := NewWideDeep(Config{Dim: dim, Fields: fields, Width: 8, Layers: []nn.Layer{nn.Dense{Out: 64}, nn.ReLU{}}})
	if err != nil {
		b.Fatal(err)
	}
	for name, m := range map[string]*Model{"logistic": logistic(b, dim), "wide-deep": deep} {
		b.Run(name, func(b *testing.B) {
			var p model.Picked
			if err := m.Pick(&p, batch); err != nil {
				b.Fatal(err)
			}
			x, g := make([]float32, p.Len(m)), make([]float32, p.Len(m))
			b.ReportAllocs()
			for b.Loop() {
				if err := m.Pick(&p, batch); err != nil {
					b.Fatal(err)
				}
				if _, err := m.Grad(ctx, x, g, batch, &p, nil); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)*float64(batch.N)/b.Elapsed().Seconds(), "samples/s")
		})
	}
}
