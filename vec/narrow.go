package vec

import (
	"fmt"
	"math"
)

// Quantize16 writes the level below or above each x, or -top or top, whichever is nearer to what lies beyond: with
// r = x * (1/step), each operation rounded and r held to -top and top, that is floor(r), and one more where
// r-floor(r) > u[i], for u uniform in [0, 1). u may be nil: the level is then r rounded to even. A NaN gets -top. top is
// at most 32767.
func Quantize16(level []int16, x, u []float32, step float32, top int) {
	same("Quantize16", len(level), len(x))
	if u == nil {
		quantize16Near(level, x, 1/step, float32(top))
		return
	}
	same("Quantize16", len(x), len(u))
	quantize16(level, x, u, 1/step, float32(top))
}

// Dequantize16 is x[i] = level[i] * step.
func Dequantize16(x []float32, level []int16, step float32) {
	same("Dequantize16", len(x), len(level))
	dequantize16(x, level, step)
}

// FloorSteps writes how many steps fit into each |x|, with x's sign: the most, at most 32767, of which the rounded product with
// step is at most |x|. step is positive; a NaN gets 32767 steps with its sign.
func FloorSteps(level []int16, x []float32, step float32) {
	same("FloorSteps", len(level), len(x))
	floorSteps(level, x, step)
}

// RoundPowers rounds each |x| to a power of two and writes that one's biased exponent in float32, 1 to 254, or 0 for 0. u
// is uniform in [0, 1): what lies between two powers becomes the larger one with the probability that makes it x on
// average, to the bit for u's upper 23 bits. Below 2^-126 the powers are that one and 0. What is 2^127 or more, or a NaN,
// becomes 2^127.
func RoundPowers(code []uint8, x, u []float32) {
	same("RoundPowers", len(code), len(x))
	same("RoundPowers", len(x), len(u))
	roundPowers(code, x, u)
}

// FromPowers is x[i] = the power of two, or the 0, that code[i] is the biased exponent of, negative where the bit of signs is
// set, as PackSigns writes it. 255 would be an infinity.
func FromPowers(x []float32, code []uint8, signs []byte) {
	same("FromPowers", len(x), len(code))
	sized("FromPowers", "signs", len(signs), PackedLen(len(x), 1))
	fromPowers(x, code, signs)
}

// SplitSums is the sum of the elements whose sign bit is clear and the sum of those whose sign bit is set, in float64, over
// blocks, lanes and trees as SumSquares.
func SplitSums(x []float32) (above, below float64) {
	if 0 < len(x) && len(x) <= SquareBlock {
		return signSums(x) // a tree is larger than many a block
	}
	var a, b treeSum
	for len(x) > 0 {
		n := min(len(x), SquareBlock)
		p, q := signSums(x[:n])
		a.add(p)
		b.add(q)
		x = x[n:]
	}
	return a.sum(), b.sum()
}

// UnpackPair is x[i] = off, or on where the bit is set.
func UnpackPair(x []float32, src []byte, off, on float32) {
	sized("UnpackPair", "src", len(src), PackedLen(len(x), 1))
	unpackPair(x, src, off, on)
}

// ShiftDown is dst[i] = code[i] >> by, for by below 8.
func ShiftDown(dst, code []uint8, by int) {
	same("ShiftDown", len(dst), len(code))
	shiftDown(dst, code, uint32(by))
}

// MixUp is code[i] |= part[i] << by, for by below 8.
func MixUp(code, part []uint8, by int) {
	same("MixUp", len(code), len(part))
	mixUp(code, part, uint32(by))
}

// MaxCode is the largest code, or 0 when there are none.
func MaxCode(code []uint8) uint8 { return uint8(maxCode(code)) }

// Mini is a format of floating point numbers of 1+Exponent+Mantissa bits, at most 8: a sign, an exponent, a fraction.
// There are no infinities and no NaN: the exponent e stands for 2^(e+5-2^Exponent) times 1 and the fraction, for e from 1
// on, and for 0 for the same power as 1 does, times the fraction alone. So exponents are such that the largest number, Max,
// lies between 16 and 32, whatever the format.
type Mini struct{ Exponent, Mantissa int }

// Max is the format's largest number.
func (f Mini) Max() float32 { return 32 - ldexp(4-f.Mantissa) }

// Min is the smallest number that has all bits of its fraction; Step is the distance between those below it.
func (f Mini) Min() float32 { return ldexp(6 - 1<<f.Exponent) }

// Step is the format's smallest positive number.
func (f Mini) Step() float32 { return ldexp(6 - 1<<f.Exponent - f.Mantissa) }

func (f Mini) check(op string) {
	if f.Exponent < 1 || f.Exponent > 6 || f.Mantissa < 0 || f.Exponent+f.Mantissa > 7 {
		panic(fmt.Sprintf("vec.%s: a format of %d bits of exponent and %d of mantissa", op, f.Exponent, f.Mantissa))
	}
}

// ldexp is 2^e, a normal float32.
func ldexp(e int) float32 { return float(uint32(127+e) << 23) }

