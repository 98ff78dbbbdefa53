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
	"onebit":                      {[]int{1}, 8, 512},
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

// TestCorrupt: what is cut, longer or changed is refused or decodes to finite numbers; a *CorruptError says so.
func TestCorrupt(t *testing.T) {
	r := rng.New(3, "corrupt")
	for _, choice := range choices() {
		c := made(t, choice)
		for _, n := range []int{0, 1, 9, 600, 3001} {
			p, err := c.Encode(nil, bell(4, n), 5)
			if err != nil {
				t.Fatal(err)
			}
			try := func(what string, p []byte, must bool) {
				y, z := make([]float32, n), make([]float32, n)
				err := c.Decode(y, p)
				var corrupt *CorruptError
				if err != nil && !errors.As(err, &corrupt) || err == nil && (must || !vec.Finite(y) && choice != "identity") {
					t.Fatalf("%s, %d elements, %s: %v", choice, n, what, err)
				}
				if e := Add(c, z, p, 1, make([]float32, n)); (e == nil) != (err == nil) {
					t.Fatalf("%s, %d elements, %s: Decode says %v, Add says %v", choice, n, what, err, e)
				}
			}
			_, fixed := c.(Fixed)
			for cut := range min(len(p), 40) {
				try("cut", p[:cut], fixed)
				try("cut", p[:len(p)-1-cut], true)
			}
			try("one byte more", append(slices.Clone(p), 0), true)
			try("many more", append(slices.Clone(p), make([]byte, c.MaxLen(n)+1)...), true)
			for range 200 {
				if len(p) == 0 {
					break
				}
				q := slices.Clone(p)
				q[r.IntN(len(q))] ^= 1 << r.IntN(8)
				try("a bit changed", q, false)
				q[r.IntN(min(len(q), 12))] = byte(r.Uint32())
				try("two bytes changed", q, false)
			}
			for range 50 {
				q := slices.Clone(p)
				for i := range q {
					q[i] = byte(r.Uint32())
				}
				try("noise", q, false)
			}
		}
	}
}

