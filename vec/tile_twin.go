package vec

// The twin of the micro-kernel. Numbers are widened once when they are read, and accumulators stay float64 that
// hold float32 values, so that a step is a product, a sum, the test of FMA and one rounding. A panel of a is
// tileM wide and one of b tileN.

// tileTwin is c[i,j] = or += the chain of a's row i and b's column j, for a whole tile.
func tileTwin(c []float32, ldc int, a, b []float32, kc int, add bool) {
	var t [tileM * tileN]float32
	tileEdgeTwin(&t, a, b, kc, tileM, tileN)
	for i := 0; i < tileM; i++ {
		ci, ti := c[i*ldc:i*ldc+tileN], t[i*tileN:(i+1)*tileN]
		if add {
			addTwin(ci, ti)
		} else {
			copy(ci, ti)
		}
	}
}

// tileEdgeTwin computes the first rows and cols of a tile (rounded up to what it computes at once) into t.
func tileEdgeTwin(t *[tileM * tileN]float32, a, b []float32, kc, rows, cols int) {
	for j := 0; j < cols; j += 4 {
		for i := 0; i < rows; i++ {
			chains4((*[4]float32)(t[i*tileN+j:]), a[i:], b[j:], kc)
		}
	}
}

// chains4 runs four chains: one of a's rows against four of b's columns.
func chains4(t *[4]float32, a, b []float32, kc int) {
	var z0, z1, z2, z3 float64
	for p := 0; p < kc; p++ {
		x := float64(a[p*tileM])
		y := (*[4]float32)(b[p*tileN:])
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
