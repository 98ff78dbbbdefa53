package compress

import "github.com/covey-ml/covey/vec"

// Shrink makes a contraction of an unbiased compressor: the same codes, whose vectors are divided by 1+Omega. Then
// E|C(x)-x|^2 <= (1-Delta)|x|^2 with Delta = 1/(1+Omega) (Horvath and Richtarik, arXiv 2006.11077, section 3.1). Its String
// is c's. It panics when c is not Unbiased.
func Shrink(c Compressor) Compressor {
	s := shrunk{c, c.(Unbiased)}
	_, fixed := c.(Fixed)
	sparse, some := c.(Sparse)
	switch {
	case some && fixed:
		return struct {
			shrunkSparse
			always
		}{shrunkSparse{s, sparse}, always{}}
	case some:
		return shrunkSparse{s, sparse}
	case fixed:
		return struct {
			shrunk
			always
		}{s, always{}}
	}
	return s
}

// always is Fixed.
type always struct{}

func (always) Fixed() {}

type shrunk struct {
	Compressor
	unbiased Unbiased
}

func (s shrunk) factor(n int) float32 { return float32(s.Delta(n)) }

// Delta implements Contraction.
func (s shrunk) Delta(n int) float64 { return 1 / (1 + s.unbiased.Omega(n)) }

// Decode implements Compressor.
func (s shrunk) Decode(x []float32, p []byte) error {
	if err := s.Compressor.Decode(x, p); err != nil {
		return err
	}
	vec.Scale(s.factor(len(x)), x)
	return nil
}

type shrunkSparse struct {
	shrunk
	sparse Sparse
}

// Most implements Sparse.
func (s shrunkSparse) Most(n int) int { return s.sparse.Most(n) }

// Kept implements Sparse.
func (s shrunkSparse) Kept(idx []int32, p []byte, n int) ([]int32, error) {
	return s.sparse.Kept(idx, p, n)
}

// Add implements Adder, with the two factors made one before any element is.
func (s shrunkSparse) Add(x []float32, p []byte, scale float32) error {
	return s.sparse.Add(x, p, scale*s.factor(len(x)))
}
