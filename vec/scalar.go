package vec

import (
	"math"
	"math/bits"

	"github.com/covey-ml/covey/vec/internal/coef"
)

// The scalar functions and the slice functions of the same name give the same bits. The cores below work in
// float64 without FMA: products are converted explicitly, so that no compiler fuses them.

// Exp is e^x within 0.501 ulp. Exp(-Inf) is 0.
func Exp(x float32) float32 { return float32(exp64(float64(x))) }

// Expm1 is e^x - 1 within 0.501 ulp, also near 0.
func Expm1(x float32) float32 {
	if x == 0 {
		return x
	}
	q, scale := expCore(float64(x))
	return float32(float64(scale*q) + (scale - 1))
}

// Log is the natural logarithm of x within 0.501 ulp. Log(0) is -Inf; of a negative number it is NaN.
func Log(x float32) float32 {
	switch {
	case x == 0:
		return float32(math.Inf(-1))
	case !(x > 0):
		return float32(math.NaN())
	case x > math.MaxFloat32:
		return x
	}
	return float32(log64(float64(x)))
}

// Log1p is the natural logarithm of 1+x within 0.501 ulp, also near 0. Log1p(-1) is -Inf; below, it is NaN.
func Log1p(x float32) float32 {
	switch {
	case x == 0 || x > math.MaxFloat32:
		return x
	case x == -1:
		return float32(math.Inf(-1))
	case !(x > -1):
		return float32(math.NaN())
	}
	return float32(log1p64(float64(x)))
}

// Softplus is log(1 + e^x) within 0.501 ulp: the logistic loss of margin -x.
func Softplus(x float32) float32 {
	if x != x || x > math.MaxFloat32 {
		return x
	}
	v := float64(x)
	s := log1p64(exp64(-math.Abs(v)))
	if v > 0 {
		s += v
	}
	return float32(s)
}

// Sigmoid1 is 1/(1 + e^-x) within 0.501 ulp. Sigmoid is the same over slices.
func Sigmoid1(x float32) float32 {
	return float32(1 / (1 + exp64(-float64(x))))
}

// Tanh1 is the hyperbolic tangent of x within 0.501 ulp, odd in x bit by bit. Tanh is the same over slices.
func Tanh1(x float32) float32 {
	a := 2 * math.Abs(float64(x))
	if a > coef.TanhMax {
		a = coef.TanhMax
	}
	q, scale := expCore(a)
	m := float64(scale*q) + (scale - 1) // e^2|x| - 1
	return float32(math.Copysign(m/(m+2), float64(x)))
}

// Erf is the error function of x within 0.51 ulp, odd in x bit by bit.
func Erf(x float32) float32 {
	z := math.Abs(float64(x))
	y := z // NaN for NaN
	switch {
	case z <= 1:
		y = z * horner(coef.Erf[:], z*z)
	case z < 6:
		t, e := tail(z*math.Sqrt2, -(z * z))
		y = 1 - 2*float64(e*t)
	case z >= 6:
		y = 1
	}
	return float32(math.Copysign(y, float64(x)))
}

// GELU1 is x Phi(x), Phi being the standard normal distribution (Hendrycks and Gimpel, arXiv:1606.08415, section
// 2; the exact form, not the tanh approximation), within 0.51 ulp. GELU1(-Inf) is -0. GELU is the same over
// slices.
func GELU1(x float32) float32 {
	v := float64(x)
	if v < -coef.TailMax {
		v = -coef.TailMax
	}
	phi, _ := normal(v)
	return float32(v * phi)
}

// geluGrad1 is dy times the derivative of GELU1 at x: Phi(x) + x phi(x).
func geluGrad1(dy, x float32) float32 {
	v := float64(x)
	if v < -coef.TailMax {
		v = -coef.TailMax
	}
	if v > coef.TailMax {
		v = coef.TailMax
	}
	phi, e := normal(v)
	d := float64(v*float64(e*coef.InvSqrt2Pi)) + phi
	return float32(float64(dy) * d)
}

// Sin is the sine of x radians within 0.501 ulp.
func Sin(x float32) float32 {
	q, r := quadrant(x)
	return sinCos(q, r)
}

// Cos is the cosine of x radians within 0.501 ulp.
func Cos(x float32) float32 {
	q, r := quadrant(x)
	return sinCos(q+1, r)
}

// expCore gives q and scale, a power of two, with e^x = scale + scale*q, for x clamped to where a float32 result
// is neither 0 nor infinite.
func expCore(x float64) (q, scale float64) {
	if x < -coef.ExpMax {
		x = -coef.ExpMax
	}
	if x > coef.ExpMax {
		x = coef.ExpMax
	}
	kd := float64(x*coef.InvLn2) + coef.Round
	r := x - float64((kd-coef.Round)*coef.Ln2)
	// The coefficients are unrolled by hand: Exp is the heart of every softmax.
	c := &coef.Expm1
	p := c[7]
	p = float64(p*r) + c[6]
	p = float64(p*r) + c[5]
	p = float64(p*r) + c[4]
	p = float64(p*r) + c[3]
	p = float64(p*r) + c[2]
	p = float64(p*r) + c[1]
	p = float64(p*r) + c[0]
	return r * p, math.Float64frombits((math.Float64bits(kd) + 1023) << 52)
}

