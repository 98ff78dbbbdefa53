package vec

import (
	"fmt"
	"unsafe"
)

// Views are the wire's and the disk's little-endian format only on a little-endian machine.
func init() {
	one := uint16(1)
	if *(*byte)(unsafe.Pointer(&one)) != 1 {
		panic("vec: this machine is big-endian; Covey runs on little-endian machines only")
	}
}

// Bytes is x's memory as bytes, four to a number, little-endian, sharing it with x.
func Bytes(x []float32) []byte {
	if len(x) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), 4*len(x))
}

// Floats is b's memory as numbers, sharing it with b. It panics when b does not start at a multiple of four
// bytes or its length is not a multiple of four.
func Floats(b []byte) []float32 {
	if len(b)%4 != 0 {
		panic(fmt.Sprintf("vec.Floats: %d bytes are not a multiple of 4", len(b)))
	}
	if len(b) == 0 {
		return nil
	}
	p := unsafe.Pointer(unsafe.SliceData(b))
	if a := uintptr(p); a%4 != 0 {
		panic(fmt.Sprintf("vec.Floats: the bytes start at address %#x, which is not a multiple of 4", a))
	}
	return unsafe.Slice((*float32)(p), len(b)/4)
}

// Bytes16 is x's memory as bytes, two to a number, little-endian, sharing it with x.
func Bytes16[T int16 | uint16](x []T) []byte {
	if len(x) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), 2*len(x))
}

// same panics unless two lengths are equal.
func same(op string, a, b int) {
	if a != b {
		panic(fmt.Sprintf("vec.%s: lengths %d and %d differ", op, a, b))
	}
}

// sized panics unless slice name of an operation has the length that the sizes ask for.
func sized(op, name string, have, want int) {
	if have != want {
		panic(fmt.Sprintf("vec.%s: %s has %d elements, want %d", op, name, have, want))
	}
}
