package compress

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math"
	"testing"

	"github.com/covey-ml/covey/rng"
	"github.com/covey-ml/covey/vec"
)

// average is what f gives for what c makes of x, over draws, and its standard error.
func average(t *testing.T, c Compressor, x []float32, draws int, f func(y []float32, p []byte) float64) (mean, se float64) {
	t.Helper()
	y, p := make([]float32, len(x)), []byte(nil)
	var sum, squares float64
	for i := range draws {
		var err error
		p, err = c.Encode(p[:0], x, rng.Key(uint64(i), "average"))
		if err = errors.Join(err, c.Decode(y, p)); err != nil {
			t.Fatal(err)
		}
		v := f(y, p)
		sum, squares = sum+v, squares+v*v
	}
	mean = sum / float64(draws)
	return mean, math.Sqrt(max(squares/float64(draws)-mean*mean, 0) / float64(draws))
}

func fillWith(n int, v float32) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = v
	}
	return x
}

// TestQSGDTheorem32: with s levels the variance is at most min(n/s^2, sqrt(n)/s) |x|^2 (arXiv 1610.02132, theorem 3.2). Of
// equal elements it is sqrt(n)/s-1 when that is positive, so that half of the levels would break the bound. At most
// s(s+sqrt(n)) elements are not 0 on average (lemma 3.1), and their Elias code takes at most
// (3 + 3/2 log2(2(s^2+n)/(s(s+sqrt(n))))) s(s+sqrt(n)) + 32 bits, and what fills the last byte.
func TestQSGDTheorem32(t *testing.T) {
	const draws = 1000
	for _, k := range []struct {
		n        int
		s        float64
		c, elias string
	}{
		{400, 1, "qsgd:levels=1,bucket=0", "qsgd:levels=1,code=elias,bucket=0"},
		{1024, 4, "qsgd:levels=4,bucket=0", "qsgd:levels=4,code=elias,bucket=0"},
		{100, 15, "qsgd:levels=15,bucket=0", "qsgd:levels=15,code=elias,bucket=0"},
	} {
		n, root := float64(k.n), math.Sqrt(float64(k.n))
		c, elias := made(t, k.c), made(t, k.elias)
		bound := min(n/(k.s*k.s), root/k.s)
		sparse := k.s * (k.s + root)
		length := (3+1.5*math.Log2(2*(k.s*k.s+n)/sparse))*sparse + 32 + 7
		if got := c.(Unbiased).Omega(k.n); got != bound || elias.(Unbiased).Omega(k.n) != bound {
			t.Errorf("%s: Omega is %v, the theorem has %v", k.c, got, bound)
		}
		names, vectors := examples(k.n)
		for j, x := range vectors[:ordinary] {
			of := vec.SumSquares(x)
			v, se := average(t, c, x, draws, func(y []float32, _ []byte) float64 { return distance(x, y) / of })
			if v > bound+5*se {
				t.Errorf("%s of %s: the variance is %v +- %v, at most %v", k.c, names[j], v, se, bound)
			}
			if want := root/k.s - 1; names[j] == "equal" && want > 0 && math.Abs(v-want) > 5*se+1e-3 {
				t.Errorf("%s of equal elements: the variance is %v +- %v, want %v", k.c, v, se, want)
			}
			some, se := average(t, elias, x, draws, func(y []float32, _ []byte) float64 {
				k := 0.0
				for _, v := range y {
					if v != 0 {
						k++
					}
				}
				return k
			})
			if some > sparse+5*se {
				t.Errorf("%s of %s: %v +- %v are not 0, at most %v", k.elias, names[j], some, se, sparse)
			}
			bits, se := average(t, elias, x, draws, func(_ []float32, p []byte) float64 { return 8 * float64(len(p)) })
			if bits > length+5*se {
				t.Errorf("%s of %s: %v +- %v bits, at most %v", k.elias, names[j], bits, se, length)
			}
		}
	}
}

