package compress

import (
	"fmt"
	"math"
	"math/bits"

	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/vec"
)

// Steps is the course text's quantisation with a step d that the job gives (section 4): Q(x) = sign(x) floor(|x|/d) d, which
// in float32 is the largest rounded multiple of d that is at most |x|, or with random draws sign(x) d floor(|x|/d + u), u
// uniform in [0, 1), of which x is the expectation but for the rounding of 1/d. The floor errs by less than d, and loses a vector of smaller numbers altogether:
// it is no contraction. The random one's variance is at most d^2/4 an element whatever x is, so that it has no Omega. Both
// are Absolute: no error is above d.
//
// A code is a byte, the width w, and w bits for each element: w is 0 when all are below d, and otherwise what the levels up to
// that of the largest |x|, rounded up where draws are random, take on both sides of 0; at most 16. A vector with more
// than 32767 steps is refused with a *StepError.
type Steps struct {
	delta  float32
	random bool
}

// StepError says that a job's step is too small for a vector.
type StepError struct {
	Codec string  // as String gives it
	Max   float32 // the vector's largest magnitude
}

func (e *StepError) Error() string {
	return fmt.Sprintf("compress: %s: the largest number is %v: 16 bits hold 32767 steps, so delta must be %v or more",
		e.Codec, e.Max, e.Max/32766)
}

const mostSteps = 32767

func newSteps(s *spec.Spec, random bool) (Compressor, error) {
	c := &Steps{float32(s.Float("delta", 0)), random}
	if s.Int("bits", 0) != 0 || s.Int("bucket", 0) != 0 {
		return nil, fmt.Errorf("delta is the step itself, of all elements: bits and bucket go without it")
	}
	if !(c.delta >= 0x1p-100 && c.delta <= 0x1p100) {
		return nil, fmt.Errorf("delta is %v, expected a step between 2^-100 and 2^100 such as 0.001", c.delta)
	}
	return c, nil
}

// String implements Compressor.
func (c *Steps) String() string {
	if c.random {
		return fmt.Sprintf("random:delta=%v", c.delta)
	}
	return fmt.Sprintf("uniform:delta=%v", c.delta)
}

// Bound implements Absolute: n d^2, and 2^-6 of that since a level of up to 32767 is found, and read back, in float32.
func (c *Steps) Bound(n int) float64 {
	return float64(n) * float64(c.delta) * float64(c.delta) * (1 + 0x1p-6)
}

// MaxLen implements Compressor: a byte, and 16 bits an element, or for the few elements of which fewer bits take more bytes,
// since they stand in more planes, those.
func (c *Steps) MaxLen(n int) int {
	return 1 + max(packedLen(n, 16), packedLen(n, 15), packedLen(n, 7))
}

// topOf is the highest level that codes of w bits hold.
func topOf(w int) int { return 1<<(w-1) - 1 }

// Encode implements Compressor.
func (c *Steps) Encode(dst []byte, x []float32, key uint64) ([]byte, error) {
	largest := vec.MaxAbs(x)
	if !(largest <= math.MaxFloat32) {
		return dst, ErrNotFinite
	}
	if !(largest/c.delta <= mostSteps) {
		return dst, &StepError{c.String(), largest}
	}
	w := c.width(largest)
	n := len(x)
	out := extend(dst, 1+widthLen(n, w))
	p := out[len(dst):]
	p[0] = byte(w)
	if w == 0 {
		return out, nil
	}
	s := scratches.Take()
	defer scratches.Put(s)
	for at := 0; at < n; at += block {
		part := x[at:min(at+block, n)]
		level := s.level[:len(part)]
		if c.random {
			u := s.u[:len(part)]
			vec.Uniform(u, key, uint64(at))
			vec.Quantize16(level, part, u, c.delta, topOf(w))
		} else {
			vec.FloorSteps(level, part, c.delta)
		}
		if w > 8 {
			packWideAt(p[1:], n, at, level, topOf(w), w, s.code[:], s.tmp[:])
			continue
		}
		code := s.code[:len(part)]
		for i, l := range level {
			code[i] = uint8(int(l) + topOf(w))
		}
		packAt(p[1:], n, at, code, w, s.tmp[:])
	}
	return out, nil
}

// width is how many bits the levels up to that of the largest magnitude take.
func (c *Steps) width(largest float32) int {
	var top [1]int16
	if c.random {
		top[0] = int16(min(math.Ceil(float64(largest*(1/c.delta))), mostSteps))
	} else {
		vec.FloorSteps(top[:], []float32{largest}, c.delta)
	}
	if top[0] == 0 {
		return 0
	}
	return 1 + bits.Len(uint(top[0]))
}

// widthLen is how many bytes n codes of w bits take, w being 0 or more.
func widthLen(n, w int) int {
	if w == 0 {
		return 0
	}
	return packedLen(n, w)
}

func (c *Steps) check(p []byte, n int) string {
	if len(p) == 0 {
		return "0 bytes"
	}
	w := int(p[0])
	if w == 1 || w > 16 {
		return fmt.Sprintf("codes of %d bits, expected 0 or 2 to 16", w)
	}
	if wrong := checkLen(p, 1+widthLen(n, w)); wrong != "" {
		return wrong
	}
	if w > 0 && !padded(p[1:], n, w) {
		return notPadded
	}
	return ""
}

func (c *Steps) read(x []float32, p []byte, n, at int, s *scratch) string {
	w := int(p[0])
	if w == 0 {
		clear(x)
		return ""
	}
	top := topOf(w)
	if w > 8 {
		level := s.level[:len(x)]
		if !unpackWideAt(level, p[1:], n, at, top, w, s.code[:], s.tmp[:]) {
			return fmt.Sprintf("a level above %d", top)
		}
		vec.Dequantize16(x, level, c.delta)
		return ""
	}
	code := s.code[:len(x)]
	unpackAt(code, p[1:], n, at, w, s.tmp[:])
	if int(vec.MaxCode(code)) > 2*top {
		return fmt.Sprintf("a level above %d", top)
	}
	vec.Dequantize(x, code, vec.Grid{Step: c.delta, Zero: uint8(top), Top: uint8(2 * top)})
	return ""
}

// Decode implements Compressor.
func (c *Steps) Decode(x []float32, p []byte) error { return decodeBlocks(c, x, p) }

// Add implements Adder.
func (c *Steps) Add(x []float32, p []byte, scale float32) error { return addBlocks(c, x, p, scale) }

var (
	_ Adder    = (*Steps)(nil)
	_ Absolute = (*Steps)(nil)
)
