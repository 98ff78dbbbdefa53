package vec

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/covey-ml/covey/rng"
)

// source draws the inputs of one run of a kernel and watches over what the kernel must not touch.
type source struct {
	r     *rand.Rand
	kind  int // of numbers: see draw
	bufs  [][]float32
	spans [][2]int
}

// The kinds of number.
const (
	plain    = iota // uniform in -2 to 2
	wide            // any exponent, no NaN or infinity
	special         // a third of them from a list of corners
	halves          // whose products, added to each other, lie next to the middle between two float32
	numKinds        // how many kinds there are
)

const canary = 0x7fa5c3e1 // the bits of a NaN that no kernel makes

func newSource(seed uint64, kind int, keys ...uint64) *source {
	return &source{r: rng.New(seed, "vec test", keys...), kind: kind}
}

var corners = []float32{
	0, float32(math.Copysign(0, -1)), 1, -1, 0.5, -0.5, 2,
	float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()),
	math.MaxFloat32, -math.MaxFloat32, math.SmallestNonzeroFloat32, -math.SmallestNonzeroFloat32,
	0x1p-126, -0x1p-126, 0x1p-127, 88.7, -87.3, -103.9, 0x1p-63, -0x1p-75,
}

func (s *source) draw() float32 {
	switch {
	case s.kind == wide:
		return math.Float32frombits(uint32(s.r.IntN(2))<<31 | uint32(s.r.IntN(255))<<23 | uint32(s.r.IntN(1<<23)))
	case s.kind == halves:
		x := [...]float32{1, 1, 1 + 0x1p-23, -1 - 0x1p-23, 0x1p-12 * (1 + 0x1p-23), 0x1p-12 * (1 - 0x1p-23), 0x1p-12,
			-0x1p-12 * (1 - 0x1p-23), 0x1p-24, 0x1p-75 * (1 + 0x1p-23), 0x1p-75 * (1 - 0x1p-23)}
		return x[s.r.IntN(len(x))]
	case s.kind == special && s.r.IntN(3) == 0:
		return corners[s.r.IntN(len(corners))]
	}
	return 4*s.r.Float32() - 2
}

// raw is room for n numbers at any place relative to a vector's size, between canaries.
func (s *source) raw(n int) []float32 {
	off := 8 + s.r.IntN(9)
	b := make([]float32, off+n+40)
	for i := range b {
		b[i] = math.Float32frombits(canary)
	}
	s.bufs, s.spans = append(s.bufs, b), append(s.spans, [2]int{off, off + n})
	return b[off : off+n : off+n]
}

func (s *source) numbers(n int) []float32 {
	x := s.raw(n)
	for i := range x {
		x[i] = s.draw()
	}
	return x
}

// positive is for what a kernel takes the square root of.
func (s *source) positive(n int) []float32 {
	x := s.numbers(n)
	for i := range x {
		x[i] = float32(math.Abs(float64(x[i])))
	}
	return x
}

// trespass says whether a canary is gone.
func (s *source) trespass() error {
	for b, buf := range s.bufs {
		lo, hi := s.spans[b][0], s.spans[b][1]
		for i, v := range buf {
			if (i < lo || i >= hi) && math.Float32bits(v) != canary {
				return fmt.Errorf("slice %d of %d elements: element %d was overwritten", b, hi-lo, i-lo)
			}
		}
	}
	return nil
}

// bits64 is each float64 as three float32, for one kind of output: halves that look like NaN would lose bits.
func bits64(v ...float64) []float32 {
	var out []float32
	for _, v := range v {
		b := math.Float64bits(v)
		if v != v {
			b = math.Float64bits(math.NaN())
		}
		out = append(out, float32(b>>44), float32(b>>22&(1<<22-1)), float32(b&(1<<22-1)))
	}
	return out
}

// kernelCase runs one exported function on n elements or so and gives all that it wrote.
type kernelCase struct {
	name string
	run  func(s *source, n int) []float32
}

