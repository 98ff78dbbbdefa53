package compress

import (
	"fmt"

	"github.com/covey-ml/covey/spec"
)

// Bernoulli keeps each element with probability P, on its own, times 1/P rounded to float32, so that the vector is the
// expectation: Omega = 1/P-1 (Wangni et al., arXiv 1710.09854, with equal probabilities). How many it keeps varies: P n on average, with variance P (1-P) n.
//
// The code is the key and the numbers, 8 bytes and 4 for each element kept: which elements they are follows from the key.
// To find them takes a draw for every 9 elements of the vector, also for Add.
type Bernoulli struct {
	P float64 // above 0, at most 1
}

func newBernoulli(s *spec.Spec) (Compressor, error) {
	c := Bernoulli{P: s.Float("p", 0.01)}
	if !(c.P >= 0x1p-32 && c.P <= 1) {
		return nil, fmt.Errorf("p is %v, expected above 2^-32 and at most 1, such as 0.01 to keep 1 %%", c.P)
	}
	return c, nil
}

// String implements Compressor.
func (c Bernoulli) String() string { return fmt.Sprintf("bernoulli:%v", c.P) }

// Omega implements Unbiased.
func (c Bernoulli) Omega(int) float64 { return 1/c.P - 1 }

// Most implements Sparse: luck may keep all.
func (c Bernoulli) Most(n int) int { return n }

// MaxLen implements Compressor: 8 bytes of key and 4 an element, since luck may keep all.
func (c Bernoulli) MaxLen(n int) int { return 8 + 4*n }

// Encode implements Compressor. A NaN or an infinity anywhere in x has no code.
func (c Bernoulli) Encode(dst []byte, x []float32, key uint64) ([]byte, error) {
	l := lists.Take()
	defer lists.Put(l)
	c.draw(l, len(x), key)
	return l.appendDrawn(dst, x, key, float32(1/c.P))
}

func (c Bernoulli) draw(l *list, n int, key uint64) { l.drawEach(drawsOf(key, "bernoulli"), n, c.P) }

func (c Bernoulli) list(l *list, p []byte, n int) (wrong string) {
	if len(p) < 8 || len(p) > c.MaxLen(n) {
		return fmt.Sprintf("%d bytes, want 8 to %d", len(p), c.MaxLen(n))
	}
	c.draw(l, n, keyOf(p))
	return l.drawnValues(p)
}

// Decode implements Compressor.
func (c Bernoulli) Decode(x []float32, p []byte) error { return decode(c, x, p) }

// Add implements Adder.
func (c Bernoulli) Add(x []float32, p []byte, scale float32) error { return add(c, x, p, scale) }

// Kept implements Sparse.
func (c Bernoulli) Kept(idx []int32, p []byte, n int) ([]int32, error) { return kept(c, idx, p, n) }

// Entries implements Lister.
func (c Bernoulli) Entries(idx []int32, val []float32, p []byte, n int) ([]int32, []float32, error) {
	return entries(c, idx, val, p, n)
}

var (
	_ Unbiased = Bernoulli{}
	_ Lister   = Bernoulli{}
)
