package vec

import (
	"math"

	"github.com/covey-ml/covey/vec/internal/coef"
)

// The cores below work in
// float64 without FMA: products are converted explicitly, so that no compiler fuses them.

// Exp is e^x within 0.501 ulp. Exp(-Inf) is 0.
func Exp(x float32) float32 { return float32(exp64(float64(x))) }

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

// sigmoid1 is Sigmoid of one number.
func sigmoid1(x float32) float32 {
	return float32(1 / (1 + exp64(-float64(x))))
}

// tanh1 is Tanh of one number.
func tanh1(x float32) float32 {
	a := 2 * math.Abs(float64(x))
	if a > coef.TanhMax {
		a = coef.TanhMax
	}
	q, scale := expCore(a)
	m := float64(scale*q) + (scale - 1) // e^2|x| - 1
	return float32(math.Copysign(m/(m+2), float64(x)))
}

// gelu1 is GELU of one number.
func gelu1(x float32) float32 {
	v := float64(x)
	if v < -coef.TailMax {
		v = -coef.TailMax
	}
	phi, _ := normal(v)
	return float32(v * phi)
}

// geluGrad1 is dy times the derivative of GELU at x: Phi(x) + x phi(x).
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
