package vec

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/covey-ml/covey/rng"
)

// bigFMA is x*y+z rounded once, by exact arithmetic.
func bigFMA(x, y, z float32) float32 {
	f := func(v float32) *big.Float { return new(big.Float).SetPrec(2000).SetFloat64(float64(v)) }
	s := f(x)
	s.Mul(s, f(y))
	s.Add(s, f(z))
	if s.Sign() == 0 { // big.Float has the sign of an exact zero sum, but not that of a rounded one
		return float32(float64(x)*float64(y) + float64(z))
	}
	r, _ := s.Float32()
	return r
}

func finite32(r *rand.Rand) float32 {
	return math.Float32frombits(uint32(r.IntN(2))<<31 | uint32(r.IntN(255))<<23 | uint32(r.IntN(1<<23)))
}

func TestFMARoundsOnce(t *testing.T) {
	const seed = 3
	r := rng.New(seed, "fma")
	normal, subnormal := 0, 0 // cases in which rounding twice is wrong
	check := func(x, y, z float32) {
		t.Helper()
		got, want := FMA(x, y, z), bigFMA(x, y, z)
		if math.Float32bits(got) != math.Float32bits(want) {
			t.Fatalf("seed %d: FMA(%x, %x, %x) = %x, want %x", seed, x, y, z, got, want)
		}
		if p := float64(x) * float64(y); math.Float32bits(float32(p+float64(z))) != math.Float32bits(want) {
			if math.Abs(float64(want)) < 0x1p-126 {
				subnormal++
			} else {
				normal++
			}
		}
	}
	scale := func(x float32, e int) float32 { return float32(math.Ldexp(float64(x), e)) }
	for range 50_000 {
		x, y, z := finite32(r), finite32(r), finite32(r)
		check(x, y, z)
		// z near half a unit of the product, and the product near half a unit of z.
		x, y = 1+r.Float32(), 1+r.Float32()
		check(x, y, scale(float32(1+r.IntN(3)), -24-r.IntN(30)))
		check(scale(1, -24), 1+float32(r.IntN(3)-1)*0x1p-23, scale(x, r.IntN(3)))
		check(scale(x, -24-r.IntN(40)), y, 1+float32(r.IntN(4))*0x1p-23)
		// Subnormal results, and sums that cancel.
		check(scale(x, -60-r.IntN(40)), scale(y, -60-r.IntN(40)), scale(1+r.Float32(), -126-r.IntN(20)))
		check(x, y, -float32(x*y))
		// The product is half a unit of z times 1+d, |d| below 2^-24 and often too small for float64's sum.
		inverse := float32(1 / float64(x))
		check(scale(x, -24), inverse, 1+float32(r.IntN(8))*0x1p-23)
		check(scale(x, -100), scale(inverse, -50), -scale(float32(1<<22+r.IntN(1<<22)), -149))
		// Exact halves with a tail too small for float64.
		check(scale(x, -140), scale(y, -r.IntN(20)), scale(float32(r.IntN(1<<20)), -149))
		check(scale(1, -75), scale(1, -75)*(1+float32(r.IntN(2))*0x1p-23), scale(float32(r.IntN(1<<10)), -149))
		check(scale(1+0x1p-23, 100), scale(x, 27), scale(y, 100+r.IntN(4)))
	}
	if normal < 100 || subnormal < 100 {
		t.Errorf("rounding twice is wrong in %d normal and %d subnormal cases, want at least 100 each", normal, subnormal)
	}
}

func TestFMASpecial(t *testing.T) {
	for _, x := range corners {
		for _, y := range corners {
			for _, z := range corners {
				got := FMA(x, y, z)
				p := float64(x) * float64(y)
				want := float32(p + float64(z)) // right for NaN and infinities; else exact arithmetic decides
				if s := p + float64(z); !math.IsNaN(s) && !math.IsInf(s, 0) {
					want = bigFMA(x, y, z)
				}
				if err := sameBits([]float32{got}, []float32{want}); err != nil {
					t.Errorf("FMA(%g, %g, %g): %v", x, y, z, err)
				}
			}
		}
	}
}

func FuzzFMA(f *testing.F) {
	f.Add(uint32(0x33800000), uint32(0x3f800001), uint32(0x3f800000))
	f.Fuzz(func(t *testing.T, a, b, c uint32) {
		x, y, z := math.Float32frombits(a), math.Float32frombits(b), math.Float32frombits(c)
		s := float64(x)*float64(y) + float64(z)
		if math.IsNaN(s) || math.IsInf(s, 0) {
			return
		}
		if got, want := FMA(x, y, z), bigFMA(x, y, z); math.Float32bits(got) != math.Float32bits(want) {
			t.Fatalf("FMA(%x, %x, %x) = %x, want %x", x, y, z, got, want)
		}
	})
}