// TestEliasIsQSGD: the same draws make the same numbers, whatever the code.
func TestEliasIsQSGD(t *testing.T) {
	for _, levels := range []string{"levels=1", "levels=20", "levels=127"} {
		a, b := made(t, "qsgd:"+levels), made(t, "qsgd:code=elias,"+levels)
		for _, n := range lengths {
			names, vectors := examples(n)
			for k, x := range vectors {
				p, err1 := a.Encode(nil, x, 8)
				q, err2 := b.Encode(nil, x, 8)
				y, z := make([]float32, n), make([]float32, n)
				if err := errors.Join(err1, err2, a.Decode(y, p), b.Decode(z, q)); err != nil || !sameFloats(y, z) {
					t.Fatalf("%s, %d %s elements: %v and %v (%v)", levels, n, names[k], y, z, err)
				}
			}
		}
	}
}

// TestOmega has the codes of Elias' table (IEEE Transactions on Information Theory 21, 1975, page 200), and reads all up to
// 5000 back. The longest code there is is as long as MaxLen says.
func TestOmega(t *testing.T) {
	for v, want := range map[uint64]string{1: "0", 2: "100", 3: "110", 4: "101000", 7: "101110", 8: "1110000", 15: "1111110",
		16: "10100100000", 32: "101011000000", 100: "1011011001000", 1000: "11100111111010000"} {
		code, size := omega(v)
		got := ""
		for i := size - 1; i >= 0; i-- {
			got += string(rune('0' + code>>i&1))
		}
		if got != want {
			t.Errorf("%d is %s, want %s", v, got, want)
		}
	}
	var w bitWriter
	for v := uint64(1); v <= 5000; v++ {
		w.put(omega(v))
		if _, size := omega(v); size > int(2*v-1) {
			t.Errorf("%d takes %d bits", v, size)
		}
	}
	w.put(omega(1<<32 - 1))
	w.put(0, 7)
	r := bitReader{p: w.p}
	for v := 1; v <= 5000; v++ {
		if got := r.number(5000); got != v {
			t.Fatalf("%d is read as %d", v, got)
		}
	}
	if got := r.number(1 << 40); got != 1<<32-1 {
		t.Errorf("2^32-1 is read as %d", got)
	}
	c := made(t, "qsgd:code=elias")
	if p, err := c.Encode(nil, []float32{-5}, 1); err != nil || len(p) != c.MaxLen(1) {
		t.Errorf("one element takes %d bytes, %v; MaxLen is %d", len(p), err, c.MaxLen(1))
	}
}

// TestNaturalTheorem1: E|C(x)|^2 <= 9/8 |x|^2 (arXiv 1905.10988, theorem 1), and x = 4/3 times a power of two has just that;
// powers of two stay as they are, as does what is 0.
func TestNaturalTheorem1(t *testing.T) {
	c := made(t, "natural")
	for _, x := range []float32{1. / 3, -2. / 3, 1.001, 1.1, 1.2, -1.4, 1.5, 1.7, 1.999, 4. / 3, 1e-20 / 3, 7e30} {
		v := fillWith(5000, x)
		f, _ := math.Frexp(math.Abs(float64(x)))
		p := 2*f - 1                            // the fraction, and the probability of 2 rather than 1 times the power below
		want := (1 + 3*p) / ((1 + p) * (1 + p)) // 9/8 for 1/3
		got, se := average(t, c, v, 200, func(y []float32, _ []byte) float64 { return vec.SumSquares(y) / vec.SumSquares(v) })
		if got > 9./8+5*se || math.Abs(got-want) > 5*se {
			t.Errorf("%v: E|C(x)|^2 is %v +- %v of |x|^2, want %v, at most 9/8", x, got, se, want)
		}
	}
	exact := []float32{1, -2, 0, float32(math.Copysign(0, -1)), 0x1p-126, 0x1p127, 0x1p-30, -0x1p100}
	y := make([]float32, len(exact))
	for key := range uint64(100) {
		p, err := c.Encode(nil, exact, key)
		if err = errors.Join(err, c.Decode(y, p)); err != nil || !sameFloats(y, exact) {
			t.Fatalf("%v becomes %v, %v", exact, y, err)
		}
	}
	if p, err := c.Encode(nil, []float32{math.MaxFloat32}, 1); err != nil || p[0] != 254 {
		t.Errorf("the largest number gets the code %x, %v: want 2^127", p, err)
	}
}

