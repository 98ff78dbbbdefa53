package comm

import (
	"testing"
	"unsafe"
)

// TestAllocAligned: what comes from the heap is zeros, of the length asked for, at a multiple of 64.
func TestAllocAligned(t *testing.T) {
	for n := range 300 {
		x := alignedFloats(n)
		if len(x) != n || cap(x) != n {
			t.Fatalf("%d floats: %d of %d", n, len(x), cap(x))
		}
		if n > 0 && uintptr(unsafe.Pointer(&x[0]))%64 != 0 {
			t.Fatalf("%d floats begin at %p", n, &x[0])
		}
		for i := range x {
			if x[i] != 0 {
				t.Fatalf("element %d of %d is %v", i, n, x[i])
			}
			x[i] = 1
		}
	}
}