// ToMini rounds x*inv, held to -Max and Max, to the format f: to nearest, ties to even, when u is nil, and otherwise to the
// number below or above, for u uniform in [0, 1) so that it is x*inv on average. A code's lowest bits are the fraction, then
// come the exponent and the sign. A NaN becomes Max.
func ToMini(code []uint8, x, u []float32, inv float32, f Mini) {
	same("ToMini", len(code), len(x))
	f.check("ToMini")
	m := miniConst{inv: inv, top: f.Max(), small: f.Min(), units: 1 / f.Step(), magic: f.Step() * (1 << 23),
		shift: 23 - f.Mantissa, sign: f.Exponent + f.Mantissa, bias: uint32(132-1<<f.Exponent) << f.Mantissa}
	if u == nil {
		toMiniNear(code, x, &m)
		return
	}
	same("ToMini", len(x), len(u))
	toMini(code, x, u, &m)
}

// Table is what each code stands for, times scale. Codes of more bits than the format has stand for what they do without.
func (f Mini) Table(table *[256]float32, scale float32) {
	f.check("Table")
	bits := f.Exponent + f.Mantissa
	for c := range table {
		e, m := c>>f.Mantissa&(1<<f.Exponent-1), c&(1<<f.Mantissa-1)
		v := float32(m) * f.Step()
		if e > 0 {
			v = float32(1<<f.Mantissa+m) * ldexp(e+5-1<<f.Exponent-f.Mantissa)
		}
		if c>>bits&1 != 0 {
			v = -v
		}
		table[c] = v * scale
	}
}

// miniConst are the constants of ToMini: bias is what the bits of float32, shifted, have more than a code.
type miniConst struct {
	inv, top, small, units, magic float32
	shift, sign                   int
	bias                          uint32
}

// size is |x|*inv held to Max.
func (m *miniConst) size(x float32) float32 {
	y := float32(math.Abs(float64(x))) * m.inv
	if !(y < m.top) {
		y = m.top
	}
	return y
}

func toMiniNearTwin(code []uint8, x []float32, m *miniConst) {
	half := uint32(1)<<(m.shift-1) - 1
	for i, v := range x {
		y := m.size(v)
		b := bits32(y)
		c := (b+half+b>>m.shift&1)>>m.shift - m.bias
		if y < m.small {
			c = bits32(y+m.magic) - bits32(m.magic)
		}
		code[i] = uint8(c | bits32(v)>>31<<m.sign)
	}
}

func toMiniTwin(code []uint8, x, u []float32, m *miniConst) {
	for i, v := range x {
		y := m.size(v)
		b := bits32(y)
		c := (b+uint32(int32(u[i]*0x1p24))>>(24-m.shift))>>m.shift - m.bias
		if y < m.small {
			r := y * m.units
			f := float32(math.Floor(float64(r)))
			c = uint32(f)
			if r-f > u[i] {
				c++
			}
		}
		code[i] = uint8(c | bits32(v)>>31<<m.sign)
	}
}

// level16 is x*inv held to between -top and top, and to -top when it is NaN.
func level16(x, inv, top float32) float32 {
	r := x * inv
	if !(r > -top) {
		r = -top
	}
	if r > top {
		r = top
	}
	return r
}

func quantize16Twin(level []int16, x, u []float32, inv, top float32) {
	for i, v := range x {
		r := level16(v, inv, top)
		f := float32(math.Floor(float64(r)))
		q := int(f)
		if r-f > u[i] {
			q++
		}
		level[i] = int16(q)
	}
}

func quantize16NearTwin(level []int16, x []float32, inv, top float32) {
	for i, v := range x {
		level[i] = int16(math.RoundToEven(float64(level16(v, inv, top))))
	}
}

func dequantize16Twin(x []float32, level []int16, step float32) {
	for i, l := range level {
		x[i] = float32(l) * step
	}
}

func floorStepsTwin(level []int16, x []float32, step float32) {
	for i, v := range x {
		a := float32(math.Abs(float64(v)))
		q := a / step
		if !(q < 32767) {
			q = 32767
		}
		l := int32(q)
		if l < 32767 && float32(l+1)*step <= a {
			l++
		} else if float32(l)*step > a {
			l--
		}
		if math.Signbit(float64(v)) {
			l = -l
		}
		level[i] = int16(l)
	}
}

func shiftDownTwin(dst, code []uint8, by uint32) {
	for i, c := range code {
		dst[i] = c >> by
	}
}

func mixUpTwin(code, part []uint8, by uint32) {
	for i, c := range part {
		code[i] |= c << by
	}
}

func roundPowersTwin(code []uint8, x, u []float32) {
	for i, v := range x {
		b := bits32(v)&0x7fffffff + uint32(int32(u[i]*0x1p24))>>1
		code[i] = uint8(min(b>>23, 254))
	}
}

func fromPowersTwin(x []float32, code []uint8, signs []byte) {
	for i, c := range code {
		x[i] = float(uint32(c)<<23 | uint32(signs[i/8]>>(i%8))<<31)
	}
}

func signSumsTwin(x []float32) (above, below float64) {
	var a, b [16]float64
	for i, v := range x {
		if math.Signbit(float64(v)) {
			b[i&15] += float64(v)
		} else {
			a[i&15] += float64(v)
		}
	}
	for w := 8; w > 0; w /= 2 {
		for i := range w {
			a[i] += a[i+w]
			b[i] += b[i+w]
		}
	}
	return a[0], b[0]
}

func unpackPairTwin(x []float32, src []byte, off, on float32) {
	for i := range x {
		x[i] = off
		if src[i/8]>>(i%8)&1 != 0 {
			x[i] = on
		}
	}
}

func maxCodeTwin(code []uint8) uint32 {
	var m uint8
	for _, c := range code {
		m = max(m, c)
	}
	return uint32(m)
}