// TestTernGrad: numbers are 0 or the largest magnitude with their sign, and E|C(x)|^2 = max|x| times the sum of |x| (arXiv
// 1705.07878, section 3.1); clipping makes the largest one smaller (section 3.3).
func TestTernGrad(t *testing.T) {
	x := bell(3, 1000)
	m := vec.MaxAbs(x)
	want := float64(m) * vec.SumAbs(x)
	got, se := average(t, made(t, "terngrad"), x, 1000, func(y []float32, _ []byte) float64 {
		for i, v := range y {
			if v != 0 && math.Abs(float64(v-float32(math.Copysign(float64(m), float64(x[i]))))) > 1e-6 {
				t.Fatalf("%v becomes %v; the largest is %v", x[i], v, m)
			}
		}
		return vec.SumSquares(y)
	})
	if math.Abs(got-want) > 5*se {
		t.Errorf("E|C(x)|^2 is %v +- %v, want %v", got, se, want)
	}
	clipped := 2.5 * math.Sqrt(vec.SumSquares(x)/1000)
	average(t, made(t, "terngrad:clip=2.5"), x, 10, func(y []float32, _ []byte) float64 {
		if top := float64(vec.MaxAbs(y)); math.Abs(top-clipped) > 1e-6*clipped || top >= float64(m) {
			t.Errorf("clipped at %v, want %v, below %v", top, clipped, m)
		}
		return 0
	})
}

// TestSignLosesWhatItSays: |C(x)-x|^2 = |x|^2 - |x|_1^2/n (arXiv 1901.09847, lemma 8); of normal numbers 2/pi stays, of one
// element among zeros 1/n: Delta is attained.
func TestSignLosesWhatItSays(t *testing.T) {
	for _, n := range []int{1, 2, 100, 5000} {
		names, vectors := examples(n)
		for k, x := range vectors[:ordinary] {
			lost, _ := average(t, made(t, "sign"), x, 1, func(y []float32, _ []byte) float64 { return distance(x, y) })
			l1, l2 := vec.SumAbs(x), vec.SumSquares(x)
			if want := l2 - l1*l1/float64(n); math.Abs(lost-want) > 1e-6*l2 {
				t.Errorf("%d %s elements: %v is lost, want %v", n, names[k], lost, want)
			}
			if names[k] == "normal" && n == 5000 && math.Abs(1-lost/l2-2/math.Pi) > 0.02 {
				t.Errorf("of normal numbers %v stays", 1-lost/l2)
			}
		}
		one := make([]float32, n)
		one[n/2] = 3
		c := made(t, "sign")
		lost, _ := average(t, c, one, 1, func(y []float32, _ []byte) float64 { return distance(one, y) / 9 })
		if d := c.(Contraction).Delta(n); math.Abs(1-lost-d) > 1e-6 || d != 1/float64(n) {
			t.Errorf("of one element among %d %v stays, Delta is %v", n, 1-lost, d)
		}
	}
}

// TestOneBitIsNearest: what is lost has mean 0 among the elements with a sign and among those without, in each bucket, so
// that no two numbers would be nearer (Seide et al. 2014, section 3.1: the mean of what a bit stands for); it is no more than
// Sign loses.
func TestOneBitIsNearest(t *testing.T) {
	c, sign := made(t, "onebit:bucket=64"), made(t, "sign:bucket=64")
	for _, n := range []int{1, 63, 64, 65, 1000} {
		names, vectors := examples(n)
		for k, x := range vectors[:ordinary] {
			own, _ := average(t, c, x, 1, func(y []float32, _ []byte) float64 {
				for lo := 0; lo < n; lo += 64 {
					var sum [2]float64
					for i := lo; i < min(lo+64, n); i++ {
						s := 0
						if math.Signbit(float64(x[i])) {
							s = 1
						}
						sum[s] += float64(x[i]) - float64(y[i])
					}
					if off := max(math.Abs(sum[0]), math.Abs(sum[1])); off > 64*1e-7*float64(vec.MaxAbs(x)) {
						t.Fatalf("%d %s elements: from %d on the two kinds are off by %v", n, names[k], lo, sum)
					}
				}
				return distance(x, y)
			})
			other, _ := average(t, sign, x, 1, func(y []float32, _ []byte) float64 { return distance(x, y) })
			if own > other*(1+1e-6)+1e-12 {
				t.Errorf("%d %s elements: %v is lost, with one mean %v", n, names[k], own, other)
			}
		}
	}
}