// TestRefused: what no Encode writes is refused, each for its own reason.
func TestRefused(t *testing.T) {
	float := func(v float32) []byte { return slices.Clone(vec.Bytes([]float32{v})) }
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, k := range []struct {
		choice string
		n      int
		p      []byte
		what   string
	}{
		{"uniform", 1, append(float(nan), 127), "the step NaN, expected one from 1.1754944e-38 to 2.6793884e+36"},
		{"uniform", 1, append(float(inf), 127), "the step +Inf"},
		{"uniform", 1, append(float(-1), 127), "the step -1"},
		{"uniform", 1, append(float(0), 127), "the step 0"},
		{"uniform", 1, append(float(3e36), 127), "the step 3e+36"},
		{"uniform", 1, append(float(1), 255), "a level above 127"},
		{"uniform:bits=16", 1, append(float(1), 0, 0x80), "a level below -32767"},
		{"uniform:bits=4", 1, append(float(1), 0x17), "bits are set behind the last element"},
		{"uniform:bits=4", 1, append(float(1), 0x0f), "a level above 7"},
		{"uniform:bits=3", 1, append(float(1), 0x04, 0), "bits are set behind the last element"},
		{"qsgd:levels=5", 1, append(float(1), 11), "a level above 5"},
		{"terngrad", 2, append(float(1), 0x0d), "a level above 1"},
		{"uniform:delta=1", 1, nil, "0 bytes"},
		{"uniform:delta=1", 1, []byte{1, 0}, "codes of 1 bits"},
		{"uniform:delta=1", 1, []byte{17, 0, 0}, "codes of 17 bits"},
		{"uniform:delta=1", 1, []byte{16, 255, 255}, "a level above 32767"},
		{"sign", 1, append(float(nan), 0), "the mean NaN"},
		{"sign", 1, append(float(-1), 0), "the mean -1"},
		{"sign", 1, append(float(1), 2), "bits are set behind the last element"},
		{"onebit", 1, append(append(float(1), float(1)...), 0), "the means 1 and 1"},
		{"onebit", 1, append(append(float(nan), float(-1)...), 0), "the means NaN and -1"},
		{"onebit", 1, append(append(float(1), float(-inf)...), 0), "the means 1 and -Inf"},
		{"natural", 1, []byte{255, 0}, "an exponent of 255"},
		{"natural", 1, []byte{4, 2}, "bits are set behind the last element"},
		{"fp16", 1, append(float(3), 0, 0), "the scale 3, expected a power of two"},
		{"fp16", 1, append(float(1), 0, 0x7c), "a number above the largest one"},
		{"fp16", 1, append(float(1), 0, 0x7e), "a number above the largest one"},
		{"fp16", 1, append(float(0x1p113), 0, 0x78), "a number above the largest one"},
		{"bf16", 1, []byte{0x80, 0x7f}, "an infinity or a NaN"},
		{"float", 1, append(float(0x1p124), 0), "the scale 2.1267648e+37, expected a power of two from 2^-126 to 2^123"},
		{"float", 1, append(float(-1), 0), "the scale -1"},
		{"float:exponent=2,mantissa=1", 1, append(float(1), 0x10), "bits are set behind the last element"},
		{"qsgd:levels=1,code=elias", 5, append(float(1), 0xff, 0xff), "a distance that leads out of the vector, or none"},
		{"qsgd:levels=1,code=elias", 5, append(float(1), 0x60), "no level from 1 to 1"},
		{"qsgd:levels=1,code=elias", 5, append(float(1), 0xb0, 0), "10 bits behind the end"},
	} {
		err := made(t, k.choice).Decode(make([]float32, k.n), k.p)
		var corrupt *CorruptError
		if !errors.As(err, &corrupt) || !bytes.HasPrefix([]byte(corrupt.What), []byte(k.what)) || corrupt.N != k.n {
			t.Errorf("%s of %x: %v, want %s", k.choice, k.p, err, k.what)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for choice, want := range map[string]string{
		"unifrom":                     `unknown compressor "unifrom": did you mean "uniform"?`,
		"uniform:bits=9":              "uniform: bits is 9, expected 2 to 8, or 16",
		"uniform:bucket=12":           "uniform: bucket is 12 elements, expected a multiple of 8 such as 512, or 0 for the whole vector",
		"uniform:delta=0":             "uniform: delta is 0, expected a step between 2^-100 and 2^100 such as 0.001",
		"random:bits=8,delta=1":       "random: delta is the step itself, of all elements: bits and bucket go without it",
		"qsgd:levels=128":             "qsgd: levels is 128, expected 1 to 127",
		"qsgd:code=huffman":           `qsgd: unknown code "huffman" (packed, elias)`,
		"terngrad:clip=-1":            "terngrad: clip is -1 times the root mean square, expected a number from 0.1 to 1000, such as 2.5",
		"float:exponent=7":            "float: exponent is 7 bits, expected 2 to 6 (with 1 the numbers are evenly spaced: see uniform)",
		"float:exponent=4,mantissa=4": "float: mantissa is 4 bits, expected 0 to 3: with the sign and 4 bits of exponent 8 in all",
		"natural:bits=9":              `natural: takes no parameter "bits"`,
	} {
		s, err := spec.Parse(choice)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := New(s); err == nil || err.Error() != want {
			t.Errorf("%s makes %v, %v; want %s", choice, c, err, want)
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

func FuzzDecode(f *testing.F) {
	all := choices()
	for i, choice := range all {
		for _, n := range []int{0, 1, 70, 600} {
			p, err := made(f, choice).Encode(nil, bell(2, n), 1)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(i), uint16(n), p)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, n uint16, p []byte) {
		choice := all[int(which)%len(all)]
		c := made(t, choice)
		x, y := make([]float32, n%5000), make([]float32, n%5000)
		err := c.Decode(x, p)
		if err == nil && choice != "identity" && !vec.Finite(x) {
			t.Fatalf("%s decodes to %v", choice, x)
		}
		if e := Add(c, y, p, 1, make([]float32, len(y))); (e == nil) != (err == nil) {
			t.Fatalf("%s: Decode says %v, Add says %v", choice, err, e)
		}
	})
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
