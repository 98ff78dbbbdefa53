//go:build noasm || !(amd64 || arm64)

package vec

func kernels() string { return "portable" }

func shape() tileShape { return tileShape{rows: 6, cols: 16, narrow: true} }

func tiles(c []float32, ldc int, a []float32, ai, ap int, b []float32, bp, step, count, rows, cols, kc int, add bool, bias []float32, relu bool) {
	tilesTwin(c, ldc, a, ai, ap, b, bp, step, count, rows, cols, kc, add, bias, relu)
}

func transposes() bool { return false }

func transpose8([]float32, int, []float32, int, int) {}

func sides(dst []float32, dp int, src []float32, sp, w, kc int) { sidesTwin(dst, dp, src, sp, w, kc) }
