package comm

import (
	"unsafe"

	"github.com/covey-ml/covey/vec"
)

// Allocator is asked for at run time: a Group that can place vectors where its other ranks can reach them.
type Allocator interface {
	// Alloc returns n zeros, 64-byte aligned, that the other ranks' collectives read and write without a copy, or nil
	// when there is no room for them. Any goroutine may call it. The memory stays valid, for this process, until the
	// process ends, whatever becomes of the group.
	Alloc(n int) []float32
}

// Alloc returns a vector of n zeros, 64-byte aligned, in the best place for g's collectives: in memory that g's other
// ranks can reach when g has such (see Allocator), so that a sum copies nothing it need not; else on the heap, where
// everything works too, on some transports by way of a copy. Vectors that live as long as the group (parameters,
// gradients) are made by it, once: what comes from a group's own memory is not given back before the process ends,
// and may be used after the group is closed. Of a hollow group, it is memory that all share, of any content.
func Alloc(g Group, n int) []float32 {
	if IsHollow(g) {
		return sharedFloats(n)
	}
	if x := allocIn(g, n); x != nil {
		return x
	}
	return alignedFloats(n)
}

// allocIn returns n zeros of g's own memory, or nil.
func allocIn(g Group, n int) []float32 {
	if a, ok := g.(Allocator); ok && n > 0 {
		return a.Alloc(n)
	}
	return nil
}

// line is how vectors are aligned, in bytes: a cache line, and the longest vector register.
const line = 64

// alignedFloats returns n zeros of the heap that begin at a multiple of line.
func alignedFloats(n int) []float32 {
	x := make([]float32, n+line/word-1)
	skip := 0
	if at := uintptr(unsafe.Pointer(unsafe.SliceData(x))) % line; at != 0 {
		skip = int(line-at) / word
	}
	return x[skip : skip+n : skip+n]
}

// AlignedBytes returns n zero bytes of the heap, a multiple of 4, that begin at a multiple of 64: for a transport's
// scratch.
func AlignedBytes(n int) []byte { return vec.Bytes(alignedFloats(n / word)) }
