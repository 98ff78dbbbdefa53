package compress

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/vec"
)

// block is how many elements a quantiser takes at a time: what it works with stays in the first cache.
const block = 2048

// scratch is what a call works with.
type scratch struct {
	u, x      [block]float32
	code, tmp [block]uint8
	level     [block]int16
	half      [block]uint16
}

var scratches vec.FreeList[scratch]

// blocked is a quantiser whose codes are read a block at a time.
type blocked interface {
	Compressor
	// check says what is wrong with the code p of n elements, but for what only read sees, or "".
	check(p []byte, n int) (wrong string)
	// read decodes the elements from at on, a multiple of block, of n, and says what is wrong with their codes, or "".
	read(x []float32, p []byte, n, at int, s *scratch) (wrong string)
}

// decodeBlocks is Decode.
func decodeBlocks(q blocked, x []float32, p []byte) error {
	n := len(x)
	if wrong := q.check(p, n); wrong != "" {
		return &CorruptError{q.String(), n, wrong}
	}
	s := scratches.Take()
	defer scratches.Put(s)
	for at := 0; at < n; at += block {
		if wrong := q.read(x[at:min(at+block, n)], p, n, at, s); wrong != "" {
			return &CorruptError{q.String(), n, wrong}
		}
	}
	return nil
}

// addBlocks is Add: a block is decoded and added before the next one is, and does not leave the first cache.
func addBlocks(q blocked, x []float32, p []byte, scale float32) error {
	n := len(x)
	if wrong := q.check(p, n); wrong != "" {
		return &CorruptError{q.String(), n, wrong}
	}
	s := scratches.Take()
	defer scratches.Put(s)
	for at := 0; at < n; at += block {
		part := x[at:min(at+block, n)]
		v := s.x[:len(part)]
		if wrong := q.read(v, p, n, at, s); wrong != "" {
			return &CorruptError{q.String(), n, wrong}
		}
		vec.Axpy(scale, v, part)
	}
	return nil
}

// extend appends size bytes of any value.
func extend(dst []byte, size int) []byte { return slices.Grow(dst, size)[:len(dst)+size] }

// checkLen says that the length is wrong, if it is.
func checkLen(p []byte, want int) string {
	if len(p) != want {
		return fmt.Sprintf("%d bytes, want %d", len(p), want)
	}
	return ""
}

const notPadded = "bits are set behind the last element"

// bucket is how many consecutive elements share a scale, a multiple of 8; 0 is all of them.
type bucket int

// bucketOf takes the parameter.
func bucketOf(s *spec.Spec, def int) (bucket, error) {
	b := s.Int("bucket", def)
	if b < 0 || b%8 != 0 || b > 1<<30 {
		return 0, fmt.Errorf("bucket is %d elements, expected a multiple of 8 such as 512, or 0 for the whole vector", b)
	}
	return bucket(b), nil
}

// suffix is what String says of a bucket that is not the default.
func (b bucket) suffix(def bucket) string {
	if b == def {
		return ""
	}
	return fmt.Sprintf(",bucket=%d", b)
}

// named is the choice of a compressor with no other parameter.
func (b bucket) named(name string, def bucket) string {
	if b == def {
		return name
	}
	return fmt.Sprintf("%s:bucket=%d", name, b)
}

// size is how many elements the largest bucket of n has; 1 when there are none.
func (b bucket) size(n int) int {
	if b == 0 || int(b) > n {
		return max(n, 1)
	}
	return int(b)
}

// count is how many buckets n elements have.
func (b bucket) count(n int) int { return (n + b.size(n) - 1) / b.size(n) }

// pieces calls f for the parts of the elements from lo to hi that lie in one bucket each.
func (b bucket) pieces(n, lo, hi int, f func(bucket, lo, hi int)) {
	size := b.size(n)
	for lo < hi {
		k := lo / size
		end := min((k+1)*size, hi)
		f(k, lo, end)
		lo = end
	}
}

// scales calls f for the buckets of n elements that begin before hi, from done on, and returns how many are done then.
func (b bucket) scales(n, done, hi int, f func(bucket, lo, hi int) bool) (int, bool) {
	size := b.size(n)
	for done*size < hi {
		if !f(done, done*size, min((done+1)*size, n)) {
			return done, false
		}
		done++
	}
	return done, true
}

func putFloat(p []byte, i int, v float32) {
	binary.LittleEndian.PutUint32(p[4*i:], math.Float32bits(v))
}

func getFloat(p []byte, i int) float32 {
	return math.Float32frombits(binary.LittleEndian.Uint32(p[4*i:]))
}
