package compress

import "github.com/covey-ml/covey/vec"

// # How codes are packed
//
// Codes of w bits are cut into parts of 8, 4, 2 and 1 bits, from the lowest bits on: codes of 7 bits into their lower four,
// the next two and the last. All parts of a kind stand together, one plane after the other, packed as vec.Pack does, so
// that each plane is read and written with vectors. A plane is filled up to whole bytes with zeros: n codes of w bits take
// w n bits, and at most three times seven more.

// parts are the parts of codes of each width, from the lowest on.
var parts = [17][]int{1: {1}, 2: {2}, 3: {2, 1}, 4: {4}, 5: {4, 1}, 6: {4, 2}, 7: {4, 2, 1}, 8: {8},
	9: {8, 1}, 10: {8, 2}, 11: {8, 2, 1}, 12: {8, 4}, 13: {8, 4, 1}, 14: {8, 4, 2}, 15: {8, 4, 2, 1}, 16: {8, 8}}

// packedLen is how many bytes n codes of w bits take.
func packedLen(n, w int) int {
	size := 0
	for _, b := range parts[w] {
		size += vec.PackedLen(n, b)
	}
	return size
}

// packAt puts codes of w bits, at most 8, into their places in p, which holds n: they are the ones from at on, a multiple of
// 8. tmp has room for as many.
func packAt(p []byte, n, at int, code []uint8, w int, tmp []uint8) {
	shift := 0
	for _, b := range parts[w] {
		part := code
		if shift > 0 {
			part = tmp[:len(code)]
			vec.ShiftDown(part, code, shift)
		}
		vec.Pack(p[at*b/8:][:vec.PackedLen(len(code), b)], part, b)
		p, shift = p[vec.PackedLen(n, b):], shift+b
	}
}

// unpackAt is the reverse of packAt.
func unpackAt(code []uint8, p []byte, n, at, w int, tmp []uint8) {
	shift := 0
	for _, b := range parts[w] {
		from := p[at*b/8:][:vec.PackedLen(len(code), b)]
		if shift == 0 {
			vec.Unpack(code, from, b)
		} else {
			part := tmp[:len(code)]
			vec.Unpack(part, from, b)
			vec.MixUp(code, part, shift)
		}
		p, shift = p[vec.PackedLen(n, b):], shift+b
	}
}

// packWideAt is packAt for levels from -top to top as codes of w bits, more than 8: level+top. code and tmp have room for as
// many bytes.
func packWideAt(p []byte, n, at int, level []int16, top, w int, code, tmp []uint8) {
	code = code[:len(level)]
	low := p[at:][:len(level)]
	for i, l := range level {
		c := int(l) + top
		low[i], code[i] = uint8(c), uint8(c>>8)
	}
	packAt(p[n:], n, at, code, w-8, tmp)
}

// unpackWideAt is the reverse of packWideAt; it reports whether all levels are at most top.
func unpackWideAt(level []int16, p []byte, n, at, top, w int, code, tmp []uint8) bool {
	code = code[:len(level)]
	unpackAt(code, p[n:], n, at, w-8, tmp)
	low := p[at:][:len(level)]
	over := 0
	for i := range level {
		c := int(low[i]) | int(code[i])<<8
		over |= 2*top - c
		level[i] = int16(c - top)
	}
	return over >= 0
}

// padded reports whether the bits behind n codes of w bits are zero in each plane.
func padded(p []byte, n, w int) bool {
	for _, b := range parts[w] {
		size := vec.PackedLen(n, b)
		if used := n * b % 8; used != 0 && p[size-1]>>used != 0 {
			return false
		}
		p = p[size:]
	}
	return true
}
