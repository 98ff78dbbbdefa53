package bench

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/vec"
)

// Forms are the names of the products: N takes a matrix as it stands, T transposed.
var Forms = []string{"nn", "nt", "tn"}

// Shape is a product of an m by k matrix with a k by n matrix.
type Shape struct{ M, K, N int }

// String is the shape as ParseShape takes it.
func (s Shape) String() string { return fmt.Sprintf("%dx%dx%d", s.M, s.K, s.N) }

// ParseShape reads MxKxN, or one number for a square.
func ParseShape(text string) (Shape, error) {
	words := strings.Split(text, "x")
	if len(words) == 1 {
		words = []string{text, text, text}
	}
	var v [3]int
	for i, w := range words {
		n, err := strconv.Atoi(w)
		if err != nil || n < 1 || n > 1<<15 || len(words) != 3 {
			return Shape{}, fmt.Errorf("%q is not a shape such as 128x784x128 (rows x inner x columns, each 1 to 32768) or 512", text)
		}
		v[i] = n
	}
	return Shape{v[0], v[1], v[2]}, nil
}

// Product is what to measure of the matrix products: one row for each shape and form.
type Product struct {
	Shapes []Shape
	Forms  []string // of Forms
	Effort Effort
}

// ProductRow is one product.
type ProductRow struct {
	Form    string `json:"form"`
	M       int    `json:"m"`
	K       int    `json:"k"`
	N       int    `json:"n"`
	Threads int    `json:"threads"`
	Kernels string `json:"kernels"`
	Timing
	GFLOPS float64 `json:"gflops"` // 2 m k n by the median time, in units of 1e9 a second
}

// Run measures with the threads that vec has.
func (p Product) Run(clock comm.Clock, tell func(ProductRow)) ([]ProductRow, error) {
	var rows []ProductRow
	for _, s := range p.Shapes {
		for _, form := range p.Forms {
			row, err := product(clock, s, form, p.Effort.fill())
			if err != nil {
				return nil, err
			}
			rows = append(rows, row)
			if tell != nil {
				tell(row)
			}
		}
	}
	return rows, nil
}

func product(clock comm.Clock, s Shape, form string, e Effort) (ProductRow, error) {
	row := ProductRow{Form: form, M: s.M, K: s.K, N: s.N, Threads: vec.Threads(), Kernels: vec.Kernels()}
	f := map[string]func(c, a, b []float32, m, n, k int, acc bool){"nn": vec.MatMul, "nt": vec.MatMulNT, "tn": vec.MatMulTN}[form]
	if f == nil {
		return row, fmt.Errorf("bench: no product %q: want one of %v", form, Forms)
	}
	a, b, c := make([]float32, s.M*s.K), make([]float32, s.K*s.N), make([]float32, s.M*s.N)
	at, bt := form == "tn", form == "nt"
	for p := range s.K {
		for i := range s.M {
			a[index(i, p, s.M, s.K, at)] = left(i) * sign(p)
		}
		for j := range s.N {
			b[index(p, j, s.K, s.N, bt)] = right(j) * sign(p)
		}
	}
	call := func(n int) {
		for range n {
			f(c, a, b, s.M, s.N, s.K, false)
		}
	}
	check := func() error {
		for i := range s.M {
			for j := range s.N {
				if got, want := c[i*s.N+j], float32(s.K)*left(i)*right(j); got != want {
					return fmt.Errorf("%s %v: element %d, %d is %v, want %v", form, s, i, j, got, want)
				}
			}
		}
		return nil
	}
	call(1)
	if err := check(); err != nil {
		return row, err
	}
	row.Timing = timesAlone(clock, e, call)
	row.GFLOPS = 2 * float64(s.M) * float64(s.K) * float64(s.N) / row.Us / 1e3
	return row, check()
}

// The matrices that are multiplied: element (i, p) of the first is left(i) sign(p), element (p, j) of the second
// sign(p) right(j). So each product is k left(i) right(j), a whole number below 2^24, and one that pairs wrong elements
// is not.
func left(i int) float32  { return float32(i%7 + 1) }
func right(j int) float32 { return float32(j%11 + 1) }

func sign(p int) float32 {
	if p*p%11 < 5 {
		return -1
	}
	return 1
}

// index is where element (i, j) of a rows by cols matrix is, stored transposed or not.
func index(i, j, rows, cols int, transposed bool) int {
	if transposed {
		return j*rows + i
	}
	return i*cols + j
}

// timesAlone is times for work that needs no group.
func timesAlone(clock comm.Clock, e Effort, run func(n int)) Timing {
	block := func(n int) time.Duration {
		t := clock.Now()
		run(n)
		return clock.Now() - t
	}
	calls := max(1, e.Calls)
	for next := calls; next > 0; {
		calls = next
		next = e.next(calls, block(calls))
	}
	blocks := make([]time.Duration, e.Blocks)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range blocks {
		blocks[i] = block(calls)
	}
	runtime.ReadMemStats(&after)
	return timing(blocks, calls, float64(after.Mallocs-before.Mallocs))
}
