package compress

import (
	"fmt"

	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/vec"
)

// whole are the compressors that lose nothing.
var whole = []maker{{Choice{"identity", "the numbers themselves, 32 bits each: to try what goes around a compressor"},
	func(*spec.Spec) (Compressor, error) { return Identity{}, nil }}}

// Identity sends the numbers themselves: 32 bits an element, Omega 0, Delta 1.
type Identity struct{}

// String implements Compressor.
func (Identity) String() string { return "identity" }

// MaxLen implements Compressor: 4 bytes an element.
func (Identity) MaxLen(n int) int { return 4 * n }

// Fixed implements Fixed.
func (Identity) Fixed() {}

// Omega implements Unbiased.
func (Identity) Omega(int) float64 { return 0 }

// Delta implements Contraction.
func (Identity) Delta(int) float64 { return 1 }

// Encode implements Compressor. It has a code for every number.
func (Identity) Encode(dst []byte, x []float32, _ uint64) ([]byte, error) {
	return append(dst, vec.Bytes(x)...), nil
}

// Decode implements Compressor.
func (c Identity) Decode(x []float32, p []byte) error {
	if len(p) != 4*len(x) {
		return &CorruptError{c.String(), len(x), fmt.Sprintf("%d bytes", len(p))}
	}
	copy(vec.Bytes(x), p)
	return nil
}

var (
	_ Compressor  = Identity{}
	_ Fixed       = Identity{}
	_ Unbiased    = Identity{}
	_ Contraction = Identity{}
)
