package vec

import (
	"math"
	"testing"
)

// The references are package math's float64 functions: their own errors, below 2^-50 relative, are invisible at
// float32. Where a formula in them would lose more, the comment says why it does not.
var scalars = []struct {
	name  string
	f     func(float32) float32
	want  func(float64) float64
	bound float64 // in ulp
}{
	{"Exp", Exp, math.Exp, 0.501},
	{"Log", Log, math.Log, 0.501},
	{"Softplus", Softplus, func(x float64) float64 { return math.Max(x, 0) + math.Log1p(math.Exp(-math.Abs(x))) }, 0.501},
	{"sigmoid1", sigmoid1, func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }, 0.501},
	{"tanh1", tanh1, math.Tanh, 0.501},
	// The error of -x/sqrt(2), 2^-53, grows by x^2 < 2^8 in Erfc where the result is not yet 0.
	{"gelu1", gelu1, func(x float64) float64 {
		if x < -20 {
			return math.Copysign(0, -1)
		}
		return x * 0.5 * math.Erfc(-x/math.Sqrt2)
	}, 0.51},
}

// ulps is how far got is from want, in units of float32's last place at want.
func ulps(got float32, want float64) float64 {
	w := float32(want)
	switch {
	case got != got || want != want:
		if got != got && want != want {
			return 0
		}
		return math.Inf(1)
	case math.IsInf(float64(got), 0) || math.IsInf(float64(w), 0):
		if got == w {
			return 0
		}
		return math.Inf(1)
	}
	_, e := math.Frexp(want) // want = m 2^e with m from 1/2 to 1
	return math.Abs(float64(got)-want) / math.Ldexp(1, max(e-24, -149))
}

// scalarStep is how many float32 lie from one tested to the next: a prime, so that all exponents and endings come up.
// Lower it for a closer look; 61 takes half a minute and finds nothing larger than 0.5014 ulp.
const scalarStep = 6007

func TestScalarErrors(t *testing.T) {
	for _, s := range scalars {
		t.Run(s.name, func(t *testing.T) {
			worst, at := 0.0, float32(0)
			for b := uint64(0); b < 1<<32; b += scalarStep {
				x := math.Float32frombits(uint32(b))
				if u := ulps(s.f(x), s.want(float64(x))); u > worst {
					worst, at = u, x
				}
			}
			for _, x := range corners {
				if u := ulps(s.f(x), s.want(float64(x))); u > worst {
					worst, at = u, x
				}
			}
			t.Logf("largest error %.4f ulp at %g", worst, at)
			if worst > s.bound {
				t.Errorf("error of %g ulp at %g, the comment says %g", worst, at, s.bound)
			}
		})
	}
}

func TestScalarSigns(t *testing.T) {
	neg := float32(math.Copysign(0, -1))
	for _, f := range []struct {
		name string
		f    func(float32) float32
	}{{"tanh1", tanh1}, {"gelu1", gelu1}} {
		if y := f.f(neg); y != 0 || !math.Signbit(float64(y)) {
			t.Errorf("%s(-0) = %g, want -0", f.name, y)
		}
	}
	for b := uint32(0); b < 0x7f800000; b += 10007 {
		x := math.Float32frombits(b)
		if tanh1(-x) != -tanh1(x) {
			t.Fatalf("tanh is not odd at %g", x)
		}
	}
}
