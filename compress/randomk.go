package compress

import "github.com/covey-ml/covey/spec"

// RandomK keeps K elements, or max(1, ceil(Ratio n)) of n, all choices being as likely (Stich et al., arXiv 1809.07599,
// definition 2.2). It is a contraction with Delta = k/n. Who encodes under the same key keeps the same elements.
//
// The code is the key and the numbers, 8 + 4k bytes: which elements they are follows from the key.
type RandomK struct{ randomK }

// ScaledRandomK is RandomK with the numbers times n/k, rounded to float32, so that the vector is their expectation:
// Omega = n/k-1 (Beznosikov et al., arXiv 2002.12410, of unbiased random sparsification).
type ScaledRandomK struct{ randomK }

// randomK is what the two share.
type randomK struct {
	Ratio  float64 // above 0, at most 1
	K      int     // instead of Ratio; more than a vector has: all
	scaled bool
}

func newRandomK(s *spec.Spec) (Compressor, error) {
	c := randomK{Ratio: s.Float("ratio", 0), scaled: s.Bool("rescale", false), K: s.Int("k", 0)}
	var err error
	c.Ratio, err = portion(s, c.Ratio, c.K)
	if c.scaled {
		return ScaledRandomK{c}, err
	}
	return RandomK{c}, err
}

// Delta implements Contraction.
func (c RandomK) Delta(n int) float64 { return share(c.Most(n), n) }

// Omega implements Unbiased.
func (c ScaledRandomK) Omega(n int) float64 { return 1/share(c.Most(n), n) - 1 }

// String implements Compressor.
func (c randomK) String() string {
	more := ""
	if c.scaled {
		more = ",rescale=true"
	}
	return text("randomk", c.Ratio, c.K, more)
}

// Most implements Sparse: it keeps as many of every vector.
func (c randomK) Most(n int) int { return portionOf(c.Ratio, c.K, n) }

// MaxLen implements Compressor: 8 bytes of key and 4 an element kept.
func (c randomK) MaxLen(n int) int { return 8 + 4*c.Most(n) }

// Fixed implements Fixed.
func (c randomK) Fixed() {}

// Encode implements Compressor. A NaN or an infinity anywhere in x has no code.
func (c randomK) Encode(dst []byte, x []float32, key uint64) ([]byte, error) {
	l := lists.Take()
	defer lists.Put(l)
	scale := float32(1)
	if c.scaled {
		scale = float32(1 / share(c.Most(len(x)), len(x)))
	}
	c.draw(l, len(x), key)
	return l.appendDrawn(dst, x, key, scale)
}

func (c randomK) draw(l *list, n int, key uint64) { l.draw(drawsOf(key, "randomk"), n, c.Most(n)) }

func (c randomK) list(l *list, p []byte, n int) (wrong string) {
	if wrong := checkLen(p, c.MaxLen(n)); wrong != "" { // before anything is drawn
		return wrong
	}
	c.draw(l, n, keyOf(p))
	return l.drawnValues(p)
}

// Decode implements Compressor.
func (c randomK) Decode(x []float32, p []byte) error { return decode(c, x, p) }

// Add implements Adder.
func (c randomK) Add(x []float32, p []byte, scale float32) error { return add(c, x, p, scale) }

// Kept implements Sparse.
func (c randomK) Kept(idx []int32, p []byte, n int) ([]int32, error) { return kept(c, idx, p, n) }

// Entries implements Lister.
func (c randomK) Entries(idx []int32, val []float32, p []byte, n int) ([]int32, []float32, error) {
	return entries(c, idx, val, p, n)
}

var (
	_ Contraction = RandomK{}
	_ Fixed       = RandomK{}
	_ Lister      = RandomK{}
	_ Unbiased    = ScaledRandomK{}
	_ Fixed       = ScaledRandomK{}
	_ Lister      = ScaledRandomK{}
)
