package vec

import (
	"fmt"
	"math"
	"testing"

	"github.com/covey-ml/covey/rng"
)

// mat is one of the three products with its layouts, so that tests can read elements by index.
type mat struct {
	name   string
	f      func(c, a, b []float32, m, n, k int, acc bool)
	ta, tb bool
}

var mats = []mat{{"NN", MatMul, false, false}, {"NT", MatMulNT, false, true}, {"TN", MatMulTN, true, false}}

func (t mat) a(a []float32, m, k, i, p int) float32 {
	if t.ta {
		return a[p*m+i]
	}
	return a[i*k+p]
}

func (t mat) b(b []float32, n, k, p, j int) float32 {
	if t.tb {
		return b[j*k+p]
	}
	return b[p*n+j]
}

// TestMatMulIsItsContract computes each element as the comment at BlockK says, by exact FMA.
func TestMatMulIsItsContract(t *testing.T) {
	const seed = 11
	for _, mt := range mats {
		for round, s := range [][3]int{{1, 1, 1}, {7, 17, 3}, {6, 16, 256}, {5, 3, 257}, {13, 18, 600}, {3, 2, 512}} {
			m, n, k := s[0], s[1], s[2]
			for _, acc := range []bool{false, true} {
				src := newSource(seed, plain, uint64(round))
				a, b, c := src.numbers(m*k), src.numbers(k*n), src.numbers(m*n)
				want := append([]float32{}, c...)
				for i := range m {
					for j := range n {
						for lo := 0; lo < k; lo += BlockK {
							var sum float32
							for p := lo; p < min(lo+BlockK, k); p++ {
								sum = bigFMA(mt.a(a, m, k, i, p), mt.b(b, n, k, p, j), sum)
							}
							if lo == 0 && !acc {
								want[i*n+j] = sum
							} else {
								want[i*n+j] += sum
							}
						}
					}
				}
				mt.f(c, a, b, m, n, k, acc)
				if err := sameBits(c, want); err != nil {
					t.Errorf("%s %dx%dx%d acc %v: %v", mt.name, m, n, k, acc, err)
				}
			}
		}
	}
}

// TestProductsOfAllKernels compares the sets of kernels with each other over shapes that end within tiles, panels and
// blocks, and looks for numbers read or written beside the matrices.
func TestProductsOfAllKernels(t *testing.T) {
	const seed = 16
	r := rng.New(seed, "shapes")
	sides := []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15, 16, 17, 28, 29, 31, 32, 33, 43, 63, 64, 65, 100, 128, 129, 200}
	depths := []int{1, 2, 3, 4, 7, 8, 10, 17, 64, 100, 256, 257, 300}
	for round := range 500 {
		m, n, k := sides[r.IntN(len(sides))], sides[r.IntN(len(sides))], depths[r.IntN(len(depths))]
		switch round % 25 {
		case 0:
			n = 500 + r.IntN(200) // two blocks of columns
			m, k = min(m, 16), min(k, 100)
		case 1:
			m, n, k = 1+r.IntN(17), 16, 1024 // rows that fall on each other in the cache
		}
		dense, acc, relu := round%4 == 0, round%3 == 0, round%8 == 0
		var want []float32
		eachProduct(func(kernels string) {
			src := newSource(seed, round%numKinds, uint64(round))
			a, b, c := src.numbers(m*k), src.numbers(k*n), src.numbers(m*n)
			if dense {
				Dense(c, a, b, src.numbers(n), m, n, k, relu)
			} else {
				mats[round%3].f(c, a, b, m, n, k, acc)
			}
			if err := src.trespass(); err != nil {
				t.Fatalf("seed %d, round %d, %dx%dx%d, %s: %v", seed, round, m, n, k, kernels, err)
			}
			if want == nil {
				want = c
			} else if err := sameBits(c, want); err != nil {
				t.Fatalf("seed %d, round %d, %dx%dx%d, dense %v, acc %v: %s against portable: %v", seed, round, m, n, k, dense, acc, kernels, err)
			}
		})
	}
}

