package compress

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"

	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/vec"
)

// Sign keeps the signs, times the mean of |x| in a bucket: C(x) = |x|_1/b sign(x) for b elements (Karimireddy et al., arXiv
// 1901.09847, section 4.1, scaled sign). What it keeps is |x|_1^2/(b |x|_2^2) of the sum of squares, exactly; of all vectors
// the least has one element, so that Delta = 1/b. It is 2/pi for normal numbers. A bucket is the whole vector unless the
// choice says otherwise. The sign of a zero is that of its bit.
//
// A code has 1 bit an element and 4 bytes for each bucket.
type Sign struct{ bucket bucket }

// OneBit keeps the signs, and for each bucket the mean of the elements that have none and of those that have one (Seide et
// al., Interspeech 2014, section 3.1, whose buckets are the columns of a weight matrix; ours are consecutive elements, 128
// unless the choice says otherwise: on MNIST means of 512 lose two points of accuracy, these half of one). Two means are
// nearest to the elements that they stand for, and one, Sign's, is nearer than nothing, whence Delta = 1/b for buckets of b.
// The paper adds what was lost to the next gradient: error feedback.
//
// A code has 1 bit an element and 8 bytes for each bucket: 1.5 bits an element for buckets of 128.
type OneBit struct{ bucket bucket }

// oneBitBucket is OneBit's bucket unless the choice says otherwise.
const oneBitBucket = 128

func newSign(s *spec.Spec) (Compressor, error) {
	b, err := bucketOf(s, 0)
	return &Sign{b}, err
}

func newOneBit(s *spec.Spec) (Compressor, error) {
	b, err := bucketOf(s, oneBitBucket)
	return &OneBit{b}, err
}

// String implements Compressor.
func (c *Sign) String() string { return c.bucket.named("sign", 0) }

// MaxLen implements Compressor.
func (c *Sign) MaxLen(n int) int { return 4*c.bucket.count(n) + vec.PackedLen(n, 1) }

// Fixed implements Fixed.
func (c *Sign) Fixed() {}

// Delta implements Contraction.
func (c *Sign) Delta(n int) float64 { return 1 / float64(c.bucket.size(n)) }

// Encode implements Compressor.
func (c *Sign) Encode(dst []byte, x []float32, _ uint64) ([]byte, error) {
	n := len(x)
	out := extend(dst, c.MaxLen(n))
	p := out[len(dst):]
	_, ok := c.bucket.scales(n, 0, n, func(b, lo, hi int) bool {
		mean := vec.SumAbs(x[lo:hi]) / float64(hi-lo)
		putFloat(p, b, float32(mean))
		return mean <= math.MaxFloat32
	})
	if !ok {
		return dst, ErrNotFinite
	}
	vec.PackSigns(p[4*c.bucket.count(n):], x)
	return out, nil
}

func (c *Sign) check(p []byte, n int) string {
	if wrong := checkLen(p, c.MaxLen(n)); wrong != "" {
		return wrong
	}
	for b := range c.bucket.count(n) {
		if m := getFloat(p, b); !isScale(m) {
			return fmt.Sprintf("the mean %v", m)
		}
	}
	if !padded(p[4*c.bucket.count(n):], n, 1) {
		return notPadded
	}
	return ""
}

// isScale reports whether v is a finite number without a sign.
func isScale(v float32) bool { return math.Float32bits(v) <= math.Float32bits(math.MaxFloat32) }

func (c *Sign) read(x []float32, p []byte, n, at int, _ *scratch) string {
	signs := p[4*c.bucket.count(n):]
	c.bucket.pieces(n, at, at+len(x), func(b, lo, hi int) {
		vec.UnpackSigns(x[lo-at:hi-at], signs[lo/8:(hi+7)/8], getFloat(p, b))
	})
	return ""
}

// Decode implements Compressor.
func (c *Sign) Decode(x []float32, p []byte) error { return decodeBlocks(c, x, p) }

// Add implements Adder.
func (c *Sign) Add(x []float32, p []byte, scale float32) error { return addBlocks(c, x, p, scale) }

// String implements Compressor.
func (c *OneBit) String() string { return c.bucket.named("onebit", oneBitBucket) }

// MaxLen implements Compressor.
func (c *OneBit) MaxLen(n int) int { return 8*c.bucket.count(n) + vec.PackedLen(n, 1) }

// Fixed implements Fixed.
func (c *OneBit) Fixed() {}

// Delta implements Contraction.
func (c *OneBit) Delta(n int) float64 { return 1 / float64(c.bucket.size(n)) }

// Encode implements Compressor.
func (c *OneBit) Encode(dst []byte, x []float32, _ uint64) ([]byte, error) {
	n := len(x)
	out := extend(dst, c.MaxLen(n))
	p := out[len(dst):]
	signs := p[8*c.bucket.count(n):]
	vec.PackSigns(signs, x)
	_, ok := c.bucket.scales(n, 0, n, func(b, lo, hi int) bool {
		above, below := vec.SplitSums(x[lo:hi])
		k := ones1(signs[lo/8 : (hi+7)/8])
		putFloat(p, 2*b, float32(above/float64(max(hi-lo-k, 1))))
		putFloat(p, 2*b+1, float32(below/float64(max(k, 1))))
		return above-below <= math.MaxFloat64
	})
	if !ok {
		return dst, ErrNotFinite
	}
	return out, nil
}

// ones1 is how many bits are set.
func ones1(p []byte) int {
	k := 0
	for ; len(p) >= 8; p = p[8:] {
		k += bits.OnesCount64(binary.LittleEndian.Uint64(p))
	}
	for _, b := range p {
		k += bits.OnesCount8(b)
	}
	return k
}

func (c *OneBit) check(p []byte, n int) string {
	if wrong := checkLen(p, c.MaxLen(n)); wrong != "" {
		return wrong
	}
	for b := range c.bucket.count(n) {
		above, below := getFloat(p, 2*b), getFloat(p, 2*b+1)
		if !isScale(above) || !isScale(-below) && below != 0 {
			return fmt.Sprintf("the means %v and %v", above, below)
		}
	}
	if !padded(p[8*c.bucket.count(n):], n, 1) {
		return notPadded
	}
	return ""
}

func (c *OneBit) read(x []float32, p []byte, n, at int, _ *scratch) string {
	signs := p[8*c.bucket.count(n):]
	c.bucket.pieces(n, at, at+len(x), func(b, lo, hi int) {
		vec.UnpackPair(x[lo-at:hi-at], signs[lo/8:(hi+7)/8], getFloat(p, 2*b), getFloat(p, 2*b+1))
	})
	return ""
}

// Decode implements Compressor.
func (c *OneBit) Decode(x []float32, p []byte) error { return decodeBlocks(c, x, p) }

// Add implements Adder.
func (c *OneBit) Add(x []float32, p []byte, scale float32) error { return addBlocks(c, x, p, scale) }

var (
	_ Contraction = (*Sign)(nil)
	_ Fixed       = (*Sign)(nil)
	_ Adder       = (*Sign)(nil)
	_ Contraction = (*OneBit)(nil)
	_ Fixed       = (*OneBit)(nil)
	_ Adder       = (*OneBit)(nil)
)
