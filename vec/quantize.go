package vec

import "math"

// Grid is evenly spaced levels: code c, from 0 to Top, stands for Lo + (c-Zero)*Step. Lo is the smallest value with Zero
// 0, or 0 with Zero in the middle, where 0 stays 0.
type Grid struct {
	Lo, Step  float32
	Zero, Top uint8
}

// Quantize writes the code of the level below or above each x, or of the first or last one. With r = (x-Lo) * (1/Step),
// each operation rounded, that is floor(r)+Zero, and one more where r-floor(r) > u[i], for u uniform in [0, 1): what it
// stands for is x on average. u may be nil: the code is then that of the nearest level, r rounded to even. A NaN gets
// code 0, and so does a vector of nothing but Lo on a grid whose Step is 0.
func Quantize(code []uint8, x, u []float32, g Grid) {
	same("Quantize", len(code), len(x))
	if u == nil {
		quantizeNear(code, x, g.Lo, 1/g.Step, float32(-int(g.Zero)), float32(int(g.Top)-int(g.Zero)), int(g.Zero))
		return
	}
	same("Quantize", len(x), len(u))
	quantize(code, x, u, g.Lo, 1/g.Step, float32(-int(g.Zero)), float32(int(g.Top)-int(g.Zero)), int(g.Zero))
}

// Dequantize is x[i] = FMA(code[i]-Zero, Step, Lo).
func Dequantize(x []float32, code []uint8, g Grid) {
	same("Dequantize", len(x), len(code))
	dequantize(x, code, g.Lo, g.Step, int(g.Zero))
}

// Lookup is x[i] = table[code[i]].
func Lookup(x []float32, code []uint8, table *[256]float32) {
	same("Lookup", len(x), len(code))
	for len(code) >= 8 && len(x) >= 8 {
		x[0] = table[code[0]]
		x[1] = table[code[1]]
		x[2] = table[code[2]]
		x[3] = table[code[3]]
		x[4] = table[code[4]]
		x[5] = table[code[5]]
		x[6] = table[code[6]]
		x[7] = table[code[7]]
		x, code = x[8:], code[8:]
	}
	for i, c := range code {
		x[i] = table[c]
	}
}

// MaxAbs is the largest |x[i]|, or 0 for an empty x. It is NaN when one of them is.
func MaxAbs(x []float32) float32 { return float(maxAbs(x)) }

// MinMax is the smallest and the largest of x, -0 being smaller than 0. Both are NaN when an element is, or when there
// are none.
func MinMax(x []float32) (lo, hi float32) {
	if len(x) == 0 {
		return float32(math.NaN()), float32(math.NaN())
	}
	l, h := minMax(x)
	if l < ordered(0xff800000) || h > ordered(0x7f800000) {
		return float32(math.NaN()), float32(math.NaN())
	}
	return float(uint32(ordered(uint32(l)))), float(uint32(ordered(uint32(h))))
}

// SumAbs is the sum of |x[i]| in float64, over blocks, lanes and trees as SumSquares.
func SumAbs(x []float32) float64 { return sumBlocks(x, magnitudes) }

func bits32(x float32) uint32 { return math.Float32bits(x) }

func float(b uint32) float32 { return math.Float32frombits(b) }

// ordered maps the bits of a float32 to an integer of the same order, and back.
func ordered(b uint32) int32 { return int32(b) ^ int32(uint32(int32(b)>>31)>>1) }

// level is (x-lo)*inv held to between first and last, and to first when it is NaN.
func level(x, lo, inv, first, last float32) float32 {
	r := float32(x-lo) * inv
	if !(r > first) {
		r = first
	}
	if r > last {
		r = last
	}
	return r
}

func quantizeTwin(code []uint8, x, u []float32, lo, inv, first, last float32, zero int) {
	for i, v := range x {
		r := level(v, lo, inv, first, last)
		f := float32(math.Floor(float64(r)))
		q := int(f) + zero
		if r-f > u[i] {
			q++
		}
		code[i] = uint8(q)
	}
}

func quantizeNearTwin(code []uint8, x []float32, lo, inv, first, last float32, zero int) {
	for i, v := range x {
		code[i] = uint8(int(math.RoundToEven(float64(level(v, lo, inv, first, last)))) + zero)
	}
}

func dequantizeTwin(x []float32, code []uint8, lo, step float32, zero int) {
	for i, c := range code {
		x[i] = FMA(float32(int(c)-zero), step, lo)
	}
}

func maxAbsTwin(x []float32) uint32 {
	var m uint32
	for _, v := range x {
		m = max(m, bits32(v)&0x7fffffff)
	}
	return m
}

func minMaxTwin(x []float32) (lo, hi int32) {
	lo, hi = math.MaxInt32, math.MinInt32
	for _, v := range x {
		o := ordered(bits32(v))
		lo, hi = min(lo, o), max(hi, o)
	}
	return lo, hi
}

func magnitudesTwin(x []float32) float64 {
	var l [16]float64
	for i, v := range x {
		l[i&15] += math.Abs(float64(v))
	}
	for w := 8; w > 0; w /= 2 {
		for i := range w {
			l[i] += l[i+w]
		}
	}
	return l[0]
}
