package comm

import (
	"fmt"
	"sync"

	"github.com/covey-ml/covey/vec"
)

// Hollow is asked for at run time: a Group for times alone. Its messages carry lengths but no bytes, and its vectors may
// share memory, so nothing is computed on it: collectives send, wait and spend as on any group, and the numbers that they
// leave mean nothing.
type Hollow interface {
	// Hollow tells whether the group is one; the same on every call and rank.
	Hollow() bool
}

// IsHollow tells whether g is a group for times alone.
func IsHollow(g Group) bool {
	h, ok := g.(Hollow)
	return ok && h.Hollow()
}

func errHollow(op Op) error {
	return fmt.Errorf("comm: %v of bytes whose number only their sender knows, on a group for times alone: its messages say nothing", op)
}

// Vector returns n zeros for a worker's own use on g: of a hollow group some that all its workers of this process share.
func Vector(g Group, n int) []float32 {
	if IsHollow(g) {
		return sharedFloats(n)
	}
	return make([]float32, n)
}

// common is what hollow groups' vectors are made of.
var common struct {
	mu     sync.Mutex
	floats []float32
}

// sharedFloats returns n floats that whoever asks gets.
func sharedFloats(n int) []float32 {
	common.mu.Lock()
	defer common.mu.Unlock()
	if len(common.floats) < n {
		common.floats = alignedFloats(n)
	}
	return common.floats[:n:n]
}

// add adds src to dst, for its cost: two vectors are read and one is written.
func (c *call) add(dst, src []float32) {
	if !c.hollow {
		vec.Add(dst, src)
	}
	c.clock.Spend(Cost{Bytes: 3 * word * int64(len(dst))})
}

// copy copies src to dst, for its cost.
func (c *call) copy(dst, src []float32) {
	if !c.hollow {
		copy(dst, src)
	}
	c.clock.Spend(Cost{Bytes: 2 * word * int64(len(dst))})
}
