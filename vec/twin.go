package vec

import (
	"math"
)

// The portable twins. Their names end in Twin; the kernels' end in AVX2. Both trust the exported functions to have
// checked lengths. Products that are added are converted, so that no compiler fuses them.

func addTwin(dst, x []float32) {
	x = x[:len(dst)]
	for i := range dst {
		dst[i] += x[i]
	}
}

func addToTwin(dst, a, b []float32) {
	a, b = a[:len(dst)], b[:len(dst)]
	for i := range dst {
		dst[i] = a[i] + b[i]
	}
}

func addBothTwin(dst, also, a, b []float32) {
	also, a, b = also[:len(dst)], a[:len(dst)], b[:len(dst)]
	for i := range dst {
		s := a[i] + b[i]
		dst[i], also[i] = s, s
	}
}

func addFourTwin(a, b, c, d []float32) {
	b, c, d = b[:len(a)], c[:len(a)], d[:len(a)]
	for i := range a {
		s := (a[i] + b[i]) + (c[i] + d[i])
		a[i], b[i], c[i], d[i] = s, s, s, s
	}
}

func scaleTwin(a float32, x []float32) {
	for i := range x {
		x[i] *= a
	}
}

func axpyTwin(a float32, x, y []float32) {
	x = x[:len(y)]
	w := float64(a)
	for i := range y { // FMA, inlined
		p, z := w*float64(x[i]), float64(y[i])
		s := p + z
		if risky(s) {
			s = fmaOdd(p, z)
		}
		y[i] = float32(s)
	}
}

func finiteTwin(x []float32) bool {
	for _, v := range x {
		if math.Float32bits(v)&0x7f800000 == 0x7f800000 {
			return false
		}
	}
	return true
}

func dotTwin(x, y []float32) float32 {
	var l [32]float32
	for len(x) >= 32 {
		xs, ys := (*[32]float32)(x), (*[32]float32)(y)
		for i := range l {
			l[i] = FMA(xs[i], ys[i], l[i])
		}
		x, y = x[32:], y[32:]
	}
	if len(x) > 0 {
		for i := range x {
			l[i] = FMA(x[i], y[i], l[i])
		}
		for i := len(x); i < 32; i++ {
			l[i] += 0 // the zeros that follow: -0 becomes 0
		}
	}
	return foldLanes(&l)
}

func foldLanes(l *[32]float32) float32 {
	for w := 16; w > 0; w /= 2 {
		for i := range w {
			l[i] += l[i+w]
		}
	}
	return l[0]
}

func squaresTwin(x []float32) float64 {
	var l [16]float64
	for len(x) >= 16 {
		xs := (*[16]float32)(x)
		for i := range l {
			l[i] += float64(xs[i]) * float64(xs[i]) // exact, fused or not
		}
		x = x[16:]
	}
	for i, v := range x {
		l[i] += float64(v) * float64(v)
	}
	for w := 8; w > 0; w /= 2 {
		for i := range w {
			l[i] += l[i+w]
		}
	}
	return l[0]
}

func sumRowsTwin(db, dy []float32, rows int, acc bool) {
	n := len(db)
	var s [64]float32
	for j := 0; j < n; j += len(s) {
		w := min(len(s), n-j)
		clear(s[:w])
		for r := 0; r < rows; r++ {
			addTwin(s[:w], dy[r*n+j:r*n+j+w])
		}
		if acc {
			addTwin(db[j:j+w], s[:w])
		} else {
			copy(db[j:j+w], s[:w])
		}
	}
}

func reluTwin(y, x []float32) {
	x = x[:len(y)]
	for i := range y {
		v := x[i]
		if v < 0 {
			v = 0
		}
		y[i] = v
	}
}

func reluGradTwin(dx, dy, y []float32) {
	dy, y = dy[:len(dx)], y[:len(dx)]
	for i := range dx {
		v := dy[i]
		if y[i] <= 0 {
			v = 0
		}
		dx[i] = v
	}
}

func tanhTwin(y, x []float32) {
	for i, v := range x {
		y[i] = tanh1(v)
	}
}

func tanhGradTwin(dx, dy, y []float32) {
	dy, y = dy[:len(dx)], y[:len(dx)]
	for i := range dx {
		v := float64(y[i])
		dx[i] = float32(float64(dy[i]) * (1 - v*v)) // v*v is exact, fused or not
	}
}

func geluTwin(y, x []float32) {
	for i, v := range x {
		y[i] = gelu1(v)
	}
}

func geluGradTwin(dx, dy, x []float32) {
	for i, v := range x {
		dx[i] = geluGrad1(dy[i], v)
	}
}

func sigmoidTwin(y, x []float32) {
	for i, v := range x {
		y[i] = sigmoid1(v)
	}
}

func sgdTwin(x, g []float32, scale, nlr float32) {
	g = g[:len(x)]
	for i := range x {
		x[i] = FMA(nlr, float32(scale*g[i]), x[i])
	}
}

func momentumTwin(x, g, v []float32, scale, nlr, mu, c float32, nesterov bool) {
	g, v = g[:len(x)], v[:len(x)]
	for i := range x {
		gi := float32(scale * g[i])
		d := FMA(mu, v[i], c*gi)
		v[i] = d
		if nesterov {
			d = FMA(mu, d, gi)
		}
		x[i] = FMA(nlr, d, x[i])
	}
}

// adamRatio updates one m and v and gives m / fma(sqrt(v), rs, eps).
func adamRatio(g float32, m, v *float32, p *adamConst) float32 {
	g = float32(p.scale * g)
	*m = FMA(p.c1, g-*m, *m)
	*v = FMA(p.c2*g, g, p.b2**v)
	return *m / FMA(sqrt(*v), p.rs, p.eps)
}

func adamTwin(x, g, m, v []float32, p *adamConst) {
	g, m, v = g[:len(x)], m[:len(x)], v[:len(x)]
	for i := range x {
		x[i] = FMA(p.step, adamRatio(g[i], &m[i], &v[i], p), x[i])
	}
}

func adamDirTwin(d, g, m, v []float32, p *adamConst) {
	g, m, v = g[:len(d)], m[:len(d)], v[:len(d)]
	for i := range d {
		d[i] = p.step * adamRatio(g[i], &m[i], &v[i], p)
	}
}

func rmspropTwin(x, g, v []float32, scale, nlr, alpha, c, eps float32) {
	g, v = g[:len(x)], v[:len(x)]
	for i := range x {
		gi := float32(scale * g[i])
		s := FMA(c*gi, gi, alpha*v[i])
		v[i] = s
		x[i] = FMA(nlr, gi/(sqrt(s)+eps), x[i])
	}
}

// sqrt is correctly rounded: float64 has more than twice the bits.
func sqrt(x float32) float32 { return float32(math.Sqrt(float64(x))) }
