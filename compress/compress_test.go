package compress

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/covey-ml/covey/rng"
	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/vec"
)

// exam has the forms in which compressors sit the exam, as String writes them; those that are not here sit it by name alone.
var exam = map[string][]string{
	"uniform": {"uniform:bits=8", "uniform:bits=8,bucket=0", "uniform:bits=16", "uniform:bits=7,bucket=64", "uniform:bits=6", "uniform:bits=5",
		"uniform:bits=4", "uniform:bits=3", "uniform:bits=2", "uniform:delta=0.03125", "uniform:delta=0.3", "uniform:delta=0.00015", "uniform:delta=1000"},
	"random": {"random:bits=8", "random:bits=16,bucket=0", "random:bits=4", "random:bits=3,bucket=8", "random:bits=2", "random:delta=0.1",
		"random:delta=0.002", "random:delta=0.01"},
	"qsgd": {"qsgd:levels=127", "qsgd:levels=127,bucket=0", "qsgd:levels=15", "qsgd:levels=7,bucket=4096", "qsgd:levels=2", "qsgd:levels=1",
		"qsgd:levels=1,code=elias", "qsgd:levels=20,code=elias,bucket=64", "qsgd:levels=127,code=elias,bucket=0"},
	"terngrad": {"terngrad", "terngrad:bucket=512", "terngrad:clip=2.5", "terngrad:clip=2,bucket=128"},
	"onebit":   {"onebit", "onebit:bucket=0", "onebit:bucket=8"},
	"sign":     {"sign", "sign:bucket=24"},
	"float": {"float:exponent=4,mantissa=3", "float:exponent=5,mantissa=2", "float:exponent=4,mantissa=3,stochastic=true", "float:exponent=3,mantissa=2",
		"float:exponent=2,mantissa=1,bucket=32", "float:exponent=2,mantissa=1,stochastic=true,bucket=32", "float:exponent=2,mantissa=0",
		"float:exponent=6,mantissa=1,stochastic=true", "float:exponent=3,mantissa=0"},
	"threshold": {"threshold:0.001"},
	"adaptive":  {"adaptive:energy=0.9"},
}

// bitsOfCode is the formula of each Fixed quantiser's bytes, as its comment states it: planes of bits an element, and bytes for
// each bucket of so many, 0 being all.
var bitsOfCode = map[string]struct {
	planes        []int
	head, buckets int
}{
	"identity":                    {[]int{32}, 0, 0},
	"uniform:bits=8":              {[]int{8}, 4, 512},
	"uniform:bits=8,bucket=0":     {[]int{8}, 4, 0},
	"uniform:bits=16":             {[]int{16}, 4, 512},
	"uniform:bits=7,bucket=64":    {[]int{4, 2, 1}, 4, 64},
	"uniform:bits=6":              {[]int{4, 2}, 4, 512},
	"uniform:bits=5":              {[]int{4, 1}, 4, 512},
	"uniform:bits=4":              {[]int{4}, 4, 512},
	"uniform:bits=3":              {[]int{2, 1}, 4, 512},
	"uniform:bits=2":              {[]int{2}, 4, 512},
	"random:bits=8":               {[]int{8}, 4, 512},
	"random:bits=16,bucket=0":     {[]int{16}, 4, 0},
	"random:bits=4":               {[]int{4}, 4, 512},
	"random:bits=3,bucket=8":      {[]int{2, 1}, 4, 8},
	"random:bits=2":               {[]int{2}, 4, 512},
	"qsgd:levels=127":             {[]int{8}, 4, 512},
	"qsgd:levels=127,bucket=0":    {[]int{8}, 4, 0},
	"qsgd:levels=15":              {[]int{4, 1}, 4, 512},
	"qsgd:levels=7,bucket=4096":   {[]int{4}, 4, 4096},
	"qsgd:levels=2":               {[]int{2, 1}, 4, 512},
	"qsgd:levels=1":               {[]int{2}, 4, 512},
	"terngrad":                    {[]int{2}, 4, 0},
	"terngrad:bucket=512":         {[]int{2}, 4, 512},
	"terngrad:clip=2.5":           {[]int{2}, 4, 0},
	"terngrad:clip=2,bucket=128":  {[]int{2}, 4, 128},
	"onebit":                      {[]int{1}, 8, 128},
	"onebit:bucket=0":             {[]int{1}, 8, 0},
	"onebit:bucket=8":             {[]int{1}, 8, 8},
	"sign":                        {[]int{1}, 4, 0},
	"sign:bucket=24":              {[]int{1}, 4, 24},
	"natural":                     {[]int{8, 1}, 0, 0},
	"fp16":                        {[]int{16}, 4, 0},
	"bf16":                        {[]int{16}, 0, 0},
	"float:exponent=4,mantissa=3": {[]int{8}, 4, 0},
	"float:exponent=5,mantissa=2": {[]int{8}, 4, 0},
	"float:exponent=3,mantissa=2": {[]int{4, 2}, 4, 0},
	"float:exponent=2,mantissa=0": {[]int{2, 1}, 4, 0},
	"float:exponent=3,mantissa=0": {[]int{4}, 4, 0},
	"float:exponent=4,mantissa=3,stochastic=true":           {[]int{8}, 4, 0},
	"float:exponent=2,mantissa=1,bucket=32":                 {[]int{4}, 4, 32},
	"float:exponent=2,mantissa=1,stochastic=true,bucket=32": {[]int{4}, 4, 32},
	"float:exponent=6,mantissa=1,stochastic=true":           {[]int{8}, 4, 0},
}

