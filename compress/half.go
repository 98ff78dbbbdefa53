package compress

import (
	"fmt"
	"math"

	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/vec"
)

// Half is IEEE 754 binary16 of the elements divided by a power of two, the one from 2^-126 to 2^113 that brings the largest
// to between 2^14 and 2^15: none becomes infinite (from 2^128 (1-2^-12) on they become the largest number below 2^128 that
// there is), and small ones keep their bits. Rounding is to nearest, ties to even. The
// error is at most 2^-11 of an element or 2^-39 of the largest one: Delta = (1-2^-22)/(1+(n-1) 2^-78), for vectors whose
// largest element is not itself below 2^-112.
//
// A code has 16 bits an element, and 4 bytes for the power of two.
type Half struct{}

// Bfloat is bfloat16, the first 16 bits of a float32, rounded to nearest, ties to even. What would become infinite becomes
// the largest bfloat16. The error is at most 2^-8 of an element: Delta = 1-2^-16, for elements that are not below 2^-126,
// where it is 2^-134.
//
// A code has 16 bits an element.
type Bfloat struct{}

func newHalf(*spec.Spec) (Compressor, error)   { return Half{}, nil }
func newBfloat(*spec.Spec) (Compressor, error) { return Bfloat{}, nil }

// power is 2^e for e from -126 to 127.
func power(e int) float32 { return math.Float32frombits(uint32(127+e) << 23) }

// isPower reports whether v is one from 2^lo to 2^hi.
func isPower(v float32, lo, hi int) bool {
	b := math.Float32bits(v)
	return b&(1<<23-1) == 0 && int(b>>23) >= 127+lo && int(b>>23) <= 127+hi
}

// exponent is e for 2^e <= v < 2^(e+1), or -127 below 2^-126.
func exponent(v float32) int { return int(math.Float32bits(v)>>23) - 127 }

// String implements Compressor.
func (Half) String() string { return "fp16" }

// MaxLen implements Compressor.
func (Half) MaxLen(n int) int { return 4*min(n, 1) + 2*n }

// Fixed implements Fixed.
func (Half) Fixed() {}

// Delta implements Contraction.
func (Half) Delta(n int) float64 { return (1 - 0x1p-22) / (1 + float64(float64(max(n-1, 0))*0x1p-78)) }

// Encode implements Compressor.
func (c Half) Encode(dst []byte, x []float32, _ uint64) ([]byte, error) {
	n := len(x)
	if n == 0 {
		return dst, nil
	}
	largest := vec.MaxAbs(x)
	if !isScale(largest) {
		return dst, ErrNotFinite
	}
	out := extend(dst, c.MaxLen(n))
	p := out[len(dst):]
	e := max(exponent(largest)-14, -126)
	putFloat(p, 0, power(e))
	s := scratches.Take()
	defer scratches.Put(s)
	for at := 0; at < n; at += block {
		part := x[at:min(at+block, n)]
		y, h := s.x[:len(part)], s.half[:len(part)]
		copy(y, part)
		vec.Scale(power(-e), y)
		vec.ToHalf(h, y)
		if e == 113 {
			holdTo(h, 0x77ff)
		}
		copy(p[4+2*at:], vec.Bytes16(h))
	}
	return out, nil
}

func (c Half) check(p []byte, n int) string {
	if wrong := checkLen(p, c.MaxLen(n)); wrong != "" || n == 0 {
		return wrong
	}
	if v := getFloat(p, 0); !isPower(v, -126, 113) {
		return fmt.Sprintf("the scale %v, expected a power of two from 2^-126 to 2^113", v)
	}
	return ""
}

func (Half) read(x []float32, p []byte, _, at int, s *scratch) string {
	h := s.half[:len(x)]
	copy(vec.Bytes16(h), p[4+2*at:])
	vec.FromHalf(x, h)
	scale, most := getFloat(p, 0), float32(0x1p15)
	if scale == 0x1p113 {
		most -= 0x1p4
	}
	if !(vec.MaxAbs(x) <= most) {
		return "a number above the largest one"
	}
	vec.Scale(scale, x)
	return ""
}

// Decode implements Compressor.
func (c Half) Decode(x []float32, p []byte) error { return decodeBlocks(c, x, p) }

// Add implements Adder.
func (c Half) Add(x []float32, p []byte, scale float32) error { return addBlocks(c, x, p, scale) }

// String implements Compressor.
func (Bfloat) String() string { return "bf16" }

// MaxLen implements Compressor.
func (Bfloat) MaxLen(n int) int { return 2 * n }

// Fixed implements Fixed.
func (Bfloat) Fixed() {}

// Delta implements Contraction.
func (Bfloat) Delta(int) float64 { return 1 - 0x1p-16 }

// Encode implements Compressor.
func (c Bfloat) Encode(dst []byte, x []float32, _ uint64) ([]byte, error) {
	n := len(x)
	out := extend(dst, c.MaxLen(n))
	p := out[len(dst):]
	s := scratches.Take()
	defer scratches.Put(s)
	for at := 0; at < n; at += block {
		part := x[at:min(at+block, n)]
		largest := vec.MaxAbs(part)
		if !isScale(largest) {
			return dst, ErrNotFinite
		}
		h := s.half[:len(part)]
		vec.ToBfloat(h, part)
		if largest > largestBfloat {
			holdTo(h, 0x7f7f)
		}
		copy(p[2*at:], vec.Bytes16(h))
	}
	return out, nil
}

const largestBfloat = 0x1.fep127

// holdTo makes magnitudes at most most.
func holdTo(h []uint16, most uint16) {
	for i, v := range h {
		h[i] = v&0x8000 | min(v&0x7fff, most)
	}
}

func (c Bfloat) check(p []byte, n int) string { return checkLen(p, c.MaxLen(n)) }

func (Bfloat) read(x []float32, p []byte, _, at int, s *scratch) string {
	h := s.half[:len(x)]
	copy(vec.Bytes16(h), p[2*at:])
	vec.FromBfloat(x, h)
	if !vec.Finite(x) {
		return "an infinity or a NaN"
	}
	return ""
}

// Decode implements Compressor.
func (c Bfloat) Decode(x []float32, p []byte) error { return decodeBlocks(c, x, p) }

// Add implements Adder.
func (c Bfloat) Add(x []float32, p []byte, scale float32) error { return addBlocks(c, x, p, scale) }

var (
	_ Contraction = Half{}
	_ Fixed       = Half{}
	_ Adder       = Half{}
	_ Contraction = Bfloat{}
	_ Fixed       = Bfloat{}
	_ Adder       = Bfloat{}
)
