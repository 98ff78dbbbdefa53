package data

import (
	"math"
	"math/bits"
	"math/rand/v2"
)

// The draws below are made of sums, products, quotients and square roots, each rounded to float64 (Go may otherwise fuse
// a product with a sum on some processors), so they have the same bits everywhere; package math's Log and Exp do not.

// ln returns the natural logarithm of a positive, finite, normal x, within 1e-15 relative or absolute, whichever is larger.
func ln(x float64) float64 {
	frac, e := math.Frexp(x) // 0.5 <= frac < 1, exact
	if frac < math.Sqrt2/2 {
		frac, e = frac*2, e-1
	}
	// ln frac = 2 artanh s = 2 (s + s^3/3 + s^5/5 + ...) with |s| < 0.172.
	s := (frac - 1) / (frac + 1)
	q := float64(s * s)
	sum := 0.0
	for k := 21; k >= 1; k -= 2 {
		sum = float64(sum*q) + 1/float64(k)
	}
	const high, low = 6.93147180369123816490e-01, 1.90821492927058770002e-10 // their sum is ln 2; e*high is exact
	return float64(float64(e)*high) + (float64(float64(e)*low) + float64(2*s)*sum)
}

// exp returns e^x, within 1e-14 relative, for x of at most 700; 0 below -700.
func exp(x float64) float64 {
	if x < -700 {
		return 0
	}
	const high, low = 6.93147180369123816490e-01, 1.90821492927058770002e-10
	k := math.Floor(float64(x/math.Ln2) + 0.5)
	r := (x - float64(k*high)) - float64(k*low)
	sum := 1.0
	for n := 18; n >= 1; n-- {
		sum = 1 + float64(sum*r)/float64(n)
	}
	return math.Ldexp(sum, int(k))
}

// normal draws from the normal distribution by Marsaglia's polar method ("A convenient method for generating normal
// variables", 1964).
func normal(r *rand.Rand) float64 {
	for {
		u, v := float64(2*r.Float64())-1, float64(2*r.Float64())-1
		s := float64(u*u) + float64(v*v)
		if s > 0 && s < 1 {
			return float64(u * math.Sqrt(float64(-2*ln(s))/s))
		}
	}
}

// open draws from the numbers between 0 and 1, neither included.
func open(r *rand.Rand) float64 { return (float64(r.Uint64()>>12) + 0.5) / (1 << 52) }

// lnGamma draws the logarithm of a Gamma(shape, 1) variable: Marsaglia and Tsang, "A simple method for generating gamma
// variables" (ACM TOMS 2000), section 2, and, for a shape below 1, section 6's Gamma(shape+1) U^(1/shape). Logarithms,
// because at the small shapes of skewed partitions the variable itself underflows.
func lnGamma(r *rand.Rand, shape float64) float64 {
	boost := 0.0
	if shape < 1 {
		boost = ln(open(r)) / shape
		shape++
	}
	d := shape - 1.0/3
	c := 1 / math.Sqrt(float64(9*d))
	for {
		x := normal(r)
		v := 1 + float64(c*x)
		if v <= 0 {
			continue
		}
		v = float64(float64(v*v) * v)
		half := float64(0.5*x) * x
		if ln(open(r)) < float64(half)+float64(d*((1-v)+ln(v))) {
			return boost + ln(d) + ln(v)
		}
	}
}

// dirichletDraw draws proportions, scaled so that the largest is 1. A shape of 0 has proportion 0.
func dirichletDraw(r *rand.Rand, shapes []float64) []float64 {
	q := make([]float64, len(shapes))
	top := math.Inf(-1)
	for i, a := range shapes {
		q[i] = math.Inf(-1)
		if a > 0 {
			q[i] = lnGamma(r, a)
			top = max(top, q[i])
		}
	}
	for i := range q {
		q[i] = exp(q[i] - top)
	}
	return q
}

// pick draws a class in proportion to q among those that have samples left. When all of these have proportion 0, it
// draws among them by what they have left.
func pick(r *rand.Rand, q []float64, lists [][]int) int {
	sum, left := 0.0, 0
	for c, l := range lists {
		if len(l) > 0 {
			sum += q[c]
			left += len(l)
		}
	}
	if sum > 0 {
		u := float64(r.Float64() * sum)
		last := -1
		for c, l := range lists {
			if len(l) > 0 && q[c] > 0 {
				if last = c; u < q[c] {
					return c
				}
				u -= q[c]
			}
		}
		return last
	}
	hi, _ := bits.Mul64(r.Uint64(), uint64(left))
	u := int(hi)
	for c, l := range lists {
		if u < len(l) {
			return c
		}
		u -= len(l)
	}
	panic("data: pick: no class has samples left")
}
