package compress

import (
	"fmt"
	"math"

	"github.com/covey-ml/covey/spec"
)

// QSGD rounds each element at random to a level: with s levels, sign(x) |v| l/s where |v| is the 2-norm of its bucket and l
// is the whole number below or above s|x|/|v|, so that the element is the expectation (Alistarh et al., arXiv 1610.02132,
// section 3.1). Omega = min(b/s^2, sqrt(b)/s) for buckets of b elements (lemma 3.1).
//
// A code has ceil(log2(2s+1)) bits an element and 4 bytes for each bucket, for |v|/s: 8 bits and 1/16 with 127 levels and
// buckets of 512, which is the paper's own choice (section 5): over a whole vector of a million elements Omega would be 8, with
// buckets it is 0.03. EliasQSGD has the paper's codes of varying length.
type QSGD struct{ grid }

func newQSGD(s *spec.Spec) (Compressor, error) {
	levels := s.Int("levels", 127)
	code := s.Word("code", "packed", "packed", "elias")
	b, err := bucketOf(s, buckets)
	if levels < 1 || levels > 127 {
		return nil, fmt.Errorf("levels is %d, expected 1 to 127", levels)
	}
	q := QSGD{grid{top: levels, bucket: b, random: true, scale: byNorm}}
	if code == "elias" {
		return &EliasQSGD{q}, err
	}
	return &q, err
}

// String implements Compressor.
func (c *QSGD) String() string {
	return fmt.Sprintf("qsgd:levels=%d%s", c.top, c.bucket.suffix(buckets))
}

// Omega implements Unbiased.
func (c *QSGD) Omega(n int) float64 {
	b, s := float64(c.bucket.size(n)), float64(c.top)
	return min(b/(s*s), math.Sqrt(b)/s)
}

// Decode implements Compressor.
func (c *QSGD) Decode(x []float32, p []byte) error { return decodeBlocks(c, x, p) }

// Add implements Adder.
func (c *QSGD) Add(x []float32, p []byte, scale float32) error { return addBlocks(c, x, p, scale) }

var (
	_ Unbiased = (*QSGD)(nil)
	_ Adder    = (*QSGD)(nil)
	_ Fixed    = (*QSGD)(nil)
)
