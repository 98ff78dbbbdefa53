package compress

import (
	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/vec"
)

// Natural rounds each element to a power of two next to it, at random so that the element is the expectation, and keeps its
// sign (Horvath et al., arXiv 1905.10988, section 2.1): the fraction of a float32 is the probability that the exponent
// grows by one, which 23 random bits make exact. Omega = 1/8 (theorem 1): E|C(x)|^2 <= 9/8 |x|^2, and it is a contraction as
// it is, Delta = 7/8.
//
// Zero stays zero, with its sign. Below 2^-126, where float32 has no full fraction, the two powers are 2^-126 and 0: still
// unbiased, but with a variance of up to 2^-254 whatever x is. Nothing lies above 2^127 but infinity, so that elements beyond
// become 2^127, the one bias there is.
//
// A code has 9 bits an element: a plane of bytes, the biased exponents (0 for 0; never 255), and then a plane of bits, the
// signs.
type Natural struct{}

func newNatural(*spec.Spec) (Compressor, error) { return Natural{}, nil }

// String implements Compressor.
func (Natural) String() string { return "natural" }

// MaxLen implements Compressor.
func (Natural) MaxLen(n int) int { return n + vec.PackedLen(n, 1) }

// Fixed implements Fixed.
func (Natural) Fixed() {}

// Omega implements Unbiased.
func (Natural) Omega(int) float64 { return 1. / 8 }

// Delta implements Contraction.
func (Natural) Delta(int) float64 { return 7. / 8 }

// Encode implements Compressor.
func (c Natural) Encode(dst []byte, x []float32, key uint64) ([]byte, error) {
	n := len(x)
	out := extend(dst, c.MaxLen(n))
	p, signs := out[len(dst):][:n], out[len(dst)+n:]
	s := scratches.Take()
	defer scratches.Put(s)
	for at := 0; at < n; at += block {
		hi := min(at+block, n)
		part, u := x[at:hi], s.u[:hi-at]
		if !vec.Finite(part) {
			return dst, ErrNotFinite
		}
		vec.Uniform(u, key, uint64(at))
		vec.RoundPowers(p[at:hi], part, u)
		vec.PackSigns(signs[at/8:(hi+7)/8], part)
	}
	return out, nil
}

func (c Natural) check(p []byte, n int) string {
	if wrong := checkLen(p, c.MaxLen(n)); wrong != "" {
		return wrong
	}
	if !padded(p[n:], n, 1) {
		return notPadded
	}
	return ""
}

func (Natural) read(x []float32, p []byte, n, at int, _ *scratch) string {
	hi := at + len(x)
	if vec.MaxCode(p[at:hi]) == 255 {
		return "an exponent of 255"
	}
	vec.FromPowers(x, p[at:hi], p[n+at/8:n+(hi+7)/8])
	return ""
}

// Decode implements Compressor.
func (c Natural) Decode(x []float32, p []byte) error { return decodeBlocks(c, x, p) }

// Add implements Adder.
func (c Natural) Add(x []float32, p []byte, scale float32) error { return addBlocks(c, x, p, scale) }

var (
	_ Unbiased    = Natural{}
	_ Contraction = Natural{}
	_ Fixed       = Natural{}
	_ Adder       = Natural{}
)
