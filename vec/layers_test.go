package vec

import (
	"math"
	"testing"
	"testing/quick"
)

func TestSoftmaxXent(t *testing.T) {
	const rows, cols = 40, 13
	s := newSource(21, plain)
	x, d := s.numbers(rows*cols), s.raw(rows*cols)
	class := make([]int32, rows)
	for i := range class {
		class[i] = int32(s.r.IntN(cols))
	}
	loss := SoftmaxXent(d, x, class, rows, cols)
	var want float64
	for r := range rows {
		var sum float64
		for _, v := range x[r*cols : (r+1)*cols] {
			sum += math.Exp(float64(v))
		}
		want += math.Log(sum) - float64(x[r*cols+int(class[r])])
		for j := range cols {
			p := math.Exp(float64(x[r*cols+j])) / sum
			if j == int(class[r]) {
				p--
			}
			if e := math.Abs(float64(d[r*cols+j]) - p); e > 2e-7*math.Abs(p)+1e-8 {
				t.Errorf("gradient %d,%d is %g, want %g", r, j, d[r*cols+j], p)
			}
		}
	}
	if e := math.Abs(float64(loss) - want); e > 1e-6*want {
		t.Errorf("loss %g, want %g", loss, want)
	}
}

// TestSoftmaxXentSure: a gradient that 1-p in float32 would lose.
func TestSoftmaxXentSure(t *testing.T) {
	x, d := []float32{20, 0}, make([]float32, 2)
	loss := SoftmaxXent(d, x, []int32{0}, 1, 2)
	p := math.Exp(-20) / (1 + math.Exp(-20))
	for name, got := range map[string]float64{"loss": float64(loss), "wrong class": float64(d[1]), "right class": -float64(d[0])} {
		if math.Abs(got/p-1) > 1e-5 {
			t.Errorf("%s %g, want %g", name, got, p)
		}
	}
}

func TestSoftmaxCorners(t *testing.T) {
	inf := float32(math.Inf(1))
	p := make([]float32, 3)
	Softmax(p, []float32{-inf, 1, 1}, 1, 3)
	if p[0] != 0 || p[1] != 0.5 || p[2] != 0.5 {
		t.Errorf("softmax with an impossible class: %v", p)
	}
	Softmax(p, []float32{3e38, -3e38, 3e38}, 1, 3)
	if p[0] != 0.5 || p[1] != 0 {
		t.Errorf("softmax of huge logits: %v", p)
	}
	for _, x := range [][]float32{{inf, 0, 1}, {-inf, -inf, -inf}, {0, float32(math.NaN()), 1}} {
		Softmax(p, x, 1, 3)
		for _, v := range p {
			if v == v {
				t.Errorf("softmax of %v is %v, want NaN", x, p)
			}
		}
		if l := SoftmaxXent(nil, x, []int32{1}, 1, 3); l == l {
			t.Errorf("loss of %v is %g, want NaN", x, l)
		}
	}
}

// TestActivationGradients compares with central differences of the float64 functions.
func TestActivationGradients(t *testing.T) {
	s := newSource(22, plain)
	x := s.numbers(500)
	for i := range x {
		x[i] *= 3
	}
	y, dy, dx := s.raw(len(x)), s.numbers(len(x)), s.raw(len(x))
	check := func(name string, f func(float64) float64) {
		t.Helper()
		const h = 1e-5
		for i, v := range x {
			v := float64(v)
			want := float64(dy[i]) * (f(v+h) - f(v-h)) / (2 * h)
			if e := math.Abs(float64(dx[i]) - want); e > 1e-6 {
				t.Errorf("%s at %g: %g, want %g", name, v, dx[i], want)
			}
		}
	}
	Tanh(y, x)
	TanhGrad(dx, dy, y)
	check("tanh", math.Tanh)
	GELUGrad(dx, dy, x)
	check("gelu", func(v float64) float64 { return v * 0.5 * math.Erfc(-v/math.Sqrt2) })
	ReLU(y, x)
	ReLUGrad(dx, dy, y)
	check("relu", func(v float64) float64 { return math.Max(v, 0) })
}

