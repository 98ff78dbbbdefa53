package vec

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/covey-ml/covey/rng"
)

// benchCSR draws a matrix with per entries a row, in increasing columns.
func benchCSR(rows, cols, per int) (row []int, col []int32, val []float32) {
	r := rng.New(1, "vec bench")
	row = make([]int, rows+1)
	for i := range rows {
		c := make([]int32, 0, per)
		for len(c) < per {
			if j := int32(r.IntN(cols)); !slices.Contains(c, j) {
				c = append(c, j)
			}
		}
		slices.Sort(c)
		col = append(col, c...)
		row[i+1] = len(col)
	}
	val = make([]float32, len(col))
	for i := range val {
		val[i] = r.Float32()
	}
	return row, col, val
}

func widen(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

func BenchmarkSparse(b *testing.B) {
	for _, shape := range []struct{ rows, cols, per int }{{32561, 123, 14}, {20000, 50000, 60}} {
		row, col, val := benchCSR(shape.rows, shape.cols, shape.per)
		const width = 10
		w, y, g := benchNumbers(shape.cols*width), make([]float32, shape.rows*width), make([]float32, shape.cols*width)
		w64, z, g64 := widen(w[:shape.cols]), make([]float64, shape.rows), make([]float64, shape.cols)
		var one, wide float64
		CSRMatVec(y[:shape.rows], row, col, val, w[:shape.cols])
		CSRMargins(z, row, col, val, w64)
		for i := range z {
			one += math.Abs(z[i] - float64(y[i]))
			wide = max(wide, math.Abs(z[i]))
		}
		if one > 1e-5*float64(shape.rows)*wide {
			b.Fatalf("the two margins differ by %g", one)
		}
		for _, k := range []struct {
			name string
			f    func()
		}{
			{"MatVec", func() { CSRMatVec(y[:shape.rows], row, col, val, w[:shape.cols]) }},
			{"TMatMul1", func() { CSRTMatMul(g[:shape.cols], row, col, val, y[:shape.rows], 1) }},
			{"MatMul10", func() { CSRMatMul(y, row, col, val, w, width) }},
			{"TMatMul10", func() { CSRTMatMul(g, row, col, val, y, width) }},
			{"Margins", func() { CSRMargins(z, row, col, val, w64) }},
			{"MarginsOnes", func() { CSRMargins(z, row, col, nil, w64) }},
			{"AddGrad", func() { CSRAddGrad(g64, row, col, val, z) }},
			{"AddGradOnes", func() { CSRAddGrad(g64, row, col, nil, z) }},
			{"AddHess", func() { CSRAddHess(g64, row, col, val, z, w64) }},
		} {
			b.Run(fmt.Sprintf("%s/%dx%dx%d", k.name, shape.rows, shape.cols, shape.per), func(b *testing.B) {
				for b.Loop() {
					k.f()
				}
				b.ReportMetric(b.Elapsed().Seconds()*1e9/float64(b.N)/float64(len(col)), "ns/entry")
			})
		}
	}
}

func TestSparseAgainstDense(t *testing.T) {
	s := newSource(33, plain)
	const rows, cols, n = 30, 40, 9
	row, col, val := s.csr(rows, cols)
	dense := make([]float64, rows*cols)
	for i := range rows {
		for p := row[i]; p < row[i+1]; p++ {
			dense[i*cols+int(col[p])] += float64(val[p])
		}
	}
	b, a := s.numbers(cols*n), s.numbers(rows*n)
	c, g := s.raw(rows*n), make([]float32, cols*n)
	CSRMatMul(c, row, col, val, b, n)
	CSRTMatMul(g, row, col, val, a, n)
	near := func(name string, got float32, want float64) {
		t.Helper()
		if math.Abs(float64(got)-want) > 1e-5 {
			t.Errorf("%s: %g, want %g", name, got, want)
		}
	}
	for j := range n {
		for i := range rows {
			var want float64
			for q := range cols {
				want += dense[i*cols+q] * float64(b[q*n+j])
			}
			near("product", c[i*n+j], want)
		}
		for q := range cols {
			var want float64
			for i := range rows {
				want += dense[i*cols+q] * float64(a[i*n+j])
			}
			near("transposed product", g[q*n+j], want)
		}
	}
	// A column of the product is the product with that column, bit by bit.
	w, y := make([]float32, cols), make([]float32, rows)
	for q := range w {
		w[q] = b[q*n+4]
	}
	CSRMatVec(y, row, col, val, w)
	for i := range y {
		if y[i] != c[i*n+4] {
			t.Errorf("row %d: %g as a vector, %g as a column", i, y[i], c[i*n+4])
		}
	}
}

// TestSparse64AgainstDense compares with plain loops over a dense matrix.
func TestSparse64AgainstDense(t *testing.T) {
	const seed = 34
	for round := range 40 {
		s := newSource(seed, plain, uint64(round))
		rows, cols := 1+s.r.IntN(40), 1+s.r.IntN(30)
		row, col, val := s.csr(rows, cols)
		if round%2 == 1 {
			val = nil
		}
		x := make([]float64, rows*cols)
		for i := range rows {
			for p := row[i]; p < row[i+1]; p++ {
				v := 1.0
				if val != nil {
					v = float64(val[p])
				}
				x[i*cols+int(col[p])] += v
			}
		}
		w, r, g := widen(s.numbers(cols)), widen(s.numbers(rows)), widen(s.numbers(cols))
		z, h := make([]float64, rows), slices.Clone(g)
		wantG, wantH := slices.Clone(g), slices.Clone(g)
		CSRMargins(z, row, col, val, w)
		CSRAddGrad(g, row, col, val, r)
		CSRAddHess(h, row, col, val, r, w)
		for i := range rows {
			var want float64
			for j := range cols {
				want += x[i*cols+j] * w[j]
			}
			if math.Abs(z[i]-want) > 1e-13 {
				t.Fatalf("seed %d, round %d: margin %d is %v, want %v", seed, round, i, z[i], want)
			}
			for j := range cols {
				wantG[j] += x[i*cols+j] * r[i]
				wantH[j] += x[i*cols+j] * r[i] * want
			}
		}
		for j := range cols {
			if math.Abs(g[j]-wantG[j]) > 1e-12 || math.Abs(h[j]-wantH[j]) > 1e-12 {
				t.Fatalf("seed %d, round %d: column %d: gradient %v and product %v, want %v and %v", seed, round, j, g[j], h[j], wantG[j], wantH[j])
			}
		}
	}
}

// TestSparsePanics: an index out of range is caught before it is used.
func TestSparsePanics(t *testing.T) {
	w, z := make([]float64, 3), make([]float64, 1)
	for name, f := range map[string]func(){
		"column":          func() { CSRMargins(z, []int{0, 2}, []int32{0, 3}, nil, w) },
		"negative column": func() { CSRAddGrad(w, []int{0, 2}, []int32{-1, 2}, []float32{1, 1}, z) },
		"row":             func() { CSRAddHess(w, []int{0, 3}, []int32{0, 2}, nil, z, w) },
		"rows":            func() { CSRMargins(z, []int{0, 1, 2}, []int32{0, 2}, nil, w) },
		"values":          func() { CSRMargins(z, []int{0, 2}, []int32{0, 2}, []float32{1}, w) },
		"column of many":  func() { CSRMargins(z, []int{0, 11}, []int32{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3}, nil, w) },
		"float32":         func() { CSRMatVec(make([]float32, 1), []int{0, 1}, []int32{7}, []float32{1}, make([]float32, 7)) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

func TestLogLoss(t *testing.T) {
	var z []float64
	var class []int32
	for v := -40.0; v <= 40; v += 0.0137 {
		z, class = append(z, v, v), append(class, 0, 1)
	}
	z, class = append(z, 0, -800, 800, 1e-300), append(class, 1, 1, 1, 0)
	r, d := make([]float64, len(z)), make([]float64, len(z))
	sum := LogLoss(r, d, z, class)
	const bound = 0x1p-47 // at |z| = 40
	near := func(got, want float64) bool {
		return math.Abs(got-want) <= bound*math.Abs(want) || math.Abs(want) < 1e-300 && math.Abs(got) < 1e-300
	}
	var want float64
	for i, v := range z {
		s := 2*float64(class[i]) - 1
		loss := math.Max(-s*v, 0) + math.Log1p(math.Exp(-math.Abs(v)))
		want += loss
		if one := LogLoss(make([]float64, 1), nil, z[i:i+1], class[i:i+1]); !near(one, loss) {
			t.Errorf("loss of %v, class %d is %v, want %v", v, class[i], one, loss)
		}
		e := math.Exp(-math.Abs(v))
		if p := e / ((1 + e) * (1 + e)); !near(d[i], p) {
			t.Errorf("second derivative of %v is %v, want %v", v, d[i], p)
		}
		if p := -s / (1 + math.Exp(s*v)); !near(r[i], p) {
			t.Errorf("derivative of %v, class %d is %v, want %v", v, class[i], r[i], p)
		}
	}
	if !near(sum, want) {
		t.Errorf("sum %v, want %v", sum, want)
	}
	for _, v := range []float64{math.NaN()} {
		z := []float64{1, v, 2, 3}
		if l := LogLoss(z, nil, z, []int32{0, 1, 0, 1}); l == l || z[1] == z[1] || z[0] != z[0] {
			t.Errorf("loss %v and derivatives %v with a NaN", l, z)
		}
	}
}

func BenchmarkLogLoss(b *testing.B) {
	const n = 20_000
	z, r, d, class := widen(benchNumbers(n)), make([]float64, n), make([]float64, n), make([]int32, n)
	var want float64
	for i := range z {
		z[i] *= 3
		class[i] = int32(i & 1)
		want += math.Log1p(math.Exp(z[i] * float64(1-2*class[i])))
	}
	if got := LogLoss(r, d, z, class); math.Abs(got-want) > 1e-9*want {
		b.Fatalf("loss %v, want %v", got, want)
	}
	for b.Loop() {
		LogLoss(r, d, z, class)
	}
	b.ReportMetric(b.Elapsed().Seconds()*1e9/float64(b.N)/n, "ns/sample")
}

// TestCSRAddGram compares with plain loops over a dense matrix.
func TestCSRAddGram(t *testing.T) {
	const seed = 35
	for round := range 40 {
		s := newSource(seed, plain, uint64(round))
		rows, cols := 1+s.r.IntN(40), 1+s.r.IntN(30)
		var row []int
		var col []int32
		var val []float32
		x := make([]float64, rows*cols)
		for i := range rows {
			row = append(row, len(col))
			for j := range cols {
				if s.r.IntN(3) > 0 {
					continue
				}
				v := float32(1)
				if round%2 == 0 {
					v = s.numbers(1)[0]
				}
				col, val = append(col, int32(j)), append(val, v)
				x[i*cols+j] = float64(v)
			}
		}
		row = append(row, len(col))
		if round%2 == 1 {
			val = nil
		}
		d, a := widen(s.numbers(rows)), widen(s.numbers(cols*(cols+1)/2))
		was := slices.Clone(a)
		CSRAddGram(a, row, col, val, d, cols)
		for r := range cols {
			for c := range r + 1 {
				at := r*(r+1)/2 + c
				want := was[at]
				for i := range rows {
					want += d[i] * x[i*cols+r] * x[i*cols+c]
				}
				if math.Abs(a[at]-want) > 1e-12 {
					t.Fatalf("seed %d, round %d: element %d, %d is %v, want %v", seed, round, r, c, a[at], want)
				}
			}
		}
	}
}