// TestUniformDeltaIsAttained: elements in the middle between 0 and the first level are what costs most.
func TestUniformDeltaIsAttained(t *testing.T) {
	for _, choice := range []string{"uniform:bits=4", "uniform:bits=2", "uniform:bits=8", "uniform:bits=16"} {
		c := made(t, choice).(*Uniform)
		const n = 512
		x := fillWith(n, 0.5)
		x[7] = float32(c.top)
		lost, _ := average(t, c, x, 1, func(y []float32, _ []byte) float64 { return distance(x, y) / vec.SumSquares(x) })
		if want := 1 - c.Delta(n); math.Abs(lost-want) > 1e-9 {
			t.Errorf("%s: %v is lost, Delta says %v", choice, lost, want)
		}
	}
}

// TestSteps: Q(x) = sign(x) floor(|x|/d) d (course text, section 4) is towards 0, by less than a step, and changes no multiple
// of the step; a vector with too many steps is refused and told which step would do.
func TestSteps(t *testing.T) {
	for _, n := range []int{1, 100, 3000} {
		for _, d := range []float32{0.3, 0.01, 0.1, 1} {
			c := &Steps{d, false}
			x := bell(uint64(n), n)
			y, z := make([]float32, n), make([]float32, n)
			p, err1 := c.Encode(nil, x, 0)
			err2 := c.Decode(y, p)
			p, err3 := c.Encode(nil, y, 0)
			if err := errors.Join(err1, err2, err3, c.Decode(z, p)); err != nil || !sameFloats(y, z) {
				t.Fatalf("%v in steps of %v: once %v, twice %v (%v)", x, d, y, z, err)
			}
			for i, v := range x {
				q := math.Copysign(math.Floor(math.Abs(float64(v/d))), float64(v)) * float64(d)
				if math.Abs(float64(y[i])-q) > 1e-6*math.Abs(q) || math.Abs(float64(y[i])) > math.Abs(float64(v))*(1+1e-6) {
					t.Fatalf("%v in steps of %v is %v, want %v", v, d, y[i], q)
				}
			}
		}
	}
	for _, random := range []bool{false, true} {
		c := &Steps{1e-5, random}
		_, err := c.Encode(nil, []float32{1, -2}, 0)
		var small *StepError
		if !errors.As(err, &small) || small.Max != 2 {
			t.Fatalf("2 in steps of 0.00001: %v", err)
		}
		c.delta = small.Max / 32766
		if _, err := c.Encode(nil, []float32{1, -2}, 0); err != nil {
			t.Errorf("the step that is asked for: %v", err)
		}
	}
}

// TestHalfHasRange: neither large nor small vectors leave fp16's range, and what bf16 cannot say becomes its largest number.
func TestHalfHasRange(t *testing.T) {
	for _, scale := range []float64{1, 1e38, 1e-36, 65504, 1e10} {
		x, y := bell(1, 100), make([]float32, 100)
		for i := range x {
			x[i] = float32(float64(x[i]) * scale)
		}
		p, err := Half{}.Encode(nil, x, 0)
		if err = errors.Join(err, Half{}.Decode(y, p)); err != nil {
			t.Fatal(err)
		}
		for i, v := range x {
			if math.Abs(float64(v)-float64(y[i])) > 0x1p-11*math.Abs(float64(v)) {
				t.Errorf("%v becomes %v", v, y[i])
			}
		}
	}
	for _, c := range []Compressor{Half{}, Bfloat{}} {
		x, y := []float32{math.MaxFloat32, -math.MaxFloat32}, make([]float32, 2)
		p, err := c.Encode(nil, x, 0)
		if err = errors.Join(err, c.Decode(y, p)); err != nil || y[1] != -y[0] || !(y[0] >= 0x1.fcp127) {
			t.Errorf("%s: %v becomes %v, %v", c, x, y, err)
		}
	}
}