// TestDenseIsItsParts: the bits of a product, AddBias and ReLU one after the other.
func TestDenseIsItsParts(t *testing.T) {
	const seed = 17
	eachProduct(func(kernels string) {
		for round, s := range [][3]int{{1, 1, 1}, {2, 3, 0}, {7, 17, 3}, {14, 32, 256}, {5, 3, 257}, {30, 70, 600}, {1, 300, 20}, {9, 1, 40}, {3, 100, 5}} {
			m, n, k := s[0], s[1], s[2]
			for kind := range numKinds {
				src := newSource(seed, kind, uint64(round))
				a, b, bias, c, want := src.numbers(m*k), src.numbers(k*n), src.numbers(n), src.raw(m*n), src.raw(m*n)
				MatMulNT(want, a, b, m, n, k, false)
				Dense(c, a, b, nil, m, n, k, false)
				if err := sameBits(c, want); err != nil {
					t.Errorf("%s, %v, kind %d: no bias: %v", kernels, s, kind, err)
				}
				AddBias(want, bias, m)
				Dense(c, a, b, bias, m, n, k, false)
				if err := sameBits(c, want); err != nil {
					t.Errorf("%s, %v, kind %d: bias: %v", kernels, s, kind, err)
				}
				ReLU(want, want)
				Dense(c, a, b, bias, m, n, k, true)
				if err := sameBits(c, want); err != nil {
					t.Errorf("%s, %v, kind %d: bias and ReLU: %v", kernels, s, kind, err)
				}
				if err := src.trespass(); err != nil {
					t.Errorf("%s, %v, kind %d: %v", kernels, s, kind, err)
				}
			}
		}
	})
}

// TestMatMulError holds each element to the bound of its sums: a chain of BlockK roundings, then one a block
// (Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, section 3.1, with FMA's one rounding a
// term): |error| <= gamma |a| |b|, gamma = s u/(1 - s u), s = min(k, BlockK) + blocks, u = 2^-24.
func TestMatMulError(t *testing.T) {
	const seed = 12
	r := rng.New(seed, "shapes")
	for round := range 60 {
		mt := mats[round%3]
		m, n, k := 1+r.IntN(70), 1+r.IntN(70), 1+r.IntN(70)
		if round%5 == 0 {
			k += r.IntN(1200)
		}
		if round%7 == 0 {
			m, n = m+r.IntN(200), n+r.IntN(200)
		}
		src := newSource(seed, plain, uint64(round))
		a, b, c := src.numbers(m*k), src.numbers(k*n), src.raw(m*n)
		mt.f(c, a, b, m, n, k, false)
		s := float64(min(k, BlockK)+(k+BlockK-1)/BlockK) * 0x1p-24
		gamma := s / (1 - s)
		for i := range m {
			for j := range n {
				var sum, abs float64
				for p := range k {
					v := float64(mt.a(a, m, k, i, p)) * float64(mt.b(b, n, k, p, j))
					sum += v
					abs += math.Abs(v)
				}
				if e := math.Abs(float64(c[i*n+j]) - sum); !(e <= gamma*abs*(1+1e-6)) {
					t.Fatalf("seed %d: %s %dx%dx%d: element %d,%d is off by %g, bound %g", seed, mt.name, m, n, k, i, j, e, gamma*abs)
				}
			}
		}
	}
}

// TestMatMulRowsStandAlone: a row's bits do not depend on which other rows are computed with it, nor a column's
// on other columns.
func TestMatMulRowsStandAlone(t *testing.T) {
	const seed, n, k = 13, 45, 300
	for _, m := range []int{1, 5, 6, 31, 200} {
		src := newSource(seed, plain, uint64(m))
		a, b, whole := src.numbers(m*k), src.numbers(k*n), src.raw(m*n)
		MatMul(whole, a, b, m, n, k, false)
		for _, part := range []int{1, 2, 7, 64} {
			c := src.raw(m * n)
			for lo := 0; lo < m; lo += part {
				hi := min(lo+part, m)
				MatMul(c[lo*n:hi*n], a[lo*k:hi*k], b, hi-lo, n, k, false)
			}
			if err := sameBits(c, whole); err != nil {
				t.Errorf("%d rows, %d at a time: %v", m, part, err)
			}
		}
		bt := src.raw(n * k)
		for p := range k {
			for j := range n {
				bt[j*k+p] = b[p*n+j]
			}
		}
		for _, cols := range []int{1, 3, 17} {
			for j := 0; j+cols <= n; j += cols {
				c := src.raw(m * cols)
				MatMulNT(c, a, bt[j*k:(j+cols)*k], m, cols, k, false)
				for i := range m {
					if err := sameBits(c[i*cols:(i+1)*cols], whole[i*n+j:i*n+j+cols]); err != nil {
						t.Fatalf("%d rows, columns %d to %d: %v", m, j, j+cols, err)
					}
				}
			}
		}
	}
}