func unary(f func(y, x []float32)) func(s *source, n int) []float32 {
	return func(s *source, n int) []float32 {
		x, y := s.numbers(n), s.raw(n)
		f(y, x)
		f(x, x) // in place
		return append(append([]float32{}, y...), x...)
	}
}

func update(f func(dst, x []float32)) func(s *source, n int) []float32 {
	return func(s *source, n int) []float32 {
		x, y := s.numbers(n), s.numbers(n)
		f(y, x)
		f(x, x)
		return append(append([]float32{}, y...), x...)
	}
}

func grad(f func(dx, dy, y []float32)) func(s *source, n int) []float32 {
	return func(s *source, n int) []float32 {
		dx, dy, y := s.raw(n), s.numbers(n), s.numbers(n)
		f(dx, dy, y)
		out := append([]float32{}, dx...)
		copy(dx, dy)
		f(dx, dx, y)
		f(y, dy, y)
		return append(append(out, dx...), y...)
	}
}

func product3(f func(c, a, b []float32, m, n, k int, acc bool)) func(s *source, n int) []float32 {
	return func(s *source, n int) []float32 {
		m, k := 1+s.r.IntN(n+1), s.r.IntN(2*n+2)
		if s.r.IntN(4) == 0 {
			k += BlockK
		}
		a, b, c, d := s.numbers(m*k), s.numbers(k*n), s.raw(m*n), s.numbers(m*n)
		f(c, a, b, m, n, k, false)
		f(d, a, b, m, n, k, true)
		return append(append([]float32{}, c...), d...)
	}
}

// csr draws a sparse matrix of rows by cols as a part of a larger one.
func (s *source) csr(rows, cols int) (row []int, col []int32, val []float32) {
	p := s.r.IntN(5)
	row = []int{p}
	for range rows {
		p += s.r.IntN(7)
		row = append(row, p)
	}
	n := p + s.r.IntN(5)
	col = make([]int32, n)
	for i := range col {
		col[i] = int32(s.r.IntN(cols))
	}
	return row, col, s.numbers(n)
}

func rowsAndCols(s *source, n int) (rows, cols int) { return s.r.IntN(12), n }