// goldenCodes is what each quantiser makes of seeded vectors, hashed: with assembly, without, and on every processor.
var goldenCodes = map[string]string{
	"identity":                            "b039461732304c7f",
	"uniform:bits=8":                      "d32caf8d9e93d856",
	"uniform:bits=8,bucket=0":             "eb0619052181c9a0",
	"uniform:bits=16":                     "b4ff4c6a60e205ee",
	"uniform:bits=7,bucket=64":            "75a7951b9c22d5f7",
	"uniform:bits=6":                      "bde11e65f02b4a39",
	"uniform:bits=5":                      "e6d3350b8da6536c",
	"uniform:bits=4":                      "276745a05feee7b3",
	"uniform:bits=3":                      "42b3b8c7d38b4d23",
	"uniform:bits=2":                      "114763ffd712073e",
	"uniform:delta=0.03125":               "bccdc437b79fdf81",
	"uniform:delta=0.3":                   "b491b58f8f64f3f8",
	"uniform:delta=0.00015":               "0188a3c07645a5ab",
	"uniform:delta=1000":                  "9218290090da5315",
	"random:bits=8":                       "70b9684478937ef9",
	"random:bits=16,bucket=0":             "df5fef62dc41dd9b",
	"random:bits=4":                       "60752f14598a5e62",
	"random:bits=3,bucket=8":              "bf59dd599179ebdb",
	"random:bits=2":                       "ae821d3dc0bd0d51",
	"random:delta=0.1":                    "9d13367258c38584",
	"random:delta=0.002":                  "57c4288ec4cbc04b",
	"random:delta=0.01":                   "42988ee5f1516181",
	"qsgd:levels=127":                     "8dc7d6363d990e5e",
	"qsgd:levels=127,bucket=0":            "b8324d418083ed90",
	"qsgd:levels=15":                      "94d5e277221e7c7c",
	"qsgd:levels=7,bucket=4096":           "3f6beaf93b238893",
	"qsgd:levels=2":                       "0d3a6301096ebf4b",
	"qsgd:levels=1":                       "280bf338b60070b7",
	"qsgd:levels=1,code=elias":            "e7ef23fe35782df7",
	"qsgd:levels=20,code=elias,bucket=64": "ddd0dab1e3062d5d",
	"qsgd:levels=127,code=elias,bucket=0": "71287ff66e9b6150",
	"terngrad":                            "b69b198697c85a25",
	"terngrad:bucket=512":                 "ae821d3dc0bd0d51",
	"terngrad:clip=2.5":                   "dc6c00c4458a51b9",
	"terngrad:clip=2,bucket=128":          "7ff67230c1f7ce11",
	"onebit":                              "1ae2932a0e1e11fd",
	"onebit:bucket=0":                     "0f53f5fbc9fd2004",
	"onebit:bucket=8":                     "f1e57e953a9b89de",
	"sign":                                "cd7cf435ba000a2a",
	"sign:bucket=24":                      "a1026e0a8ab8ad59",
	"natural":                             "ceb43c156432d9e6",
	"fp16":                                "7ca62aa8806829fa",
	"bf16":                                "ddf261578becd38e",
	"float:exponent=4,mantissa=3":         "272a48a79a4ccbd1",
	"float:exponent=5,mantissa=2":         "c80dd799a7211bd1",
	"float:exponent=4,mantissa=3,stochastic=true":           "3d9094f89092a386",
	"float:exponent=3,mantissa=2":                           "e21aa7831d1d7587",
	"float:exponent=2,mantissa=1,bucket=32":                 "9f6930bdf27ad056",
	"float:exponent=2,mantissa=1,stochastic=true,bucket=32": "2c2980aca0e8ca33",
	"float:exponent=2,mantissa=0":                           "4bb6f64593fa8013",
	"float:exponent=6,mantissa=1,stochastic=true":           "bbf15ea4392ccd6b",
	"float:exponent=3,mantissa=0":                           "89bbba0f7fcaf2f0",
}

func TestGoldenCodes(t *testing.T) {
	for _, choice := range choices() {
		c := made(t, choice)
		if _, sparse := c.(Sparse); sparse {
			continue
		}
		h := sha256.New()
		for _, n := range lengths {
			_, vectors := examples(n)
			for _, x := range vectors {
				p, err := c.Encode(nil, x, 5)
				if err != nil {
					continue // a *StepError
				}
				y := bell(2, n)
				h.Write(p)
				if err := Add(c, y, p, 0.7, make([]float32, n)); err != nil {
					t.Fatal(err)
				}
				h.Write(vec.Bytes(y))
			}
		}
		if got := hex.EncodeToString(h.Sum(nil)[:8]); got != goldenCodes[choice] {
			t.Errorf("%q: %q,", choice, got)
		}
	}
}