func exp64(x float64) float64 {
	q, scale := expCore(x)
	return float64(scale*q) + scale
}

// log64 is the logarithm of a positive, finite, normal x within 2^-44 relative.
func log64(x float64) float64 {
	const sqrtHalf = 0x3fe6a09e667f3bcd // its bits: x = m 2^k with m from sqrt(1/2) up to sqrt(2)
	b := math.Float64bits(x)
	k := int64(b-sqrtHalf) >> 52
	m := math.Float64frombits(b - uint64(k)<<52)
	return float64(float64(k)*coef.Ln2) + log1pSmall(m-1)
}

// log1pSmall is log(1+f) for 1+f between sqrt(1/2) and sqrt(2).
func log1pSmall(f float64) float64 {
	s := f / (2 + f)
	return 2 * float64(s*horner(coef.Atanh[:], s*s))
}

// log1p64 is log(1+x) for finite x > -1.
func log1p64(x float64) float64 {
	if x > -0.29 && x < 0.41 {
		return log1pSmall(x)
	}
	return log64(1 + x)
}

// horner evaluates a polynomial with ascending coefficients.
func horner(c []float64, x float64) float64 {
	p := c[len(c)-1]
	for i := len(c) - 2; i >= 0; i-- {
		p = float64(p*x) + c[i]
	}
	return p
}

// tail gives w and e = exp(ex) with Phi(-a) = e*w when ex = -a^2/2, for a from 0 to coef.TailMax.
func tail(a, ex float64) (w, e float64) {
	t := 1 / (1 + float64(coef.TailScale*a))
	return t * horner(coef.Tail[:], t), exp64(ex)
}

// normal gives Phi(v) and exp(-v^2/2).
func normal(v float64) (phi, e float64) {
	a := math.Abs(v)
	if a > coef.TailMax {
		a = coef.TailMax
	}
	t, e := tail(a, -0.5*float64(a*a))
	w := e * t
	if math.Signbit(v) {
		return w, e
	}
	return 1 - w, e
}

// twoOverPi is 2/pi to 256 bits.
var twoOverPi = [4]uint64{0xa2f9836e4e441529, 0xfc2757d1f534ddc0, 0xdb6295993c439041, 0xfe5163abdebbc561}

// quadrant gives r within pi/4 of 0 and q modulo 4 with x = q*pi/2 + r (modulo 2 pi).
func quadrant(x float32) (q int, r float64) {
	// pi/2 in three parts: n times either of the first two is exact for n below 2^25.
	const hi, mid, lo = 0x1.921fb54000000p+0, 0x1.10b4610000000p-30, 0x1.a62633145c06ep-58
	v := float64(x)
	switch a := math.Abs(v); {
	case a <= math.Pi/4:
		return 0, v
	case a < 1<<25:
		n := math.RoundToEven(v * (2 / math.Pi))
		r = v - float64(n*hi)
		r -= float64(n * mid)
		r -= float64(n * lo)
		return int(int64(n) & 3), r
	case a > math.MaxFloat32 || v != v:
		return 0, math.NaN()
	}
	// Payne and Hanek, SIGNUM Newsletter 18, 1983: |x| = m 2^e; of 2/pi, drop the leading e-2 bits, which
	// give multiples of 4, and multiply by the next 128.
	b := math.Float32bits(x)
	m, e := uint64(b&(1<<23-1)|1<<23), int(b>>23&0xff)-150
	skip := uint(e - 2)
	w, s := skip/64, skip%64
	whi := twoOverPi[w]<<s | twoOverPi[w+1]>>(64-s)
	wlo := twoOverPi[w+1]<<s | twoOverPi[w+2]>>(64-s)
	phi, plo := bits.Mul64(m, wlo)
	phi += m * whi
	q = int(phi >> 62)
	f := int64(phi<<2 | plo>>62) // the fraction times 2^64, from -1/2 to 1/2
	if f < 0 {
		q++
	}
	r = float64(f) * (math.Pi / 2 * 0x1p-64)
	if v < 0 {
		return -q & 3, -r
	}
	return q & 3, r
}

// sinCos is the sine of q*pi/2 + r.
func sinCos(q int, r float64) float32 {
	z := r * r
	y := r
	if q&1 == 0 {
		y = r * horner(coef.Sin[:], z)
	} else {
		y = horner(coef.Cos[:], z)
	}
	if q&2 != 0 {
		y = -y
	}
	return float32(y)
}
