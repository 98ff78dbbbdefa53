package compress

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"

	"github.com/covey-ml/covey/vec"
)

// grid is what quantisers to evenly spaced levels have in common. An element's level is a whole number from -top to top;
// what it stands for is the level times its bucket's step.
//
// A code is the steps, 4 bytes a bucket, and then the levels plus top in width bits each, packed as packAt does, or with 16
// bits the levels themselves, in two's complement, little-endian.
//
// A step is at least 2^-126, since smaller ones have no float32 reciprocal: elements of a bucket with a smaller one are
// rounded to multiples of 2^-126 instead, on average still to themselves where that is promised, but variances and contractions
// are as claimed for larger steps only. It is at most what keeps top steps finite.
type grid struct {
	top    int // at most 127, or 32767
	bucket bucket
	random bool                               // or nearest
	scale  func(x []float32, top int) float64 // a bucket's step, not finite when x is not
}

func (g *grid) width() int {
	if w := bits.Len(uint(2 * g.top)); w <= 8 {
		return w
	}
	return 16
}

// MaxLen implements Compressor.
func (g *grid) MaxLen(n int) int { return 4*g.bucket.count(n) + g.bytes(n) }

// bytes is how many bytes the levels take.
func (g *grid) bytes(n int) int { return packedLen(n, g.width()) }

// Fixed implements Fixed.
func (g *grid) Fixed() {}

// Encode implements Compressor.
func (g *grid) Encode(dst []byte, x []float32, key uint64) ([]byte, error) {
	n := len(x)
	out := extend(dst, g.MaxLen(n))
	steps := out[len(dst):]
	codes := steps[4*g.bucket.count(n):]
	w, done, ok := g.width(), 0, true
	s := scratches.Take()
	defer scratches.Put(s)
	for at := 0; at < n; at += block {
		hi := min(at+block, n)
		if done, ok = g.steps(steps, x, done, hi); !ok {
			return dst, ErrNotFinite
		}
		if w == 16 {
			copy(codes[2*at:], vec.Bytes16(g.levels16(steps, x, key, at, hi, s)))
		} else {
			packAt(codes, n, at, g.levels(steps, x, key, at, hi, s), w, s.tmp[:])
		}
	}
	return out, nil
}

// steps writes the steps of the buckets that begin before hi, from done on, and returns how many are done then. It is false
// when x holds a NaN or an infinity.
func (g *grid) steps(p []byte, x []float32, done, hi int) (int, bool) {
	most := largestStep(g.top)
	return g.bucket.scales(len(x), done, hi, func(b, lo, hi int) bool {
		step := g.scale(x[lo:hi], g.top)
		putFloat(p, b, min(max(float32(step), leastStep), most))
		return step <= math.MaxFloat64
	})
}

// levels are the levels plus top of the elements from at to hi, in s.
func (g *grid) levels(steps []byte, x []float32, key uint64, at, hi int, s *scratch) []uint8 {
	u, code := g.draws(key, at, hi, s), s.code[:hi-at]
	g.bucket.pieces(len(x), at, hi, func(b, lo, hi int) {
		v := vec.Grid{Step: getFloat(steps, b), Zero: uint8(g.top), Top: uint8(2 * g.top)}
		vec.Quantize(code[lo-at:hi-at], x[lo:hi], some(u, lo-at, hi-at), v)
	})
	return code
}

// levels16 are the levels of the elements from at to hi, in s.
func (g *grid) levels16(steps []byte, x []float32, key uint64, at, hi int, s *scratch) []int16 {
	u, level := g.draws(key, at, hi, s), s.level[:hi-at]
	g.bucket.pieces(len(x), at, hi, func(b, lo, hi int) {
		vec.Quantize16(level[lo-at:hi-at], x[lo:hi], some(u, lo-at, hi-at), getFloat(steps, b), g.top)
	})
	return level
}

// draws are the numbers for random rounding, nil for the nearest level.
func (g *grid) draws(key uint64, at, hi int, s *scratch) []float32 {
	if !g.random {
		return nil
	}
	u := s.u[:hi-at]
	vec.Uniform(u, key, uint64(at))
	return u
}

