package compress

import (
	"fmt"
	"math"

	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/vec"
)

// Float is a floating point number of at most 8 bits: a sign, an exponent, a mantissa, in vec.Mini's format, without infinities
// and NaN, of the elements divided by a power of two for each bucket: the least, from 2^-126 to 2^123, with which
// none is above the format's largest number. float:exponent=4,mantissa=3 is fp8 e4m3 but for the two codes that stand for NaN
// there. A bucket is the whole vector unless the choice says otherwise; with 32 elements the code is much like that of the Open
// Compute Project's microscaling formats (MX, version 1.0).
//
// Rounding is to nearest, ties to even, or at random to the number below or above so that the element is the expectation
// (stochastic=true; of 2^-24 exact probabilities). With M bits of mantissa, E of exponent, buckets of b elements, and h, half
// the distance between the smallest numbers over the largest one possible element, 2^(1-2^E-M)/(1-2^(-M-1)):
//
//	Delta = (1-4^(-M-1))/(1+(b-1) h^2)                                          to nearest
//	Omega = 4^-M/(4(1+2^-M)) + min((b-1) h^2, 2 sqrt(b) h)                      stochastic
//
// for vectors whose largest element is between 2^-121 and the format's largest number times 2^123.
//
// A code has 1+E+M bits an element, packed as packAt does (8, 4 and 2 of them in a row, others in parts), and 4 bytes for
// each bucket.
type Float struct{ mini }

// StochasticFloat is Float with random rounding.
type StochasticFloat struct{ mini }

// mini is what both have in common.
type mini struct {
	format vec.Mini
	bucket bucket
	random bool
	table  [256]float32
}

func newFloat(s *spec.Spec) (Compressor, error) {
	f := vec.Mini{Exponent: s.Int("exponent", 4), Mantissa: s.Int("mantissa", 3)}
	stochastic := s.Bool("stochastic", false)
	b, err := bucketOf(s, 0)
	switch {
	case f.Exponent < 2 || f.Exponent > 6:
		return nil, fmt.Errorf("exponent is %d bits, expected 2 to 6 (with 1 the numbers are evenly spaced: see uniform)", f.Exponent)
	case f.Mantissa < 0 || f.Exponent+f.Mantissa > 7:
		return nil, fmt.Errorf("mantissa is %d bits, expected 0 to %d: with the sign and %d bits of exponent 8 in all", f.Mantissa, 7-f.Exponent, f.Exponent)
	}
	c := mini{format: f, bucket: b, random: stochastic}
	f.Table(&c.table, 1)
	if stochastic {
		return &StochasticFloat{c}, err
	}
	return &Float{c}, err
}

// String implements Compressor.
func (c *mini) String() string {
	stochastic := ""
	if c.random {
		stochastic = ",stochastic=true"
	}
	return fmt.Sprintf("float:exponent=%d,mantissa=%d%s%s", c.format.Exponent, c.format.Mantissa, stochastic, c.bucket.suffix(0))
}

func (c *mini) width() int { return 1 + c.format.Exponent + c.format.Mantissa }

// MaxLen implements Compressor.
func (c *mini) MaxLen(n int) int { return 4*c.bucket.count(n) + packedLen(n, c.width()) }

// Fixed implements Fixed.
func (c *mini) Fixed() {}

// half is h of the formulas.
func (c *mini) half() float64 {
	m := c.format.Mantissa
	return math.Ldexp(1, 1-1<<c.format.Exponent-m) / (1 - math.Ldexp(1, -m-1))
}

// Delta implements Contraction.
func (c *Float) Delta(n int) float64 {
	h := c.half()
	return (1 - math.Ldexp(1, -2*c.format.Mantissa-2)) / (1 + float64(float64(c.bucket.size(n)-1)*h*h))
}

// Encode implements Compressor.
func (c *mini) Encode(dst []byte, x []float32, key uint64) ([]byte, error) {
	n := len(x)
	out := extend(dst, c.MaxLen(n))
	scales := out[len(dst):]
	p := scales[4*c.bucket.count(n):]
	done, ok := 0, true
	s := scratches.Take()
	defer scratches.Put(s)
	for at := 0; at < n; at += block {
		hi := min(at+block, n)
		done, ok = c.bucket.scales(n, done, hi, func(b, lo, hi int) bool {
			largest := vec.MaxAbs(x[lo:hi])
			putFloat(scales, b, power(c.scale(largest)))
			return isScale(largest)
		})
		if !ok {
			return dst, ErrNotFinite
		}
		var u []float32
		if c.random {
			u = s.u[:hi-at]
			vec.Uniform(u, key, uint64(at))
		}
		code := s.code[:hi-at]
		c.bucket.pieces(n, at, hi, func(b, lo, hi int) {
			vec.ToMini(code[lo-at:hi-at], x[lo:hi], some(u, lo-at, hi-at), 1/getFloat(scales, b), c.format)
		})
		packAt(p, n, at, code, c.width(), s.tmp[:])
	}
	return out, nil
}

const (
	leastScale = -126
	mostScale  = 123 // times 32, the largest number of no format, it is 2^128
)

// scale is the exponent of the power of two to divide a bucket by. The largest number of a format has exponent 4.
func (c *mini) scale(largest float32) int {
	e := min(max(exponent(largest)-4, leastScale), mostScale)
	if largest*power(-e) > c.format.Max() {
		e = min(e+1, mostScale)
	}
	return e
}

func (c *mini) check(p []byte, n int) string {
	if wrong := checkLen(p, c.MaxLen(n)); wrong != "" {
		return wrong
	}
	for b := range c.bucket.count(n) {
		if v := getFloat(p, b); !isPower(v, leastScale, mostScale) {
			return fmt.Sprintf("the scale %v, expected a power of two from 2^%d to 2^%d", v, leastScale, mostScale)
		}
	}
	if !padded(p[4*c.bucket.count(n):], n, c.width()) {
		return notPadded
	}
	return ""
}

func (c *mini) read(x []float32, p []byte, n, at int, s *scratch) string {
	code := s.code[:len(x)]
	unpackAt(code, p[4*c.bucket.count(n):], n, at, c.width(), s.tmp[:])
	vec.Lookup(x, code, &c.table)
	c.bucket.pieces(n, at, at+len(x), func(b, lo, hi int) { vec.Scale(getFloat(p, b), x[lo-at:hi-at]) })
	return ""
}

// Decode implements Compressor.
func (c *Float) Decode(x []float32, p []byte) error { return decodeBlocks(c, x, p) }

// Add implements Adder.
func (c *Float) Add(x []float32, p []byte, scale float32) error { return addBlocks(c, x, p, scale) }

// Omega implements Unbiased.
func (c *StochasticFloat) Omega(n int) float64 {
	h, b, d := c.half(), float64(c.bucket.size(n)), math.Ldexp(1, -c.format.Mantissa)
	return d*d/(4*(1+d)) + min(float64((b-1)*h*h), float64(2*math.Sqrt(b)*h))
}

// Decode implements Compressor.
func (c *StochasticFloat) Decode(x []float32, p []byte) error { return decodeBlocks(c, x, p) }

// Add implements Adder.
func (c *StochasticFloat) Add(x []float32, p []byte, scale float32) error {
	return addBlocks(c, x, p, scale)
}

var (
	_ Contraction = (*Float)(nil)
	_ Fixed       = (*Float)(nil)
	_ Adder       = (*Float)(nil)
	_ Unbiased    = (*StochasticFloat)(nil)
	_ Fixed       = (*StochasticFloat)(nil)
	_ Adder       = (*StochasticFloat)(nil)
)