// choices are all forms, in the order of Names.
func choices() []string {
	var out []string
	for _, name := range Names() {
		if forms := exam[name.Name]; forms != nil {
			out = append(out, forms...)
		} else {
			out = append(out, name.Name)
		}
	}
	return out
}

// made makes a compressor.
func made(t testing.TB, choice string) Compressor {
	t.Helper()
	s, err := spec.Parse(choice)
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// bell is n numbers that look normal: sums of twelve draws.
func bell(seed uint64, n int) []float32 {
	r := rng.New(seed, "bell")
	x := make([]float32, n)
	for i := range x {
		for range 12 {
			x[i] += r.Float32() - 0.5
		}
	}
	return x
}

// examples are vectors that compressors meet, of ordinary numbers first.
func examples(n int) (names []string, x [][]float32) {
	add := func(name string, f func(i int) float32) {
		v := make([]float32, n)
		for i := range v {
			v[i] = f(i)
		}
		names, x = append(names, name), append(x, v)
	}
	b := bell(uint64(n), n)
	add("normal", func(i int) float32 { return b[i] })
	add("steep", func(i int) float32 { return b[i] * []float32{1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1}[i%7] })
	add("equal", func(int) float32 { return -0.7 })
	add("one large", func(i int) float32 {
		if i == n/2 {
			return 3
		}
		return 0.011 * b[i]
	})
	add("rising", func(i int) float32 { return float32(i-n/3) / float32(n) })
	add("zero", func(i int) float32 { return float32(math.Copysign(0, float64(i%3)-1)) })
	add("huge", func(i int) float32 { return []float32{math.MaxFloat32, -math.MaxFloat32, 3e38, 1}[i%4] })
	add("tiny", func(i int) float32 { return math.Float32frombits(uint32(i*2654435761) & 0x800fffff) })
	add("every exponent", func(i int) float32 { return math.Float32frombits(uint32(i) * 2654435761 & 0xbfffffff) })
	return names, x
}

const ordinary = 5 // how many of them keep clear of float32's ends

var lengths = []int{0, 1, 2, 7, 8, 9, 31, 33, 64, 100, 513, 2049, 5000}

// TestExam holds the contract: a choice prints as it is read; codes are the same each time, appended, and of a length within
// bounds; what they decode to is finite, and Add's bits are those of Decode and Axpy; NaN and infinities have no code.
func TestExam(t *testing.T) {
	for _, choice := range choices() {
		t.Run(choice, func(t *testing.T) {
			s, _ := spec.Parse(choice)
			c := made(t, choice)
			if again := made(t, c.String()); again.String() != c.String() || exam[s.Name] != nil && c.String() != choice {
				t.Fatalf("prints as %s, and read again as %s", c, again)
			}
			for _, n := range lengths {
				names, vectors := examples(n)
				for k, x := range vectors {
					before := slices.Clone(x)
					p, err := c.Encode([]byte("head"), x, 5)
					var small *StepError
					if errors.As(err, &small) && k >= ordinary {
						continue
					}
					if errors.Is(err, ErrNotFinite) && k >= ordinary && !bounded(c) {
						continue // a number times what makes it unbiased is infinite
					}
					if err != nil {
						t.Fatalf("%s, %d elements: %v", names[k], n, err)
					}
					q, _ := made(t, choice).Encode([]byte("head"), x, 5)
					if string(p[:4]) != "head" || !bytes.Equal(p, q) || !bytes.Equal(vec.Bytes(x), vec.Bytes(before)) {
						t.Fatalf("%s, %d elements: the code is not appended, not the same twice, or x is written to", names[k], n)
					}
					p = p[4:]
					if _, fixed := c.(Fixed); len(p) > c.MaxLen(n) || fixed && len(p) != c.MaxLen(n) {
						t.Fatalf("%s, %d elements: %d bytes, MaxLen is %d", names[k], n, len(p), c.MaxLen(n))
					}
					y := bell(9, n)
					if err := c.Decode(y, p); err != nil {
						t.Fatalf("%s, %d elements: %v", names[k], n, err)
					}
					if _, same := c.(Identity); !vec.Finite(y) || names[k] == "zero" && vec.MaxAbs(y) != 0 || same && !bytes.Equal(vec.Bytes(x), vec.Bytes(y)) {
						t.Fatalf("%s, %d elements: decodes to %v", names[k], n, y)
					}
					if _, sparse := c.(Sparse); sparse {
						continue // Add leaves dropped elements alone: see their own tests
					}
					for _, scale := range []float32{1, -0.3} {
						got, want, tmp := bell(7, n), bell(7, n), make([]float32, n)
						vec.Axpy(scale, y, want)
						if err := Add(c, got, p, scale, tmp); err != nil || !sameFloats(got, want) {
							t.Fatalf("%s, %d elements: adds %v times to %v, want %v (%v)", names[k], n, scale, got, want, err)
						}
					}
				}
				if n == 0 || choice == "identity" {
					continue
				}
				for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
					x := bell(1, n)
					x[n*2/3] = bad
					if p, err := c.Encode([]byte("head"), x, 5); !errors.Is(err, ErrNotFinite) || string(p) != "head" {
						t.Errorf("%v among %d elements is encoded as %q, %v", bad, n, p, err)
					}
				}
			}
		})
	}
}