// some is u[lo:hi], or nil when u is.
func some(u []float32, lo, hi int) []float32 {
	if u == nil {
		return nil
	}
	return u[lo:hi]
}

// leastStep is the smallest float32 whose reciprocal is one, too.
const leastStep = 0x1p-126

// largestStep is the largest step of which top are finite.
func largestStep(top int) float32 {
	d := math.MaxFloat32 / float32(top)
	for math.IsInf(float64(d*float32(top)), 0) {
		d = math.Nextafter32(d, 0)
	}
	return d
}

func (g *grid) check(p []byte, n int) string {
	if wrong := checkLen(p, g.MaxLen(n)); wrong != "" {
		return wrong
	}
	if wrong := g.checkSteps(p, n); wrong != "" {
		return wrong
	}
	if w := g.width(); w < 8 && !padded(p[4*g.bucket.count(n):], n, w) {
		return notPadded
	}
	return ""
}

func (g *grid) checkSteps(p []byte, n int) string {
	most := largestStep(g.top)
	for b := range g.bucket.count(n) {
		if step := getFloat(p, b); !(step >= leastStep && step <= most) {
			return fmt.Sprintf("the step %v, expected one from %v to %v", step, float32(leastStep), most)
		}
	}
	return ""
}

func (g *grid) read(x []float32, p []byte, n, at int, s *scratch) string {
	codes := p[4*g.bucket.count(n):]
	level, code := s.level[:len(x)], s.code[:len(x)]
	w := g.width()
	switch w {
	case 16:
		copy(vec.Bytes16(level), codes[2*at:])
		if lowest(level) {
			return fmt.Sprintf("a level below -%d", g.top)
		}
	case 8:
		code = codes[at:][:len(x)]
	default:
		unpackAt(code, codes, n, at, w, s.tmp[:])
	}
	if w != 16 && int(vec.MaxCode(code)) > 2*g.top {
		return fmt.Sprintf("a level above %d", g.top)
	}
	g.bucket.pieces(n, at, at+len(x), func(b, lo, hi int) {
		if step := getFloat(p, b); w == 16 {
			vec.Dequantize16(x[lo-at:hi-at], level[lo-at:hi-at], step)
		} else {
			vec.Dequantize(x[lo-at:hi-at], code[lo-at:hi-at], vec.Grid{Step: step, Zero: uint8(g.top), Top: uint8(2 * g.top)})
		}
	})
	return ""
}

// lowest reports whether a level is the 16-bit number that has no negative.
func lowest(level []int16) bool {
	p := vec.Bytes16(level)
	var found uint64
	for ; len(p) >= 8; p = p[8:] {
		v := binary.LittleEndian.Uint64(p) ^ 0x8000800080008000 // such a level becomes 0
		found |= (v - 0x0001000100010001) &^ v & 0x8000800080008000
	}
	for ; len(p) > 0; p = p[2:] {
		if binary.LittleEndian.Uint16(p) == 0x8000 {
			return true
		}
	}
	return found != 0
}

// byMax is the step with which the largest |x| has level top.
func byMax(x []float32, top int) float64 { return float64(vec.MaxAbs(x)) / float64(top) }

// byNorm is the step with which a number as large as x's 2-norm would have level top.
func byNorm(x []float32, top int) float64 { return math.Sqrt(vec.SumSquares(x)) / float64(top) }

// spread is Omega of random rounding of n numbers to top levels on each side of 0, where the largest number has level top. A
// number's variance is at most a quarter of the step squared, and that of the largest is 0. It is also at most the step times
// the number, and the largest number times the sum of all magnitudes is at most (1+sqrt(n))/2 times the sum of squares. With
// one level, where x becomes 0 or the largest m, the variance is m|x|-x^2, which adds up to at most (sqrt(n)-1)/2 times it.
func spread(n, top int) float64 {
	root, s := math.Sqrt(float64(n)), float64(top)
	if top == 1 {
		return (root - 1) / 2
	}
	return min(float64(n-1)/(4*s*s), (1+root)/(2*s))
}
