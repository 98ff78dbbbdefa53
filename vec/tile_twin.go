package vec

// The twin of the micro-kernel. Numbers are widened once when they are read, and accumulators stay float64 that
// hold float32 values, so that a step is a product, a sum, the test of FMA and one rounding.

// tileTwin is c[i,j] = or += the chain over p of a[i*ai+p*ap] and b[p*bp+j], for a tile of tileM by tileN whose
// rows are ldc apart in c.
func tileTwin(c []float32, ldc int, a []float32, ai, ap int, b []float32, bp, kc int, add bool) {
	var t [4]float32
	for j := 0; j < tileN; j += 4 {
		for i := 0; i < tileM; i++ {
			chains4(&t, a[i*ai:], ap, b[j:], bp, kc)
			ci := (*[4]float32)(c[i*ldc+j:])
			if add {
				for l, v := range t {
					ci[l] += v
				}
			} else {
				*ci = t
			}
		}
	}
}

// chains4 runs four chains: one of a's rows against four of b's columns.
func chains4(t *[4]float32, a []float32, ap int, b []float32, bp, kc int) {
	var z0, z1, z2, z3 float64
	for p := 0; p < kc; p++ {
		x := float64(a[p*ap])
		y := (*[4]float32)(b[p*bp:])
		y0, y1, y2, y3 := float64(y[0]), float64(y[1]), float64(y[2]), float64(y[3])
		s0, s1, s2, s3 := x*y0+z0, x*y1+z1, x*y2+z2, x*y3+z3
		if risky(s0) || risky(s1) || risky(s2) || risky(s3) {
			z0, z1, z2, z3 = fmaOdd(x*y0, z0), fmaOdd(x*y1, z1), fmaOdd(x*y2, z2), fmaOdd(x*y3, z3)
			continue
		}
		z0, z1, z2, z3 = float64(float32(s0)), float64(float32(s1)), float64(float32(s2)), float64(float32(s3))
	}
	*t = [4]float32{float32(z0), float32(z1), float32(z2), float32(z3)}
}
