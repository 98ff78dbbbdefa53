package vec

import "math"

// FMA is x*y + z rounded once to float32.
//
// The product of two float32 is exact in float64. The float64 sum is rounded once more by the conversion; that
// second rounding can go wrong only when the sum lies halfway between two float32, or where float32 is
// subnormal, and there the sum is first rounded to odd (Boldo and Melquiond, IEEE Transactions on Computers 57,
// 2008, section 3).
func FMA(x, y, z float32) float32 {
	// Whether the compiler fuses this makes no difference, because the product is exact.
	s := float64(x)*float64(y) + float64(z)
	if risky(s) {
		return float32(fmaOdd(float64(x)*float64(y), float64(z)))
	}
	return float32(s)
}

// risky reports whether the float64 sum s may need fmaOdd: its lowest 29 bits, which a normal float32 lacks, are
// exactly half, or it is subnormal as a float32 and not zero (the subtraction of 1 wraps zero around).
func risky(s float64) bool {
	b := math.Float64bits(s)
	return b&(1<<29-1) == 1<<28 || b<<1-1 < (1023-126)<<53-1
}

// fmaOdd is p+z rounded to float32, for a p and z whose sum may need more than float64.
//
//go:noinline
func fmaOdd(p, z float64) float64 {
	s := p + z
	b := math.Float64bits(s)
	if b&1 != 0 || b&(0x7ff<<52) == 0x7ff<<52 {
		return float64(float32(s)) // odd already, infinite or NaN
	}
	// The error of the sum, exactly (Knuth's TwoSum).
	pp := s - z
	zz := s - pp
	e := (p - pp) + (z - zz)
	if e != 0 {
		if (e > 0) == (s > 0) {
			b++
		} else {
			b--
		}
	}
	return float64(float32(math.Float64frombits(b)))
}
