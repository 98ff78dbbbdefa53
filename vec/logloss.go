package vec

import (
	"math"

	"github.com/covey-ml/covey/vec/internal/coef"
)

// LogLoss is the sum of the logistic losses log(1 + exp(-s z[i])), s being 1 for class 1 and -1 for class 0, in float64,
// for who solves a convex problem exactly. It writes the derivatives with respect to z to r, -s/(1 + exp(s z[i])), and,
// unless d is nil, the second derivatives p(1-p) to d. r may be z. Classes other than 1 count as 0.
//
// Each loss and derivative is good to 2^-50 + |z[i]| 2^-52 relative, and of margins beyond 700 as if they were 700. Sample i's loss is added to lane i mod 4, in order of i; the sum is
// (0+2)+(1+3).
func LogLoss(r, d, z []float64, class []int32) float64 {
	same("LogLoss", len(r), len(z))
	same("LogLoss", len(class), len(z))
	if d != nil {
		same("LogLoss", len(d), len(z))
	}
	var l [4]float64
	logLoss(&l, r, d, z, class)
	return (l[0] + l[2]) + (l[1] + l[3])
}

// logLossTwin adds to the lanes.
func logLossTwin(l *[4]float64, r, d, z []float64, class []int32) {
	for i, v := range z {
		s := 1.0
		if class[i] != 1 {
			s = -1
		}
		m := v * s
		e := expLong(-math.Abs(m)) // at most 1
		q := 1 / (1 + e)
		p := float64(e * q) // the sigmoid of -|m|
		up := 0.0
		wrong := p // the sigmoid of -m
		if math.Signbit(m) {
			up = math.Abs(m)
			wrong = q
		}
		l[i&3] += log1pUnit(e) + up
		r[i] = -(wrong * s)
		if d != nil {
			d[i] = p * q
		}
	}
}

// expLong is e^x for x up to 0, and for x below -coef.ExpMax that of -coef.ExpMax.
func expLong(x float64) float64 {
	if x < -coef.ExpMax {
		x = -coef.ExpMax
	}
	kd := float64(x*coef.InvLn2) + coef.Round
	r := x - float64((kd-coef.Round)*coef.Ln2)
	q := r * horner(coef.Expm1Long[:], r)
	scale := math.Float64frombits((math.Float64bits(kd) + 1023) << 52)
	return float64(q*scale) + scale
}

// log1pUnit is log(1+e) for e from 0 to 1.
func log1pUnit(e float64) float64 {
	f, k := e, 0.0
	if e >= coef.Sqrt2Less1 { // 1+e = 2 (1+f)
		f, k = 0.5*e-0.5, coef.Ln2 // 0.5*e is exact: fused or not
	}
	s := f / (2 + f)
	return float64(float64(s+s)*horner(coef.AtanhLong[:], float64(s*s))) + k
}
