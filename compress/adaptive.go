package compress

import (
	"errors"
	"fmt"
	"math"
	"sort"
	"strconv"

	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/vec"
)

// Adaptive keeps the largest elements, as TopK, and finds out from the vector how many: with Energy, the fewest whose squares
// sum to that part of |x|^2; with Bytes, the most whose code has no more bytes; with both, the fewer of the two. What
// it chose stands in the code, and Kept tells. It is no paper's method.
//
// The code is that of AppendEntries.
type Adaptive struct {
	Energy float64    // above 0 and below 1; 0: as much as fits
	Bytes  spec.Bytes // at least leastBytes, for each vector; 0: as many as it takes
	Values Values
}

// leastBytes is enough for one entry of any vector.
const leastBytes = 16

func newAdaptive(s *spec.Spec) (Compressor, error) {
	var c Adaptive
	energy, size := s.Given("energy"), s.Given("bytes")
	if len(s.Args) > 0 { // a number is energy, and what has a unit is bytes
		_, err := strconv.ParseFloat(s.Args[0], 64)
		energy, size = energy || err == nil, size || err != nil
	}
	if size {
		c.Bytes = s.Bytes("bytes", 0)
	}
	c.Energy = s.Float("energy", 0)
	if !size {
		c.Bytes = s.Bytes("bytes", 0)
	}
	c.Values = parseValues(s)
	switch {
	case energy && !(c.Energy > 0 && c.Energy < 1):
		return nil, fmt.Errorf("energy is %v, expected above 0 and below 1, such as 0.9 (a number of bytes has a unit or its name: bytes=64KiB)", c.Energy)
	case size && (c.Bytes < leastBytes || c.Bytes > math.MaxInt32):
		return nil, fmt.Errorf("bytes is %v, expected %d to 2GiB less one, such as 64KiB", c.Bytes, leastBytes)
	case !energy && !size:
		return nil, errors.New("give energy=0.9, the part of the sum of squares to keep, or bytes=64KiB, the most for a vector's code")
	}
	return c, nil
}

// String implements Compressor.
func (c Adaptive) String() string {
	s := "adaptive:"
	switch {
	case c.Bytes == 0:
		s += fmt.Sprintf("energy=%v", c.Energy)
	case c.Energy == 0:
		s += fmt.Sprintf("bytes=%v", c.Bytes)
	default:
		s += fmt.Sprintf("energy=%v,bytes=%v", c.Energy, c.Bytes)
	}
	return s + c.Values.option()
}

// Most implements Sparse: an index has at least one bit.
func (c Adaptive) Most(n int) int {
	if c.Bytes == 0 {
		return n
	}
	return sort.Search(n, func(k int) bool { return 1+uvarintLen(k+1)+inBytes(k+1)+c.Values.size(k+1) > int(c.Bytes) })
}

// least is how many elements surely fit in Bytes.
func (c Adaptive) least(n int) int {
	if c.Bytes == 0 {
		return n
	}
	return sort.Search(n, func(k int) bool { return MaxEntriesLen(n, k+1, c.Values) > int(c.Bytes) })
}

// Delta implements Contraction: Energy, or what TopK has with as many elements as surely fit in Bytes when that is less. With
// FP16 1-2^-21 and with BF16 1-2^-16 times that, the latter for numbers that are at least 2^-126.
func (c Adaptive) Delta(n int) float64 {
	d := c.Values.kept()
	if c.Bytes != 0 {
		d *= share(c.least(n), n)
	}
	if c.Energy != 0 {
		d = min(d, c.Energy*c.Values.kept())
	}
	return d
}

// MaxLen implements Compressor: Bytes, or what n elements take when that is less.
func (c Adaptive) MaxLen(n int) int {
	most := MaxEntriesLen(n, n, c.Values)
	if c.Bytes != 0 {
		most = min(most, int(c.Bytes))
	}
	return most
}

// Encode implements Compressor. It takes no draws, and x at most 2^31-1 elements.
func (c Adaptive) Encode(dst []byte, x []float32, _ uint64) ([]byte, error) {
	l := lists.Take()
	defer lists.Put(l)
	n := len(x)
	k := c.Most(n)
	if c.Energy != 0 {
		few, ok := l.energetic(x, c.Energy)
		if !ok {
			return dst, ErrNotFinite
		}
		k = min(k, few)
	} else {
		l.top(x, k)
		l.from.idx, l.from.val = append(l.from.idx[:0], l.idx...), append(l.from.val[:0], l.val...)
	}
	l.largest(k)
	if c.Bytes != 0 {
		l.fit(int(c.Bytes), n, min(k, c.least(n)), c.Values)
	}
	return l.append(dst, n, c.Values)
}

func (c Adaptive) list(l *list, p []byte, n int) string {
	if len(p) > c.MaxLen(n) {
		return fmt.Sprintf("%d bytes, want at most %d", len(p), c.MaxLen(n))
	}
	return l.read(p, n, c.Values)
}

// Decode implements Compressor.
func (c Adaptive) Decode(x []float32, p []byte) error { return decode(c, x, p) }

// Add implements Adder.
func (c Adaptive) Add(x []float32, p []byte, scale float32) error { return add(c, x, p, scale) }

// Kept implements Sparse.
func (c Adaptive) Kept(idx []int32, p []byte, n int) ([]int32, error) { return kept(c, idx, p, n) }