// bounded tells whether no number grows by more than is stated as an error of rounding.
func bounded(c Compressor) bool {
	_, sparse := c.(Sparse)
	return !sparse
}

func sameFloats(a, b []float32) bool { return bytes.Equal(vec.Bytes(a), vec.Bytes(b)) }

// TestLengths holds each Fixed quantiser to its formula.
func TestLengths(t *testing.T) {
	for _, choice := range choices() {
		c := made(t, choice)
		f, known := bitsOfCode[choice]
		if _, fixed := c.(Fixed); !fixed {
			continue
		} else if _, sparse := c.(Sparse); sparse {
			continue // see TestSparse
		}
		if !known {
			t.Errorf("%s: no formula", choice)
		}
		for _, n := range append(lengths, 1<<20, 12345677) {
			want := 0
			for _, w := range f.planes {
				want += (w*n + 7) / 8
			}
			if n > 0 && f.buckets == 0 {
				want += f.head
			} else if f.buckets != 0 {
				want += f.head * ((n + f.buckets - 1) / f.buckets)
			}
			if c.MaxLen(n) != want {
				t.Errorf("%s: %d elements take %d bytes, the formula gives %d", choice, n, c.MaxLen(n), want)
			}
		}
	}
}

// distance is |a-b|^2.
func distance(a, b []float32) float64 {
	s := 0.0
	for i := range a {
		d := float64(a[i]) - float64(b[i])
		s += d * d
	}
	return s
}