var kernelCases = []kernelCase{
	{"Add", update(Add)},
	{"AddTo", func(s *source, n int) []float32 {
		dst, a, b := s.raw(n), s.numbers(n), s.numbers(n)
		AddTo(dst, a, b)
		AddTo(a, a, b)
		AddTo(b, dst, b)
		return append(append(append([]float32{}, dst...), a...), b...)
	}},
	{"AddBoth", func(s *source, n int) []float32 {
		dst, also, a, b := s.raw(n), s.raw(n), s.numbers(n), s.numbers(n)
		AddBoth(dst, also, a, b)
		AddBoth(b, a, a, b)
		return append(append(append(append([]float32{}, dst...), also...), a...), b...)
	}},
	{"AddFour", func(s *source, n int) []float32 {
		a, b, c, d := s.numbers(n), s.numbers(n), s.numbers(n), s.numbers(n)
		AddFour(a, b, c, d)
		return append(append(append(append([]float32{}, a...), b...), c...), d...)
	}},
	{"Scale", update(func(dst, x []float32) { Scale(-1.7, dst) })},
	{"Axpy", update(func(dst, x []float32) { Axpy(0.3, x, dst) })},
	{"Dot", func(s *source, n int) []float32 { return []float32{Dot(s.numbers(n), s.numbers(n))} }},
	{"SumSquares", func(s *source, n int) []float32 {
		return append(bits64(SumSquares(s.numbers(n))), bits64(SumSquares(s.numbers(n+9000)))...)
	}},
	{"ArgMax", func(s *source, n int) []float32 { return []float32{float32(ArgMax(s.numbers(n)))} }},
	{"Finite", func(s *source, n int) []float32 {
		x := s.numbers(n)
		if Finite(x) {
			return []float32{1}
		}
		return []float32{0}
	}},
	{"MatMul", product3(MatMul)},
	{"MatMulNT", product3(MatMulNT)},
	{"MatMulTN", product3(MatMulTN)},
	{"AddBias", func(s *source, n int) []float32 {
		rows, cols := rowsAndCols(s, n)
		y := s.numbers(rows * cols)
		AddBias(y, s.numbers(cols), rows)
		return y
	}},
	{"SumRows", func(s *source, n int) []float32 {
		rows, cols := rowsAndCols(s, n)
		dy, a, b := s.numbers(rows*cols), s.raw(cols), s.numbers(cols)
		SumRows(a, dy, rows, false)
		SumRows(b, dy, rows, true)
		return append(append([]float32{}, a...), b...)
	}},
	{"ReLU", unary(ReLU)},
	{"ReLUGrad", grad(ReLUGrad)},
	{"Tanh", unary(Tanh)},
	{"TanhGrad", grad(TanhGrad)},
	{"GELU", unary(GELU)},
	{"GELUGrad", grad(GELUGrad)},
	{"Sigmoid", unary(Sigmoid)},
	{"Softmax", func(s *source, n int) []float32 {
		rows, cols := rowsAndCols(s, n)
		x, p := s.numbers(rows*cols), s.raw(rows*cols)
		Softmax(p, x, rows, cols)
		Softmax(x, x, rows, cols)
		return append(append([]float32{}, p...), x...)
	}},
	{"SoftmaxXent", func(s *source, n int) []float32 {
		rows, cols := rowsAndCols(s, n)
		if cols == 0 {
			rows = 0
		}
		class := make([]int32, rows)
		for i := range class {
			class[i] = int32(s.r.IntN(cols))
		}
		x, d := s.numbers(rows*cols), s.raw(rows*cols)
		out := []float32{SoftmaxXent(nil, x, class, rows, cols), SoftmaxXent(d, x, class, rows, cols)}
		out = append(out, SoftmaxXent(x, x, class, rows, cols))
		return append(append(out, d...), x...)
	}},
	{"CSRMatVec", func(s *source, n int) []float32 {
		rows, cols := s.r.IntN(20), n+1
		row, col, val := s.csr(rows, cols)
		y := s.raw(rows)
		CSRMatVec(y, row, col, val, s.numbers(cols))
		return y
	}},
	{"CSRMatMul", func(s *source, n int) []float32 {
		rows, cols := s.r.IntN(20), 1+s.r.IntN(30)
		row, col, val := s.csr(rows, cols)
		c := s.raw(rows * (n + 1))
		CSRMatMul(c, row, col, val, s.numbers(cols*(n+1)), n+1)
		return c
	}},
	{"CSRTMatMul", func(s *source, n int) []float32 {
		rows, cols, width := s.r.IntN(20), 1+s.r.IntN(30), 1+s.r.IntN(2)*n
		row, col, val := s.csr(rows, cols)
		g := s.numbers(cols * width)
		CSRTMatMul(g, row, col, val, s.numbers(rows*width), width)
		return g
	}},
	{"CSRMargins", func(s *source, n int) []float32 {
		rows, cols := s.r.IntN(20), n+1
		row, col, val := s.csr(rows, cols)
		z, w := make([]float64, rows), widen(s.numbers(cols))
		CSRMargins(z, row, col, val, w)
		out := bits64(z...)
		CSRMargins(z, row, col, nil, w)
		return append(out, bits64(z...)...)
	}},
	{"CSRAddGrad", func(s *source, n int) []float32 {
		rows, cols := s.r.IntN(20), n+1
		row, col, val := s.csr(rows, cols)
		g, r := widen(s.numbers(cols)), widen(s.numbers(rows))
		CSRAddGrad(g, row, col, val, r)
		CSRAddGrad(g, row, col, nil, r)
		return bits64(g...)
	}},
	{"CSRAddHess", func(s *source, n int) []float32 {
		rows, cols := s.r.IntN(20), n+1
		row, col, val := s.csr(rows, cols)
		g, d, v := widen(s.numbers(cols)), widen(s.numbers(rows)), widen(s.numbers(cols))
		CSRAddHess(g, row, col, val, d, v)
		CSRAddHess(g, row, col, nil, d, v)
		return bits64(g...)
	}},
	{"CSRAddGram", func(s *source, n int) []float32 {
		rows, cols := s.r.IntN(20), n%60+1
		row, col, val := s.csr(rows, cols)
		for i := range rows {
			slices.Sort(col[row[i]:row[i+1]])
		}
		a, d := widen(s.numbers(cols*(cols+1)/2)), widen(s.numbers(rows))
		CSRAddGram(a, row, col, val, d, cols)
		CSRAddGram(a, row, col, nil, d, cols)
		return bits64(a...)
	}},
	{"LogLoss", func(s *source, n int) []float32 {
		z, class := widen(s.numbers(n)), make([]int32, n)
		for i := range z {
			class[i] = int32(s.r.IntN(2))
			z[i] *= 10
		}
		r, d := make([]float64, n), make([]float64, n)
		l1 := LogLoss(r, nil, z, class)
		l2 := LogLoss(z, d, z, class)
		return append(append(append(bits64(l1, l2), bits64(r...)...), bits64(d...)...), bits64(z...)...)
	}},
	{"Momentum", func(s *source, n int) []float32 {
		x, g, v := s.numbers(n), s.numbers(n), s.numbers(n)
		Momentum(x, g, v, 1, 0.1, 0.9, 0, false)
		Momentum(x, g, v, 1, 0.03, 0.95, 0.1, true)
		return append(append([]float32{}, x...), v...)
	}},
	{"Adam", func(s *source, n int) []float32 {
		x, g, m, v := s.numbers(n), s.numbers(n), s.numbers(n), s.positive(n)
		Adam(x, g, m, v, 1, 0.001, 0.9, 0.999, 1e-8, 0.19, 0.001999)
		return append(append(append([]float32{}, x...), m...), v...)
	}},
	{"AdamDirection", func(s *source, n int) []float32 {
		d, g, m, v := s.raw(n), s.numbers(n), s.numbers(n), s.positive(n)
		AdamDirection(d, g, m, v, 1, 0.9, 0.999, 1e-6, 0.19, 0.001999)
		return append(append(append([]float32{}, d...), m...), v...)
	}},
	{"RMSProp", func(s *source, n int) []float32 {
		x, g, v := s.numbers(n), s.numbers(n), s.positive(n)
		RMSProp(x, g, v, 1, 0.01, 0.99, 1e-8)
		return append(append([]float32{}, x...), v...)
	}},
	{"Adagrad", func(s *source, n int) []float32 {
		x, g, v := s.numbers(n), s.numbers(n), s.positive(n)
		Adagrad(x, g, v, 1, 0.01, 1e-10)
		return append(append([]float32{}, x...), v...)
	}},
	{"scalars", func(s *source, n int) []float32 {
		var out []float32
		for _, x := range s.numbers(n) {
			x *= 8
			out = append(out, Exp(x), Log(x), Softplus(x), FMA(x, x, -x))
		}
		return out
	}},
}

// sameBits compares bit by bit, any NaN being like any other.
func sameBits(a, b []float32) error {
	if len(a) != len(b) {
		return fmt.Errorf("%d and %d numbers", len(a), len(b))
	}
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) && (a[i] == a[i] || b[i] == b[i]) {
			return fmt.Errorf("number %d is %g (%#08x) and %g (%#08x)", i,
				a[i], math.Float32bits(a[i]), b[i], math.Float32bits(b[i]))
		}
	}
	return nil
}
