package vec

// The twin of the micro-kernel. Numbers are widened once when they are read, and accumulators stay float64 that
// hold float32 values, so that a step is a product, a sum, the test of FMA and one rounding.

// tilesTwin computes count tiles, each beside the one before: their columns of b and of bias lie step and cols further
// on.
func tilesTwin(c []float32, ldc int, a []float32, ai, ap int, b []float32, bp, step, count, rows, cols, kc int, add bool, bias []float32, relu bool) {
	for i := range count {
		if bias != nil && i > 0 {
			bias = bias[cols:]
		}
		tileTwin(c[i*cols:], ldc, a, ai, ap, b[i*step:], bp, rows, cols, kc, add, bias, relu)
	}
}

// tileTwin computes a tile of rows by cols of c, whose rows are ldc apart: the chains over p of a[i*ai+p*ap] and
// b[p*bp+j], added to c with add; then bias, unless nil, is added, and with relu what is below 0 becomes 0, as ReLU
// does it.
func tileTwin(c []float32, ldc int, a []float32, ai, ap int, b []float32, bp, rows, cols, kc int, add bool, bias []float32, relu bool) {
	var t [4]float32
	for j := 0; j < cols; j += 4 {
		w := min(4, cols-j)
		for i := 0; i < rows; i++ {
			if w == 4 {
				chains4(&t, a[i*ai:], ap, b[j:], bp, kc)
			} else {
				for l := range w {
					t[l] = chain(a[i*ai:], ap, b[j+l:], bp, kc)
				}
			}
			ci := c[i*ldc+j : i*ldc+j+w]
			for l, v := range t[:w] {
				if add {
					v = ci[l] + v
				}
				if bias != nil {
					v += bias[j+l]
				}
				if relu && v < 0 {
					v = 0
				}
				ci[l] = v
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

// chain runs one.
func chain(a []float32, ap int, b []float32, bp, kc int) float32 {
	var z float64
	for p := 0; p < kc; p++ {
		x, y := float64(a[p*ap]), float64(b[p*bp])
		if s := x*y + z; risky(s) {
			z = fmaOdd(x*y, z)
		} else {
			z = float64(float32(s))
		}
	}
	return float32(z)
}

// sidesTwin is dst[p*dp+i] = src[p*sp+i] for i below w and p below kc.
func sidesTwin(dst []float32, dp int, src []float32, sp, w, kc int) {
	switch w {
	case 6:
		for p := 0; p < kc; p++ {
			*(*[6]float32)(dst[p*dp:]) = *(*[6]float32)(src[p*sp:])
		}
	case 16:
		for p := 0; p < kc; p++ {
			*(*[16]float32)(dst[p*dp:]) = *(*[16]float32)(src[p*sp:])
		}
	default:
		for p := 0; p < kc; p++ {
			copy(dst[p*dp:p*dp+w], src[p*sp:])
		}
	}
}
