package vec

import "fmt"

// PackedLen is how many bytes n codes of 1, 2, 4 or 8 bits take.
func PackedLen(n, bits int) int {
	checkBits("PackedLen", bits)
	return (n*bits + 7) / 8
}

// Pack puts codes of 1, 2, 4 or 8 bits into bytes, from the lowest bits of the first byte on. Higher bits of a code are
// dropped, and what is left over of the last byte is 0. dst has PackedLen bytes and does not overlap code.
func Pack(dst []byte, code []uint8, bits int) {
	checkBits("Pack", bits)
	sized("Pack", "dst", len(dst), PackedLen(len(code), bits))
	switch bits {
	case 1:
		pack1(dst, code)
	case 2:
		pack2(dst, code)
	case 4:
		pack4(dst, code)
	case 8:
		copy(dst, code)
	}
}

// Unpack is the reverse of Pack.
func Unpack(code []uint8, src []byte, bits int) {
	checkBits("Unpack", bits)
	sized("Unpack", "src", len(src), PackedLen(len(code), bits))
	switch bits {
	case 1:
		unpack1(code, src)
	case 2:
		unpack2(code, src)
	case 4:
		unpack4(code, src)
	case 8:
		copy(code, src)
	}
}

// PackSigns writes the sign bit of each number (set for -0, and for a NaN that has it) as Pack does codes of one bit.
func PackSigns(dst []byte, x []float32) {
	sized("PackSigns", "dst", len(dst), PackedLen(len(x), 1))
	packSigns(dst, x)
}

// UnpackSigns is x[i] = scale, or -scale where the bit is set.
func UnpackSigns(x []float32, src []byte, scale float32) {
	sized("UnpackSigns", "src", len(src), PackedLen(len(x), 1))
	unpackSigns(x, src, scale)
}

func checkBits(op string, bits int) {
	if bits != 1 && bits != 2 && bits != 4 && bits != 8 {
		panic(fmt.Sprintf("vec.%s: codes of %d bits, want 1, 2, 4 or 8", op, bits))
	}
}

func packTwin(dst []byte, code []uint8, bits int) {
	per, mask := 8/bits, byte(1)<<bits-1
	for i := range dst {
		var b byte
		for j, c := range code[i*per : min((i+1)*per, len(code))] {
			b |= c & mask << (j * bits)
		}
		dst[i] = b
	}
}

func unpackTwin(code []uint8, src []byte, bits int) {
	per, mask := 8/bits, byte(1)<<bits-1
	for i, b := range src {
		part := code[i*per : min((i+1)*per, len(code))]
		for j := range part {
			part[j] = b >> (j * bits) & mask
		}
	}
}

func packSignsTwin(dst []byte, x []float32) {
	for i := range dst {
		var b byte
		for j, v := range x[i*8 : min(i*8+8, len(x))] {
			b |= byte(bits32(v)>>31) << j
		}
		dst[i] = b
	}
}

func unpackSignsTwin(x []float32, src []byte, scale float32) {
	for i := range x {
		s := uint32(src[i/8]>>(i%8)) << 31
		x[i] = float(bits32(scale) ^ s)
	}
}
