package compress

import (
	"errors"
	"fmt"
	"math"

	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/vec"
)

// TopK keeps the K elements that are largest in magnitude, or of n elements the max(1, ceil(Ratio n)) largest (Stich et al., arXiv
// 1809.07599, definition 2.2; Alistarh et al., arXiv 1809.10505). Of equals the one with the lower index is
// kept. It is a contraction, whatever the vector, with Delta = k/n.
//
// The code is that of AppendEntries: EntriesLen bytes, at 1 % about 40 bits an element kept with F32 and 24 with FP16.
type TopK struct {
	Ratio  float64 // above 0, at most 1
	K      int     // instead of Ratio; more than a vector has: all
	Values Values
}

func newTopK(s *spec.Spec) (Compressor, error) {
	c := TopK{Ratio: s.Float("ratio", 0), Values: parseValues(s), K: s.Int("k", 0)}
	var err error
	c.Ratio, err = portion(s, c.Ratio, c.K)
	return c, err
}

// portion is the ratio of a choice that takes ratio or k; with neither, 1 %.
func portion(s *spec.Spec, ratio float64, k int) (float64, error) {
	r := s.Given("ratio") || len(s.Args) > 0
	switch {
	case r && k != 0:
		return 0, errors.New("one of ratio and k, not both")
	case s.Given("k") && (k < 1 || k > math.MaxInt32):
		return 0, fmt.Errorf("k is %d, expected 1 to %d", k, math.MaxInt32)
	case r && !(ratio > 0 && ratio <= 1):
		return 0, fmt.Errorf("the ratio is %v, expected above 0 and at most 1, such as 0.01 for 1 %% (a number of elements goes by its name: k=500)", ratio)
	case !r && k == 0:
		return 0.01, nil
	}
	return ratio, nil
}

// portionOf is how many of n elements that is. A ratio times n that is whole but for float64's rounding stays so.
func portionOf(ratio float64, k, n int) int {
	if k == 0 {
		k = max(1, int(math.Ceil(ratio*float64(n)*(1-0x1p-50))))
	}
	return min(k, n)
}

// share is k/n, and 1 of nothing.
func share(k, n int) float64 {
	if n == 0 {
		return 1
	}
	return float64(k) / float64(n)
}

// text is a choice that takes ratio or k.
func text(name string, ratio float64, k int, more string) string {
	if k > 0 {
		return fmt.Sprintf("%s:k=%d%s", name, k, more)
	}
	return fmt.Sprintf("%s:%v%s", name, ratio, more)
}

// option is what v adds to a choice.
func (v Values) option() string {
	if v == F32 {
		return ""
	}
	return ",values=" + v.String()
}

// String implements Compressor.
func (c TopK) String() string { return text("topk", c.Ratio, c.K, c.Values.option()) }

// Most implements Sparse: it keeps as many of every vector.
func (c TopK) Most(n int) int { return portionOf(c.Ratio, c.K, n) }

// Delta implements Contraction: k/n; with FP16 1-2^-21 and with BF16 1-2^-16 times that, the latter for numbers that are at
// least 2^-126.
func (c TopK) Delta(n int) float64 { return share(c.Most(n), n) * c.Values.kept() }

// MaxLen implements Compressor: MaxEntriesLen.
func (c TopK) MaxLen(n int) int { return MaxEntriesLen(n, c.Most(n), c.Values) }

// Encode implements Compressor. It takes no draws, and x at most 2^31-1 elements.
func (c TopK) Encode(dst []byte, x []float32, _ uint64) ([]byte, error) {
	l := lists.Take()
	defer lists.Put(l)
	l.top(x, c.Most(len(x)))
	return l.append(dst, len(x), c.Values)
}

// top overwrites l with the k largest entries of x.
func (l *list) top(x []float32, k int) {
	l.idx, l.val = vec.Resized(l.idx, k), vec.Resized(l.val, k)
	vec.TopK(l.idx, x)
	vec.Gather(l.val, x, l.idx)
}

func (c TopK) list(l *list, p []byte, n int) string {
	wrong := l.read(p, n, c.Values)
	if k := c.Most(n); wrong == "" && len(l.idx) != k {
		return fmt.Sprintf("%d elements kept, want %d", len(l.idx), k)
	}
	return wrong
}

// Decode implements Compressor.
func (c TopK) Decode(x []float32, p []byte) error { return decode(c, x, p) }

// Add implements Adder.
func (c TopK) Add(x []float32, p []byte, scale float32) error { return add(c, x, p, scale) }

// Kept implements Sparse.
func (c TopK) Kept(idx []int32, p []byte, n int) ([]int32, error) { return kept(c, idx, p, n) }

// Entries implements Lister.
func (c TopK) Entries(idx []int32, val []float32, p []byte, n int) ([]int32, []float32, error) {
	return entries(c, idx, val, p, n)
}

var (
	_ Contraction = TopK{}
	_ Lister      = TopK{}
)
