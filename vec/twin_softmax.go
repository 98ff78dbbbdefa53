package vec

import "math"

// The portable twins of softmax.

// softmaxRowTwin writes e[j] = exp(x[j] - m) with m the largest of x, and gives their sum and m. e may be x.
func softmaxRowTwin(e, x []float32) (s, m float64) {
	m = rowMax(x)
	expShiftTwin(e, x, m)
	return sum4(e), m
}

// softmaxSumTwin is softmaxRowTwin for who does not need the exponentials.
func softmaxSumTwin(x []float32) (s, m float64) {
	m = rowMax(x)
	var buf [256]float32
	var l [4]float64
	for len(x) > 0 {
		n := min(len(x), len(buf))
		expShiftTwin(buf[:n], x[:n], m)
		add4(&l, buf[:n])
		x = x[n:]
	}
	return (l[0] + l[2]) + (l[1] + l[3]), m
}

// rowMax is the largest of x; a NaN counts as larger than every number, and the largest of nothing is -Inf.
func rowMax(x []float32) float64 {
	m := float32(math.Inf(-1))
	for _, v := range x {
		if !(v <= m) {
			m = v
		}
		if m != m {
			break
		}
	}
	return float64(m)
}

func sum4(e []float32) float64 {
	var l [4]float64
	add4(&l, e)
	return (l[0] + l[2]) + (l[1] + l[3])
}

// add4 adds e[j] to lane j mod 4.
func add4(l *[4]float64, e []float32) {
	l0, l1, l2, l3 := l[0], l[1], l[2], l[3]
	for len(e) >= 4 {
		l0 += float64(e[0])
		l1 += float64(e[1])
		l2 += float64(e[2])
		l3 += float64(e[3])
		e = e[4:]
	}
	*l = [4]float64{l0, l1, l2, l3}
	for j, v := range e {
		l[j] += float64(v)
	}
}

// expShiftTwin is e[j] = exp(x[j] - m), the difference in float64.
func expShiftTwin(e, x []float32, m float64) {
	e = e[:len(x)]
	for j, v := range x {
		e[j] = float32(exp64(float64(v) - m))
	}
}

// scaleDoubleTwin is x[j] *= a in float64, rounded once.
func scaleDoubleTwin(x []float32, a float64) {
	for j, v := range x {
		x[j] = float32(float64(v) * a)
	}
}
