package vec

import "math"

// FTRL is one step of FTRL-Proximal (McMahan et al., Ad click prediction: a view from the trenches, KDD 2013, algorithm 1)
// for the weights x, with the state z and n, both 0 at first, and alpha = lr:
//
//	sigma = (sqrt(n + g*g) - sqrt(n)) / lr
//	z = z + g - sigma*x
//	n = n + g*g
//	x = 0 where |z| <= l1, elsewhere (sgn(z)*l1 - z) / ((beta + sqrt(n))/lr + l2)
//
// beta is above 0. A step is worked out in float64; z, n and x are rounded once each, and x is that of the rounded z and n.
//
// The paper's weights start at 0. Where x does not, z starts at the one that x is the weight of. An element whose g is 0
// stays as it is, as the weights of absent features do in the paper: a dense vector and the rows of a table that are pushed
// have the same bits.
func FTRL(x, g, z, n []float32, scale, lr, beta, l1, l2 float32) {
	same("FTRL", len(x), len(g))
	same("FTRL", len(x), len(z))
	same("FTRL", len(x), len(n))
	rate, first := float64(lr), float64(beta)
	weigh := func(z, n float64) float64 {
		l1 := float64(l1)
		switch {
		case z > l1:
			z -= l1
		case z < -l1:
			z += l1
		case z == z: // not a NaN, which must stay to be seen
			return 0
		}
		return -z / ((first+math.Sqrt(n))/rate + float64(l2))
	}
	for i, gi := range g {
		if gi = float32(scale * gi); gi == 0 {
			continue
		}
		old, zi, gi, xi := float64(n[i]), float64(z[i]), float64(gi), float64(x[i])
		if old == 0 && zi == 0 && xi != 0 {
			zi = -float64(xi*(first/rate+float64(l2))) - math.Copysign(float64(l1), xi)
		}
		sum := old + float64(gi*gi)
		sigma := (math.Sqrt(sum) - math.Sqrt(old)) / rate
		z[i], n[i] = float32(zi+gi-float64(sigma*xi)), float32(sum)
		x[i] = float32(weigh(float64(z[i]), float64(n[i])))
	}
}
