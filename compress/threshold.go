package compress

import (
	"errors"
	"fmt"

	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/vec"
)

// Threshold keeps the elements of magnitude T or more (Strom, Interspeech 2015, who sends the sign times T where we send
// the numbers). How many that are depends on the vector, so that it is neither unbiased nor a contraction of
// a stated strength: a vector whose elements are all below T becomes 0. An element's error is below T: it is Absolute.
//
// The code is that of AppendEntries.
type Threshold struct {
	T      float32 // above 0
	Values Values
}

func newThreshold(s *spec.Spec) (Compressor, error) {
	t := s.Float("t", 0)
	c := Threshold{float32(t), parseValues(s)}
	switch {
	case len(s.Args) == 0 && !s.Given("t"):
		return nil, errors.New("give the least magnitude to keep, as in threshold:0.001")
	case !(c.T > 0) || !vec.Finite([]float32{c.T}):
		return nil, fmt.Errorf("t is %v, expected a float32 above 0, such as 0.001", t)
	}
	return c, nil
}

// String implements Compressor.
func (c Threshold) String() string { return fmt.Sprintf("threshold:%v%s", c.T, c.Values.option()) }

// Most implements Sparse: all may be large.
func (c Threshold) Most(n int) int { return n }

// Bound implements Absolute: n T^2, what is dropped being below T. With FP16 and BF16 what is kept is rounded, which costs up to
// 2^-21 or 2^-16 of |x|^2 beside.
func (c Threshold) Bound(n int) float64 { return float64(n) * float64(c.T) * float64(c.T) }

// MaxLen implements Compressor: MaxEntriesLen of all.
func (c Threshold) MaxLen(n int) int { return MaxEntriesLen(n, n, c.Values) }

// Encode implements Compressor. It takes no draws, and x at most 2^31-1 elements.
func (c Threshold) Encode(dst []byte, x []float32, _ uint64) ([]byte, error) {
	l := lists.Take()
	defer lists.Put(l)
	l.idx = vec.Resized(l.idx, max(cap(l.idx), 1024))
	found, read := vec.Above(l.idx, x, c.T)
	for read < len(x) {
		l.idx = append(l.idx[:found], make([]int32, found)...)
		l.idx = l.idx[:cap(l.idx)]
		more, to := vec.Above(l.idx[found:], x[read:], c.T)
		for i := range l.idx[found : found+more] {
			l.idx[found+i] += int32(read)
		}
		found, read = found+more, read+to
	}
	l.idx, l.val = l.idx[:found], vec.Resized(l.val, found)
	vec.Gather(l.val, x, l.idx)
	return l.append(dst, len(x), c.Values)
}

func (c Threshold) list(l *list, p []byte, n int) string {
	if wrong := l.read(p, n, c.Values); wrong != "" {
		return wrong
	}
	// Rounded to a Values, T itself is the least that is sent.
	for i, v := range l.val {
		if c.Values == F32 && v < c.T && v > -c.T {
			return fmt.Sprintf("element %d is %v, below the threshold", l.idx[i], v)
		}
	}
	return ""
}

// Decode implements Compressor.
func (c Threshold) Decode(x []float32, p []byte) error { return decode(c, x, p) }

// Add implements Adder.
func (c Threshold) Add(x []float32, p []byte, scale float32) error { return add(c, x, p, scale) }

// Kept implements Sparse.
func (c Threshold) Kept(idx []int32, p []byte, n int) ([]int32, error) { return kept(c, idx, p, n) }

// Entries implements Lister.
func (c Threshold) Entries(idx []int32, val []float32, p []byte, n int) ([]int32, []float32, error) {
	return entries(c, idx, val, p, n)
}

var (
	_ Lister   = Threshold{}
	_ Absolute = Threshold{}
)
