package compress

import (
	"fmt"
	"math"

	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/vec"
)

// TernGrad rounds each element to 0 or to its sign times m, the largest |x| of its bucket, with probability |x|/m for the
// latter, so that the element is the expectation (Wen et al., arXiv 1705.07878, section 3.1). Omega = (sqrt(b)-1)/2 for b
// elements: E|C(x)|^2 is m times the sum of |x|. A bucket is the whole vector unless the choice says otherwise, as in the
// paper, whose scale is a layer's.
//
// A code has 2 bits an element and 4 bytes for each bucket. (Five of three values fit into a byte, 1.6 bits each, but not
// where a vector of bytes can be unpacked with a few shifts.)
type TernGrad struct{ grid }

// ClippedTernGrad is TernGrad of elements that are first held to clip times their bucket's root mean square (section 3.3 of
// the paper, which takes 2.5 standard deviations, of gradients whose mean is 0): with outliers gone the scale is smaller. It is
// not unbiased.
type ClippedTernGrad struct {
	grid
	clip float64
}

func newTernGrad(s *spec.Spec) (Compressor, error) {
	clip := s.Float("clip", 0)
	b, err := bucketOf(s, 0)
	g := grid{top: 1, bucket: b, random: true, scale: byMax}
	switch {
	case clip == 0:
		return &TernGrad{g}, err
	case !(clip >= 0.1 && clip <= 100):
		return nil, fmt.Errorf("clip is %v times the root mean square, expected a number from 0.1 to 100, such as 2.5 (a bucket goes by its name: bucket=512)", clip)
	}
	g.scale = func(x []float32, _ int) float64 {
		return min(float64(vec.MaxAbs(x)), clip*math.Sqrt(vec.SumSquares(x)/float64(len(x))))
	}
	return &ClippedTernGrad{g, clip}, err
}

// String implements Compressor.
func (c *TernGrad) String() string { return c.bucket.named("terngrad", 0) }

// Omega implements Unbiased.
func (c *TernGrad) Omega(n int) float64 { return spread(c.bucket.size(n), 1) }

// Decode implements Compressor.
func (c *TernGrad) Decode(x []float32, p []byte) error { return decodeBlocks(c, x, p) }

// Add implements Adder.
func (c *TernGrad) Add(x []float32, p []byte, scale float32) error { return addBlocks(c, x, p, scale) }

// String implements Compressor.
func (c *ClippedTernGrad) String() string {
	return fmt.Sprintf("terngrad:clip=%v%s", c.clip, c.bucket.suffix(0))
}

// Decode implements Compressor.
func (c *ClippedTernGrad) Decode(x []float32, p []byte) error { return decodeBlocks(c, x, p) }

// Add implements Adder.
func (c *ClippedTernGrad) Add(x []float32, p []byte, scale float32) error {
	return addBlocks(c, x, p, scale)
}

var (
	_ Unbiased = (*TernGrad)(nil)
	_ Adder    = (*TernGrad)(nil)
	_ Fixed    = (*ClippedTernGrad)(nil)
	_ Adder    = (*ClippedTernGrad)(nil)
)