func TestInfiniteActivations(t *testing.T) {
	inf := float32(math.Inf(1))
	x := []float32{inf, -inf}
	y, one := make([]float32, 2), []float32{1, 1}
	GELU(y, x)
	if y[0] != inf || y[1] != 0 {
		t.Errorf("GELU of infinities: %v", y)
	}
	GELUGrad(y, one, x)
	if y[0] != 1 || y[1] != 0 {
		t.Errorf("gradient of GELU at infinities: %v", y)
	}
	Sigmoid(y, x)
	if y[0] != 1 || y[1] != 0 {
		t.Errorf("Sigmoid of infinities: %v", y)
	}
	nan := []float32{float32(math.NaN())}
	ReLU(nan, nan)
	if nan[0] == nan[0] {
		t.Error("ReLU hides a NaN")
	}
}

func TestBiasAndSumRows(t *testing.T) {
	y := []float32{1, 2, 3, 4, 5, 6}
	AddBias(y, []float32{10, 20, 30}, 2)
	db := []float32{1, 1, 1}
	SumRows(db, y, 2, true)
	if db[0] != 26 || db[1] != 48 || db[2] != 70 {
		t.Errorf("sums %v, want 26 48 70", db)
	}
	SumRows(db, nil, 0, false)
	if db[0] != 0 || db[2] != 0 {
		t.Errorf("the sum of no rows is %v", db)
	}
}

func TestArgMaxAndFinite(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, c := range []struct {
		x      []float32
		max    int
		finite bool
	}{
		{nil, -1, true},
		{[]float32{1, 3, 3, 2}, 1, true},
		{[]float32{-inf, -inf}, 0, false},
		{[]float32{1, nan, inf, nan}, 1, false},
		{[]float32{0, 1, 2, 3, 4, 5, 6, 7, -math.MaxFloat32, inf}, 9, false},
		{[]float32{0, -math.MaxFloat32, 0x1p-149}, 2, true},
	} {
		if got := ArgMax(c.x); got != c.max {
			t.Errorf("ArgMax(%v) = %d, want %d", c.x, got, c.max)
		}
		if got := Finite(c.x); got != c.finite {
			t.Errorf("Finite(%v) = %v", c.x, got)
		}
	}
}

// TestTreeSum compares with the definition, and blocks summed apart with the whole.
func TestTreeSum(t *testing.T) {
	var tree func(p []float64) float64
	tree = func(p []float64) float64 {
		if len(p) == 1 {
			return p[0]
		}
		var up []float64
		for i := 0; i < len(p); i += 2 {
			if i+1 < len(p) {
				up = append(up, p[i]+p[i+1])
			} else {
				up = append(up, p[i])
			}
		}
		return tree(up)
	}
	if err := quick.Check(func(p []float64) bool {
		return len(p) == 0 && TreeSum(p) == 0 || len(p) > 0 && math.Float64bits(TreeSum(p)) == math.Float64bits(tree(p))
	}, nil); err != nil {
		t.Error(err)
	}
	x := newSource(23, plain).numbers(5*SquareBlock + 77)
	var blocks []float64
	for lo := 0; lo < len(x); lo += SquareBlock {
		blocks = append(blocks, SumSquares(x[lo:min(lo+SquareBlock, len(x))]))
	}
	if a, b := TreeSum(blocks), SumSquares(x); a != b {
		t.Errorf("the blocks sum to %v, the whole to %v", a, b)
	}
	var want float64
	for _, v := range x {
		want += float64(v) * float64(v)
	}
	if got := SumSquares(x); math.Abs(got/want-1) > 1e-13 {
		t.Errorf("SumSquares %v, want %v", got, want)
	}
}

func TestViews(t *testing.T) {
	x := []float32{1, -2}
	b := Bytes(x)
	if len(b) != 8 || b[3] != 0x3f || b[7] != 0xc0 {
		t.Errorf("bytes of 1, -2: %x", b)
	}
	Floats(b)[1] = 5
	if x[1] != 5 {
		t.Error("a view does not share its memory")
	}
	if Bytes(nil) != nil || Floats(nil) != nil {
		t.Error("a view of nothing is something")
	}
	defer func() {
		if recover() == nil {
			t.Error("Floats takes bytes at an odd address")
		}
	}()
	Floats(b[1:5])
}