func TestMatMulThreads(t *testing.T) {
	const seed = 14
	defer SetThreads(1)
	for _, mt := range mats {
		for _, s := range [][3]int{{130, 131, 130}, {17, 1100, 120}, {1300, 33, 50}, {1, 2100, 1000}} {
			m, n, k := s[0], s[1], s[2]
			if m*n*k < parallelMin {
				t.Fatalf("%v is too small to use threads", s)
			}
			src := newSource(seed, plain, uint64(m))
			a, b, c := src.numbers(m*k), src.numbers(k*n), src.numbers(m*n)
			start := append([]float32{}, c...)
			SetThreads(1)
			mt.f(c, a, b, m, n, k, true)
			for _, threads := range []int{2, 3, 40} {
				SetThreads(threads)
				if Threads() != threads {
					t.Fatalf("Threads() is %d after SetThreads(%d)", Threads(), threads)
				}
				d := append(src.raw(0), start...)
				mt.f(d, a, b, m, n, k, true)
				if err := sameBits(d, c); err != nil {
					t.Errorf("%s %v: %d threads against 1: %v", mt.name, s, threads, err)
				}
			}
			if err := src.trespass(); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestMatMulConcurrently: callers share the threads, while their number changes.
func TestMatMulConcurrently(t *testing.T) {
	defer SetThreads(1)
	const n = 130
	src := newSource(15, plain)
	a, b, want := src.numbers(n*n), src.numbers(n*n), src.raw(n*n)
	MatMul(want, a, b, n, n, n, false)
	errs := make(chan error)
	for range 4 {
		go func() {
			c := make([]float32, n*n)
			for range 6 {
				MatMul(c, a, b, n, n, n, false)
				if err := sameBits(c, want); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for i := range 4 {
		SetThreads(1 + i)
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestMatMulDoesNotAllocate(t *testing.T) {
	defer SetThreads(1)
	const n = 130
	a, b, c := make([]float32, n*n), make([]float32, n*n), make([]float32, n*n)
	for _, threads := range []int{1, 3} {
		SetThreads(threads)
		MatMul(c, a, b, n, n, n, false)
		// A few allocations may still come while threads meet the free lists for the first time together.
		if got := testing.AllocsPerRun(20, func() { MatMulNT(c, a, b, n, n, n, true) }); got >= 1 {
			t.Errorf("%d threads: %g allocations a product", threads, got)
		}
	}
}

func TestMatMulEmpty(t *testing.T) {
	c := []float32{1, 2}
	MatMul(c, nil, nil, 1, 2, 0, true)
	if c[0] != 1 || c[1] != 2 {
		t.Errorf("adding a product over nothing gave %v", c)
	}
	MatMul(c, nil, nil, 2, 1, 0, false)
	if c[0] != 0 || c[1] != 0 {
		t.Errorf("a product over nothing is %v", c)
	}
	MatMul(nil, nil, make([]float32, 6), 0, 2, 3, false)
}

func TestLengthsPanic(t *testing.T) {
	x := make([]float32, 6)
	for _, c := range []struct {
		want string
		f    func()
	}{
		{"vec.Add: lengths 6 and 5 differ", func() { Add(x, x[:5]) }},
		{"vec.MatMul: c has 6 elements, want 4", func() { MatMul(x, x, x, 2, 2, 3, false) }},
		{"vec.MatMulTN: b has 6 elements, want 8", func() { MatMulTN(x[:4], make([]float32, 8), x, 2, 2, 4, false) }},
		{"vec.MatMul: sizes m=-1 n=-1 k=1, want none negative", func() { MatMul(x[:1], x, x, -1, -1, 1, false) }},
		{"vec.AddBias: y has 6 elements, want 4", func() { AddBias(x, x[:2], 2) }},
		{"vec.SoftmaxXent: row 1 has class 3, want 0 to 2", func() { SoftmaxXent(nil, x, []int32{0, 3}, 2, 3) }},
		{"vec.CSRMatVec: entry 1 is in column -1 of 6", func() { CSRMatVec(x[:1], []int{0, 2}, []int32{0, -1}, x[:2], x) }},
		{"vec.CSRMatVec: row 0 is 1:3 of 2 entries", func() { CSRMatVec(x[:1], []int{1, 3}, []int32{0, 1}, x[:2], x) }},
		{"vec.CSRMatMul: b has 6 elements, want a multiple of n = 4", func() { CSRMatMul(x[:4], []int{0, 0}, nil, nil, x, 4) }},
		{"vec.Floats: 3 bytes are not a multiple of 4", func() { Floats(make([]byte, 3)) }},
	} {
		func() {
			defer func() {
				if got := fmt.Sprint(recover()); got != c.want {
					t.Errorf("panic %q, want %q", got, c.want)
				}
			}()
			c.f()
		}()
	}
}
