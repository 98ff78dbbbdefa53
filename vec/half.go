package vec

import "math"

// ToHalf rounds x to IEEE 754 binary16 (fp16: 5 bits of exponent, 10 of fraction), to nearest, ties to even. What is
// 65520 or more becomes infinite, what is 2^-25 or less becomes 0, and between 2^-24 and 2^-14 lie subnormals. A NaN
// stays one, quiet, with the first ten bits of its payload.
func ToHalf(h []uint16, x []float32) {
	same("ToHalf", len(h), len(x))
	toHalf(h, x)
}

// FromHalf widens binary16, which is exact; a NaN becomes quiet.
func FromHalf(x []float32, h []uint16) {
	same("FromHalf", len(x), len(h))
	fromHalf(x, h)
}

// ToBfloat rounds x to bfloat16 (bf16: float32's first 16 bits), to nearest, ties to even; what is nearer to 2^128 than
// to the largest bfloat16 becomes infinite. A NaN stays one, quiet, with the first seven bits of its payload.
func ToBfloat(h []uint16, x []float32) {
	same("ToBfloat", len(h), len(x))
	toBfloat(h, x)
}

// FromBfloat widens bfloat16, which is exact and keeps every bit.
func FromBfloat(x []float32, h []uint16) {
	same("FromBfloat", len(x), len(h))
	fromBfloat(x, h)
}

func toHalfTwin(h []uint16, x []float32) {
	for i, v := range x {
		h[i] = half1(math.Float32bits(v))
	}
}

func half1(b uint32) uint16 {
	sign, b := uint16(b>>16&0x8000), b&0x7fffffff
	switch {
	case b > 0x7f800000: // NaN
		return sign | 0x7e00 | uint16(b>>13&0x3ff)
	case b >= 0x477ff000: // 65520
		return sign | 0x7c00
	case b >= 0x38800000: // 2^-14: a carry out of the fraction goes into the exponent, as it should
		b -= (127 - 15) << 23
		return sign | uint16((b+0xfff+b>>13&1)>>13)
	case b <= 0x33000000: // 2^-25, a tie that goes to 0
		return sign
	}
	// Subnormal: the unit is 2^-24.
	m, shift := b&(1<<23-1)|1<<23, 126-b>>23
	return sign | uint16((m+1<<(shift-1)-1+m>>shift&1)>>shift)
}

func fromHalfTwin(x []float32, h []uint16) {
	for i, v := range h {
		x[i] = math.Float32frombits(single(uint32(v)))
	}
}

func single(h uint32) uint32 {
	sign, e, m := h&0x8000<<16, h>>10&31, h&0x3ff
	switch {
	case e == 31 && m != 0:
		return sign | 0x7fc00000 | m<<13
	case e == 31:
		return sign | 0x7f800000
	case e == 0: // m units of 2^-24
		return sign | math.Float32bits(float32(m)*0x1p-24)
	}
	return sign | (e+127-15)<<23 | m<<13
}

func toBfloatTwin(h []uint16, x []float32) {
	for i, v := range x {
		b := math.Float32bits(v)
		if b&0x7fffffff > 0x7f800000 {
			h[i] = uint16(b>>16) | 0x40
		} else {
			h[i] = uint16((b + 0x7fff + b>>16&1) >> 16)
		}
	}
}

func fromBfloatTwin(x []float32, h []uint16) {
	for i, v := range h {
		x[i] = math.Float32frombits(uint32(v) << 16)
	}
}
