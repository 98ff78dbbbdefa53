//go:build !noasm

package vec

import "os"

// useNEON is read by the matrix products and written at start, and by tests. Every arm64 processor has NEON.
var useNEON = os.Getenv("COVEY_NOASM") != "1"

func kernels() string {
	if useNEON {
		return "neon"
	}
	return "portable"
}

func shape() tileShape { return tileShape{rows: 6, cols: 16, padded: useNEON} }

// tileNEON computes a tile of up to 6 rows by 16 columns, all of which it reads and writes.
//
//go:noescape
func tileNEON(c *float32, ldc int, a *float32, ai, ap int, b *float32, bp, rows, kc int, add bool)

func tiles(c []float32, ldc int, a []float32, ai, ap int, b []float32, bp, step, count, rows, cols, kc int, add bool, bias []float32, relu bool) {
	if !useNEON {
		tilesTwin(c, ldc, a, ai, ap, b, bp, step, count, rows, cols, kc, add, bias, relu)
		return
	}
	for i := range count {
		ct, bt := c[i*cols:], b[i*step:]
		if cols == 16 {
			tileNEON(&ct[0], ldc, &a[0], ai, ap, &bt[0], bp, rows, kc, add)
		} else {
			edgeNEON(ct, ldc, a, ai, ap, bt, bp, rows, cols, kc, add)
		}
		if bias == nil && !relu {
			continue
		}
		for r := range rows {
			cr := ct[r*ldc : r*ldc+cols]
			for j, v := range cr {
				if bias != nil {
					v += bias[i*cols+j]
				}
				if relu && v < 0 {
					v = 0
				}
				cr[j] = v
			}
		}
	}
}

// edgeNEON computes a whole tile aside, and of it what exists.
func edgeNEON(c []float32, ldc int, a []float32, ai, ap int, b []float32, bp, rows, cols, kc int, add bool) {
	var t [6 * 16]float32
	tileNEON(&t[0], 16, &a[0], ai, ap, &b[0], bp, rows, kc, false)
	for r := range rows {
		cr, tr := c[r*ldc:r*ldc+cols], t[r*16:r*16+cols]
		if !add {
			copy(cr, tr)
			continue
		}
		for j, v := range tr {
			cr[j] += v
		}
	}
}

func transposes() bool { return false }

func transpose8([]float32, int, []float32, int, int) {}

func sides(dst []float32, dp int, src []float32, sp, w, kc int) { sidesTwin(dst, dp, src, sp, w, kc) }