// Entries implements Lister.
func (c Adaptive) Entries(idx []int32, val []float32, p []byte, n int) ([]int32, []float32, error) {
	return entries(c, idx, val, p, n)
}

var (
	_ Contraction = Adaptive{}
	_ Lister      = Adaptive{}
)

// candidates are what the largest entries are taken from.
type candidates struct {
	idx  []int32
	val  []float32
	pick []int32 // of idx and val
	rest []float32
	energies
}

// largest makes l the k largest of l.from, or all.
func (l *list) largest(k int) {
	f := &l.from
	if k == len(f.idx) {
		l.idx, l.val = append(l.idx[:0], f.idx...), append(l.val[:0], f.val...)
		return
	}
	f.pick, l.idx, l.val = vec.Resized(f.pick, k), vec.Resized(l.idx, k), vec.Resized(l.val, k)
	vec.TopK(f.pick, f.val)
	for i, j := range f.pick {
		l.idx[i] = f.idx[uint32(j)]
	}
	vec.Gather(l.val, f.val, f.pick)
}

// fit makes l, which is the largest of l.from, the most of them whose code has at most size bytes; few surely fit. One more
// entry never makes a code shorter, with no b: it cuts a gap in two, which saves at most one zero of that gap, and takes
// 1+b bits more.
func (l *list) fit(size, n, few int, v Values) {
	most, long := len(l.idx), EntriesLen(l.idx, n, v)
	if long <= size {
		return
	}
	short := 0
	for probe := 0; few < most-1; probe++ {
		// Where it would be if each entry took as much as others, from either side in turn, and every third time halfway.
		k := few + (most-few)/2
		switch {
		case probe%3 == 0:
			k = most - (long-size)*most/long
		case probe%3 == 1 && short > 0:
			k = few + (size-short)*few/short
		}
		l.largest(min(max(k, few+1), most-1))
		if s := EntriesLen(l.idx, n, v); s <= size {
			few, short = len(l.idx), s
		} else {
			most, long = len(l.idx), s
		}
	}
	l.largest(few)
}

// energetic is the least number of elements whose squares sum to a part of all squares, to float64's rounding, and leaves
// them, and perhaps more, in l.from. It is not ok when x holds a NaN or an infinity.
//
// The bits of a number without its sign, as an integer, are of the same order as magnitudes. Squares are summed by their
// first 12 bits; of those in the bucket where the sum from the largest on reaches the part, by the next 10, and then by the
// last 9, of which each bucket holds one magnitude. A square is exact in float64.
func (l *list) energetic(x []float32, part float64) (k int, ok bool) {
	f := &l.from
	f.fill(x, 19, 12)
	var total float64
	for b := len(f.sum) - 1; b >= 0; b-- {
		if total += f.sum[b]; f.count[b] > 0 && b >= 0x7f800000>>19 {
			return 0, false
		}
	}
	if total == 0 {
		f.idx, f.val = f.idx[:0], f.val[:0]
		return 0, true
	}
	b, k, rest := f.reach(12, float64(part*total))
	f.idx = vec.Resized(f.idx, k+int(f.count[b]))
	vec.Above(f.idx, x, math.Float32frombits(uint32(b)<<19))
	f.val = vec.Resized(f.val, len(f.idx))
	vec.Gather(f.val, x, f.idx)
	x = f.val
	for _, level := range []struct{ shift, bits int }{{9, 10}, {0, 9}} {
		f.rest = vec.Resized(f.rest, len(x))
		found := 0
		for _, v := range x { // those with the bits that are known
			f.rest[found] = v
			if int(math.Float32bits(v)&0x7fffffff>>(uint(level.shift+level.bits)&31)) == b {
				found++
			}
		}
		x = f.rest[:found]
		f.fill(x, level.shift, level.bits)
		low, more, left := f.reach(level.bits, rest)
		b, k, rest = b<<level.bits|low, k+more, left
	}
	v := float64(math.Float32frombits(uint32(b)))
	if most := int(f.count[b&511]); rest > float64(most-1)*v*v {
		return k + most, true
	}
	return k + max(1, int(math.Ceil(rest/(v*v)))), true
}

// energies are counts and sums of squares of numbers by some of their bits.
type energies struct {
	count [4096]int32
	sum   [4096]float64
}

func (h *energies) fill(x []float32, shift, bits int) {
	clear(h.count[:])
	clear(h.sum[:])
	left := uint(32-shift-bits) & 31 // the shifts' masks are for the compiler: one instruction each
	right := uint(32-bits) & 31
	for _, v := range x {
		b := math.Float32bits(v) << left >> right & 4095
		h.count[b]++
		h.sum[b] += float64(v) * float64(v)
	}
}

// reach is the bucket in which the sum from the largest on reaches want, or else the last that does not only hold zeros; how
// many are in those before it, and what is still wanted there.
func (h *energies) reach(bits int, want float64) (bucket, before int, rest float64) {
	bucket, rest = -1, want
	for b := 1<<bits - 1; b >= 0; b-- {
		if h.sum[b] == 0 {
			continue
		}
		if bucket >= 0 {
			before += int(h.count[bucket])
			rest -= h.sum[bucket]
		}
		if bucket = b; h.sum[b] >= rest {
			break
		}
	}
	return bucket, before, rest
}