// TestErrors holds Omega and Delta: the mean over draws of |C(x)-x|^2 is at most the claim, and 5 standard errors; who does
// not draw has none.
func TestErrors(t *testing.T) {
	const draws = 500
	for _, choice := range choices() {
		c := made(t, choice)
		for _, n := range []int{1, 10, 100, 512, 1111} {
			names, vectors := examples(n)
			for k, x := range vectors[:ordinary] {
				limit := math.Inf(1)
				if u, ok := c.(Unbiased); ok {
					limit = u.Omega(n)
				}
				if d, ok := c.(Contraction); ok {
					if !(d.Delta(n) > 0 && d.Delta(n) <= 1) {
						t.Errorf("%s: Delta(%d) is %v", choice, n, d.Delta(n))
					}
					limit = min(limit, 1-d.Delta(n))
				}
				if math.IsInf(limit, 0) {
					continue
				}
				var sum, squares float64
				y, p := make([]float32, n), []byte(nil)
				for i := range draws {
					p, _ = c.Encode(p[:0], x, rng.Key(uint64(i), "errors"))
					if err := c.Decode(y, p); err != nil {
						t.Fatal(err)
					}
					e := distance(x, y) / vec.SumSquares(x)
					sum, squares = sum+e, squares+e*e
				}
				mean := sum / draws
				se := math.Sqrt(max(squares/draws-mean*mean, 0) / draws)
				if mean > limit*(1+1e-6)+5*se+1e-12 {
					t.Errorf("%s, %s, %d elements: the error is %.6g +- %.2g, claimed %.6g", choice, names[k], n, mean, se, limit)
				}
			}
		}
	}
}

// meansOff draws until the standard error of the ratio <C(x), w>/<x, w> is an eighth of one in a hundred, for two weights w, x
// itself and its signs, and returns how many standard errors the means times factor are from 1.
func meansOff(t *testing.T, c Compressor, x []float32, factor float64) (z [2]float64) {
	t.Helper()
	n := len(x)
	signs := make([]float32, n)
	for i, v := range x {
		signs[i] = float32(math.Copysign(1, float64(v)))
	}
	y, p := make([]float32, n), []byte(nil)
	var sum, squares [2]float64
	whole := [2]float64{vec.SumSquares(x), vec.SumAbs(x)}
	for i := 1; i <= 1<<19; i++ {
		p, _ = c.Encode(p[:0], x, rng.Key(uint64(i), "unbiased"))
		if err := c.Decode(y, p); err != nil {
			t.Fatal(err)
		}
		for k, w := range [][]float32{x, signs} {
			r := float64(vec.Dot(y, w)) / whole[k] * factor
			sum[k], squares[k] = sum[k]+r, squares[k]+r*r
		}
		if i < 64 || i&(i-1) != 0 {
			continue
		}
		enough := true
		for k := range z {
			mean := sum[k] / float64(i)
			// Dot's rounding is at most 1e-6.
			se := max(math.Sqrt(max(squares[k]/float64(i)-mean*mean, 0)/float64(i)), 1e-6)
			z[k] = (mean - 1) / se
			enough = enough && se < 1./800
		}
		if enough {
			return z
		}
	}
	t.Fatalf("%s: half a million draws leave too large an error", c)
	return z
}

// TestMeans: who claims to be unbiased is within 4 standard errors of it (once in 16 000 it would not be), where 1 % more or less is 8 off.
func TestMeans(t *testing.T) {
	r := rng.New(77, "means")
	x := make([]float32, 512)
	for i := range x {
		x[i] = (0.1 + r.Float32()) * float32(2*r.IntN(2)-1)
	}
	for _, choice := range choices() {
		c := made(t, choice)
		_, ok := c.(Unbiased)
		steps, random := c.(*Steps)
		if !ok && !(random && steps.random) {
			continue
		}
		for _, factor := range []float64{1, 1.01, 0.99} {
			for k, z := range meansOff(t, c, x, factor) {
				if far := math.Abs(z) > 4; far != (factor != 1) {
					t.Errorf("%s: times %v the mean is %.1f standard errors off, weight %d", choice, factor, z, k)
				}
			}
			if choice == "identity" {
				break
			}
		}
	}
	// And what is known to be biased is found out.
	for _, choice := range []string{"terngrad:clip=1", "uniform:bits=2", "sign"} {
		if z := meansOff(t, made(t, choice), x, 1); math.Abs(z[0]) < 4 && math.Abs(z[1]) < 4 {
			t.Errorf("%s seems unbiased: %v", choice, z)
		}
	}
}

