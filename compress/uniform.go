package compress

import (
	"fmt"

	"github.com/covey-ml/covey/spec"
)

// buckets is how many elements share a scale unless the choice says otherwise, for compressors whose errors would grow with
// the vector's length: a scale of 512 costs 1/16 bit an element. QSGD's paper has the same number (section 5).
const buckets = 512

// Uniform rounds each element to the nearest multiple of a step, Q(x) = sign(x) round(|x|/d) d, where d is a bucket's largest
// |x| over 2^(bits-1)-1: no level is left unused, and 0 is one. With round to even it errs by half as much as with the
// floor of the course text (section 4; Steps has that one), and every element's error is at most d/2 and at most the element,
// whence it is a contraction: of b elements with the largest one exact, the others are at worst at d/2, and
// Delta = 1/(1+(b-1)/(4 s^2)) with s = 2^(bits-1)-1.
//
// A code has bits bits an element and 4 bytes for each bucket: 8 bits an element and 4 bytes for 512 unless the choice says
// otherwise.
type Uniform struct {
	grid
	bits int
}

func newUniform(s *spec.Spec) (Compressor, error) {
	if s.Given("delta") {
		return newSteps(s, false)
	}
	w, b, err := bitsOf(s)
	return &Uniform{grid{top: 1<<(w-1) - 1, bucket: b, scale: byMax}, w}, err
}

func bitsOf(s *spec.Spec) (int, bucket, error) {
	w := s.Int("bits", 8)
	b, err := bucketOf(s, buckets)
	if w != 16 && (w < 2 || w > 8) {
		return 8, b, fmt.Errorf("bits is %d, expected 2 to 8, or 16", w)
	}
	return w, b, err
}

// String implements Compressor.
func (c *Uniform) String() string {
	return fmt.Sprintf("uniform:bits=%d%s", c.bits, c.bucket.suffix(buckets))
}

// Delta implements Contraction.
func (c *Uniform) Delta(n int) float64 {
	s := float64(c.top)
	return 1 / (1 + float64(c.bucket.size(n)-1)/(4*s*s))
}

// Decode implements Compressor.
func (c *Uniform) Decode(x []float32, p []byte) error { return decodeBlocks(c, x, p) }

// Add implements Adder.
func (c *Uniform) Add(x []float32, p []byte, scale float32) error { return addBlocks(c, x, p, scale) }

// Random rounds each element to the multiple of a step d below or above it, at random so that the element is the expectation:
// sign(x) d floor(|x|/d + u) with u uniform in [0, 1) (course text, section 4). The step is a bucket's largest |x| over
// 2^(bits-1)-1. Draws have 24 bits: probabilities are exact to 2^-24.
//
// A code has bits bits an element and 4 bytes for each bucket, as Uniform's. With s = 2^(bits-1)-1 and buckets of b,
// Omega = min((b-1)/(4 s^2), (1+sqrt(b))/(2 s)).
type Random struct {
	grid
	bits int
}

func newRandom(s *spec.Spec) (Compressor, error) {
	if s.Given("delta") {
		return newSteps(s, true)
	}
	w, b, err := bitsOf(s)
	return &Random{grid{top: 1<<(w-1) - 1, bucket: b, random: true, scale: byMax}, w}, err
}

// String implements Compressor.
func (c *Random) String() string {
	return fmt.Sprintf("random:bits=%d%s", c.bits, c.bucket.suffix(buckets))
}

// Omega implements Unbiased.
func (c *Random) Omega(n int) float64 { return spread(c.bucket.size(n), c.top) }

// Decode implements Compressor.
func (c *Random) Decode(x []float32, p []byte) error { return decodeBlocks(c, x, p) }

// Add implements Adder.
func (c *Random) Add(x []float32, p []byte, scale float32) error { return addBlocks(c, x, p, scale) }

var (
	_ Contraction = (*Uniform)(nil)
	_ Adder       = (*Uniform)(nil)
	_ Unbiased    = (*Random)(nil)
	_ Fixed       = (*Random)(nil)
)
