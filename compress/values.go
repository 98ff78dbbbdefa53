package compress

import (
	"fmt"
	"math"

	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/vec"
)

// Values is how the numbers of a sparse code are written.
type Values uint8

const (
	// F32 is float32: exact, 4 bytes a number.
	F32 Values = iota
	// FP16 is IEEE binary16, 2 bytes a number, of the numbers divided by the power of two, 2^-125 to 2^113, that makes the
	// largest 2^14 or more and below 2^15, and one byte for that power in front of all. The error is at most 2^-11 of a number
	// or 2^-39 of the largest one.
	FP16
	// BF16 is bfloat16, 2 bytes a number. The error is at most 2^-8 of a number that is at least 2^-126, and never more
	// than the number.
	BF16
)

var valueNames = []string{"f32", "fp16", "bf16"}

// String is the name in a choice: f32, fp16 or bf16.
func (v Values) String() string { return valueNames[v] }

func parseValues(s *spec.Spec) Values {
	word := s.Word("values", valueNames[F32], valueNames...)
	for v, name := range valueNames {
		if name == word {
			return Values(v)
		}
	}
	return F32
}

// size is the bytes that k numbers take.
func (v Values) size(k int) int {
	switch {
	case v == F32:
		return 4 * k
	case v == FP16 && k > 0:
		return 1 + 2*k
	}
	return 2 * k
}

// kept is the part of |x|^2 that writing x's numbers keeps, at least, when none is below 2^-126: 1 less the square of the
// largest relative error. FP16's 2^-21 covers its smallest numbers, too: k of them are off by 2^-78 k of |x|^2.
func (v Values) kept() float64 {
	switch v {
	case FP16:
		return 1 - 0x1p-21
	case BF16:
		return 1 - 0x1p-16
	}
	return 1
}

// The power of two of FP16 is written as that of least2 and how many steps up.
const (
	least2 = -125
	most2  = 113
)

func (l *list) putValues(p []byte, v Values) {
	if v == F32 {
		copy(p, vec.Bytes(l.val))
		return
	}
	l.half = vec.Resized(l.half, len(l.val))
	most := uint16(0x7f7f) // the largest bfloat16, for what would become infinite
	if v == FP16 {
		e := scaleOf(vec.MaxAbs(l.val))
		most = 0x77ff // what would become 2^15
		p[0] = byte(e - least2)
		p = p[1:]
		vec.Scale(float32(math.Ldexp(1, -e)), l.val)
		vec.ToHalf(l.half, l.val)
	} else {
		vec.ToBfloat(l.half, l.val)
	}
	holdTo(l.half, most)
	copy(p, vec.Bytes16(l.half))
}

// scaleOf is the power of two, as its exponent, by which numbers are divided of which a is the largest.
func scaleOf(a float32) int {
	_, e := math.Frexp(float64(a))
	if e -= 15; math.Float32bits(a)&0x7fffff >= 0x7ff000 {
		e++ // with 10 bits of fraction it is the next power of two
	}
	if a == 0 {
		e = least2
	}
	return min(max(e, least2), most2)
}

// getValues overwrites l.val with the numbers that p, of the right length, is.
func (l *list) getValues(p []byte, v Values) (wrong string) {
	if v == F32 {
		copy(vec.Bytes(l.val), p)
		if !vec.Finite(l.val) {
			return "a number is not finite"
		}
		return ""
	}
	step := 0
	if v == FP16 {
		step = int(p[0])
		p = p[1:]
	}
	l.half = vec.Resized(l.half, len(l.val))
	copy(vec.Bytes16(l.half), p)
	most := uint16(0)
	for _, h := range l.half {
		most = max(most, h&0x7fff)
	}
	if v == BF16 {
		if most > 0x7f7f {
			return "a number is not finite"
		}
		vec.FromBfloat(l.val, l.half)
		return ""
	}
	// The largest is from 2^14 to below 2^15, or less where the power is the smallest.
	if step > most2-least2 || most > 0x77ff || most < 0x7400 && step > 0 {
		return fmt.Sprintf("the largest number is %#x at scale %d", most, step)
	}
	vec.FromHalf(l.val, l.half)
	vec.Scale(float32(math.Ldexp(1, step+least2)), l.val)
	return ""
}