// TestNoGarbage: after the first, calls allocate nothing.
func TestNoGarbage(t *testing.T) {
	x, y := bell(1, 5000), make([]float32, 5000)
	for _, choice := range choices() {
		c := made(t, choice)
		p, tmp := make([]byte, 0, c.MaxLen(len(x))), make([]float32, len(x))
		var err error
		round := func() {
			if p, err = c.Encode(p[:0], x, 3); err == nil {
				err = errors.Join(c.Decode(y, p), Add(c, y, p, 1, tmp))
			}
		}
		round()
		if n := testing.AllocsPerRun(10, round); err != nil || n != 0 {
			t.Errorf("%s: %v allocations (%v)", choice, n, err)
		}
	}
}

// TestShrinkErrors: divided by 1+Omega, an unbiased compressor contracts by 1/(1+Omega) at least, on average.
func TestShrinkErrors(t *testing.T) {
	const draws = 500
	x := bell(5, 600)
	for _, choice := range choices() {
		u, ok := made(t, choice).(Unbiased)
		if !ok {
			continue
		}
		c := Shrink(u.(Compressor))
		delta := c.(Contraction).Delta(len(x))
		var sum, squares float64
		y, z := make([]float32, len(x)), make([]float32, len(x))
		for i := range draws {
			p, err := c.Encode(nil, x, rng.Key(uint64(i), "shrink"))
			if err = errors.Join(err, c.Decode(y, p)); err != nil {
				t.Fatal(err)
			}
			clear(z)
			if err := Add(c, z, p, 1, make([]float32, len(x))); err != nil || distance(y, z) > 1e-12*vec.SumSquares(y) {
				t.Fatalf("%s: adds another vector than it decodes (%v)", choice, err)
			}
			e := distance(x, y) / vec.SumSquares(x)
			sum, squares = sum+e, squares+e*e
		}
		mean := sum / draws
		se := math.Sqrt(max(squares/draws-mean*mean, 0) / draws)
		if mean > 1-delta+5*se+1e-9 {
			t.Errorf("%s: the error is %.6g +- %.2g, claimed %.6g", choice, mean, se, 1-delta)
		}
		_, f1 := u.(Fixed)
		if _, f2 := c.(Fixed); f1 != f2 || c.String() != u.(Compressor).String() {
			t.Errorf("%s: the shrunk one is fixed: %v, its name %s", choice, f2, c)
		}
	}
}

// BenchmarkCodec encodes and decodes: bytes are those of the float32.
func BenchmarkCodec(b *testing.B) {
	const n = 1 << 20
	x, y := bell(6, n), make([]float32, n)
	for _, choice := range choices() {
		b.Run(choice, func(b *testing.B) {
			c := made(b, choice)
			p := make([]byte, 0, c.MaxLen(n))
			round := func() {
				var err error
				if p, err = c.Encode(p[:0], x, 3); err == nil {
					err = c.Decode(y, p)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			round()
			limit := math.Inf(1)
			if d, ok := c.(Contraction); ok {
				limit = 1 - d.Delta(n)
			} else if u, ok := c.(Unbiased); ok {
				limit = 1.1 * u.Omega(n)
			}
			e := distance(x, y) / vec.SumSquares(x)
			if e > limit+1e-12 {
				b.Fatalf("the error is %v, claimed %v", e, limit)
			}
			b.SetBytes(4 * n)
			for b.Loop() {
				round()
			}
			b.ReportMetric(8*float64(len(p))/n, "bits/elem")
			b.ReportMetric(math.Sqrt(e), "error")
		})
	}
}

func ExampleNew() {
	s, _ := spec.Parse("qsgd:levels=7")
	c, _ := New(s)
	code, _ := c.Encode(nil, []float32{0.5, -1, 0, 2}, 1)
	x := make([]float32, 4)
	if err := c.Decode(x, code); err != nil {
		fmt.Println(err)
	}
	fmt.Println(c, len(code), "bytes")
	// Output: qsgd:levels=7 6 bytes
}
