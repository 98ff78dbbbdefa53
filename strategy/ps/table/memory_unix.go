//go:build linux || darwin

package table

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// alloc makes n zeros outside of the Go heap, which may otherwise hold as much garbage again as there is memory in use: a
// table's budget would be half of what it takes. Nothing in it may point to Go memory.
func alloc[T uint32 | uint64 | float32](n int) ([]T, error) {
	var one T
	size := uintptr(n) * unsafe.Sizeof(one)
	p, err := unix.MmapPtr(-1, 0, nil, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("%d bytes of memory: %w", size, err)
	}
	return unsafe.Slice((*T)(p), n), nil
}

// free gives back what alloc made.
func free[T uint32 | uint64 | float32](x []T) {
	if len(x) == 0 {
		return
	}
	p := unsafe.SliceData(x)
	if err := unix.MunmapPtr(unsafe.Pointer(p), uintptr(len(x))*unsafe.Sizeof(*p)); err != nil {
		panic(fmt.Sprintf("table: giving %d elements back: %v", len(x), err))
	}
}
