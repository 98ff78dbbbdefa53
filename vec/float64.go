package vec

import (
	"fmt"
	"math"
)

// The functions below are for solvers, whose objective is float64. They have the same bits on every processor: no
// product is fused with a sum, and package math, whose bits differ by processor, is not asked.

// exp2Eighths is 2^(j/8).
var exp2Eighths = [8]float64{1, 0x1.172b83c7d517bp+0, 0x1.306fe0a31b715p+0, 0x1.4bfdad5362a27p+0,
	0x1.6a09e667f3bcdp+0, 0x1.8ace5422aa0dbp+0, 0x1.ae89f995ad3adp+0, 0x1.d5818dcfba487p+0}

const (
	eighthsPerE = 11.541560327111707   // 8 / ln 2
	eighthHigh  = 0x1.62e42fee00000p-4 // ln 2 / 8, whose last 21 bits are zero, so that a multiple by 8600 is exact,
	eighthLow   = 0x1.a39ef35793c76p-36
	round64     = 6755399441055744.0 // 1.5 * 2^52: see coef.Round
	ln2High     = 0x1.62e42fee00000p-1
	ln2Low      = 0x1.a39ef35793c76p-33
)

// Exp64 is e^x within 1.1 ulp of a float64: 0 below -708, +Inf above 709.
//
// x is k ln(2)/8 + r with a whole k, so e^x = 2^(k/8) e^r, and e^r is its Taylor series to r^8, whose rest is below 2^-59.
func Exp64(x float64) float64 {
	switch {
	case x != x:
		return x
	case x < -708:
		return 0
	case x > 709:
		return math.Inf(1)
	}
	kd := float64(x*eighthsPerE) + round64
	k := int64(math.Float64bits(kd)<<12) >> 12
	kd -= round64
	r := (x - float64(kd*eighthHigh)) - float64(kd*eighthLow)
	r2 := r * r
	r4 := r2 * r2
	a := 0.5 + float64(r*(1./6))
	b := 1./24 + float64(r*(1./120))
	c := 1./720 + float64(r*(1./5040)) + float64(r2*(1./40320))
	p := a + float64(r2*b) + float64(r4*c)
	q := r + float64(r2*p)
	t := exp2Eighths[k&7]
	s := math.Float64frombits(uint64(k>>3+1023) << 52)
	return float64((t + float64(t*q)) * s)
}

// Log64 is the natural logarithm of a positive, finite, normal x within 2 ulp of a float64.
func Log64(x float64) float64 {
	const sqrtHalf = 0x3fe6a09e667f3bcd // its bits: x = m 2^k with m from sqrt(1/2) up to sqrt(2)
	b := math.Float64bits(x)
	k := int64(b-sqrtHalf) >> 52
	f := math.Float64frombits(b-uint64(k)<<52) - 1
	kd := float64(k)
	return float64(kd*ln2High) + (log1pSmall64(f) + float64(kd*ln2Low))
}

// log1pSmall64 is log(1+f) for 1+f between sqrt(1/2) and sqrt(2): 2 atanh(s) for s = f/(2+f), by its series to s^21,
// whose rest is below 2^-58.
func log1pSmall64(f float64) float64 {
	s := f / (2 + f)
	z := s * s
	z2 := z * z
	z4 := z2 * z2
	a := 1./3 + float64(z*(1./5))
	b := 1./7 + float64(z*(1./9))
	c := 1./11 + float64(z*(1./13))
	d := 1./15 + float64(z*(1./17))
	e := 1./19 + float64(z*(1./21))
	p := a + float64(z2*b) + float64(z4*(c+float64(z2*d)+float64(z4*e)))
	s2 := s + s
	return s2 + float64(s2*float64(z*p))
}

// SoftmaxLoss64 is the sum, in order, of -log softmax(z)[class] over samples of k classes, z[i*k+c] being the score of
// sample i for class c. It writes the sum's gradient by z to r and the probabilities to p, both laid out as z.
func SoftmaxLoss64(r, p, z []float64, class []int32, k int) float64 {
	sized("SoftmaxLoss64", "z", len(z), len(class)*k)
	same("SoftmaxLoss64", len(r), len(z))
	same("SoftmaxLoss64", len(p), len(z))
	var sum float64
	for i, right := range class {
		zi, pi, ri := z[i*k:(i+1)*k], p[i*k:(i+1)*k], r[i*k:(i+1)*k]
		if uint(right) >= uint(k) {
			panic(fmt.Sprintf("vec.SoftmaxLoss64: class %d of %d", right, k))
		}
		top := zi[0]
		for _, v := range zi[1:] {
			top = max(top, v)
		}
		var all float64
		for c, v := range zi {
			pi[c] = Exp64(v - top)
			all += pi[c]
		}
		// The probability of the right class less 1 is the sum of the others: nothing is lost as it nears 1.
		var rest float64
		for c := range pi {
			pi[c] /= all
			ri[c] = pi[c]
			if c != int(right) {
				rest += pi[c]
			}
		}
		ri[right] = -rest
		sum += (top - zi[right]) + Log64(all)
	}
	return sum
}

// SoftmaxLine64 is the sum over samples of SoftmaxLoss64's at scores z + t u, with its first and second derivative by t.
// room holds k numbers.
func SoftmaxLine64(z, u []float64, t float64, class []int32, k int, room []float64) (sum, slope, bend float64) {
	sized("SoftmaxLine64", "z", len(z), len(class)*k)
	same("SoftmaxLine64", len(u), len(z))
	sized("SoftmaxLine64", "room", len(room), k)
	for i, right := range class {
		zi, ui := z[i*k:(i+1)*k], u[i*k:(i+1)*k]
		top := zi[0] + float64(t*ui[0])
		for c, v := range zi {
			room[c] = v + float64(t*ui[c])
			top = max(top, room[c])
		}
		own := room[right]
		var all, mean, square float64
		for c, v := range room {
			e := Exp64(v - top)
			all += e
			mean += float64(e * ui[c])
			square += float64(e * float64(ui[c]*ui[c]))
		}
		mean /= all
		sum += (top - own) + Log64(all)
		slope += mean - ui[right]
		bend += max(square/all-float64(mean*mean), 0)
	}
	return sum, slope, bend
}
