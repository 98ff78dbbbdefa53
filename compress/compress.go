// Package compress turns vectors into fewer bytes and back.
//
// New makes a Compressor by name. Encode writes a vector's code, Decode reads one; what a peer sent is checked to the last
// byte, and a code that no Encode could have written is refused. Nothing here holds state between calls: error feedback,
// momentum correction and warm starts are reducers' (package reduce), which decide what is encoded and when.
//
// # Which error a compressor makes
//
// Papers use omega two ways, as a variance and as a ratio of sizes. Here Omega is always the variance of an unbiased
// compressor, E C(x) = x and E|C(x)-x|^2 <= Omega |x|^2, and Delta the strength of a contraction,
// E|C(x)-x|^2 <= (1-Delta)|x|^2: Omega is 0 and Delta is 1 for a compressor that loses nothing. How few bytes a code has is
// MaxLen's business. An unbiased compressor becomes a contraction with Delta = 1/(1+Omega) when what it decodes is divided
// by 1+Omega (Shrink).
package compress

import (
	"errors"
	"fmt"
	"slices"

	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/vec"
)

// Compressor turns a vector into bytes and back. It is a value without state: methods may be called from several
// goroutines, and the same arguments give the same result on every processor.
type Compressor interface {
	// String is the choice that New reads back, with all parameters that decide the code.
	String() string
	// MaxLen is the most bytes that n elements take; a longer code is refused.
	MaxLen(n int) int
	// Encode appends the code of x to dst and returns the result, as append does. key decides every random draw:
	// who encodes two vectors under one key draws the same for both. x is only read. The error is ErrNotFinite when x
	// holds a NaN or an infinity that the code cannot say.
	Encode(dst []byte, x []float32, key uint64) ([]byte, error)
	// Decode overwrites x with the vector that p is the code of; p came from an Encode of as many elements. Otherwise the
	// error is a *CorruptError, and x undefined.
	Decode(x []float32, p []byte) error
}

// Adder is asked for at run time: a Compressor that adds without writing the whole vector down first. Sparse ones take
// time in proportion to what they kept.
type Adder interface {
	// Add adds scale times the vector v that p is the code of to x, as vec.Axpy does: x[i] = FMA(scale, v[i], x[i]), and
	// leaves the elements alone that are not in the code. Errors are as Decode's.
	Add(x []float32, p []byte, scale float32) error
}

// Fixed is asked for at run time: a Compressor whose every code of n elements has MaxLen(n) bytes.
type Fixed interface{ Fixed() }

// Unbiased is asked for at run time: E C(x) = x, and E|C(x)-x|^2 <= Omega(n) |x|^2 over the draws, for n elements.
type Unbiased interface{ Omega(n int) float64 }

// Contraction is asked for at run time: E|C(x)-x|^2 <= (1-Delta(n)) |x|^2 over the draws, with Delta in (0, 1].
type Contraction interface{ Delta(n int) float64 }

// Absolute is asked for at run time: |C(x)-x|^2 <= Bound(n) for n elements whatever x is, and whatever is drawn. Error
// feedback is right for such compressors, too (Sahu et al., Rethinking gradient sparsification as total error minimization,
// arXiv 2108.00951), though they may drop a small vector as a whole; EF21 needs a Contraction.
type Absolute interface{ Bound(n int) float64 }

// Sparse is asked for at run time: a Compressor that keeps some elements and drops the others.
type Sparse interface {
	Adder
	// Most is the most elements of n that it keeps.
	Most(n int) int
	// Kept appends the indices, in increasing order, of the elements that are in a code of n elements. Errors are as
	// Decode's.
	Kept(idx []int32, p []byte, n int) ([]int32, error)
}

// ErrNotFinite says that a vector has no code since it holds a NaN or an infinity: training has diverged.
var ErrNotFinite = errors.New("compress: the vector holds a NaN or an infinity")

// CorruptError says what is wrong with bytes that should be a code.
type CorruptError struct {
	Codec string // as String gives it
	N     int    // elements that were expected
	What  string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("compress: not a code of %d elements by %s: %s", e.N, e.Codec, e.What)
}

// Add adds scale times the vector that p is the code of to x, by way of scratch, which has x's length, when c is no Adder.
func Add(c Compressor, x []float32, p []byte, scale float32, scratch []float32) error {
	if a, ok := c.(Adder); ok {
		return a.Add(x, p, scale)
	}
	scratch = scratch[:len(x)]
	if err := c.Decode(scratch, p); err != nil {
		return err
	}
	vec.Axpy(scale, scratch, x)
	return nil
}

// Choice is a name that a job can give, and a line of help.
type Choice struct{ Name, Help string }

// maker is a compressor by name. make takes its parameters from s; New asks s whether anything is left.
type maker struct {
	Choice
	make func(s *spec.Spec) (Compressor, error)
}

var makers = slices.Concat(whole, quantisers, sparsifiers)

// Names lists the compressors in the order of help texts.
func Names() []Choice {
	out := make([]Choice, len(makers))
	for i, m := range makers {
		out[i] = m.Choice
	}
	return out
}

// New makes the compressor that s names. An unknown name or parameter, or a value out of range, is an error that says
// what is valid.
func New(s *spec.Spec) (Compressor, error) {
	names := make([]string, len(makers))
	for i, m := range makers {
		names[i] = m.Name
		if m.Name != s.Name {
			continue
		}
		c, err := m.make(s)
		if done := s.Done(); done != nil {
			return nil, done
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
		return c, nil
	}
	return nil, spec.OneOf("compressor", s.Name, names...)
}
