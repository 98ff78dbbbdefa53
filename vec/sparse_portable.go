//go:build !amd64 || noasm

package vec

func csrMatVec(y []float32, row []int, col []int32, val, w []float32) {
	csrMatVecTwin(y, row, col, val, w)
}

func csrTMatVec(g []float32, row []int, col []int32, val, a []float32) {
	csrTMatVecTwin(g, row, col, val, a)
}

func csrRowMul(c []float32, col []int32, val, b []float32) {
	csrRowMulTwin(c, col, val, b)
}

func csrRowAdd(g []float32, col []int32, val, a []float32) {
	csrRowAddTwin(g, col, val, a)
}

func maxColumn(col []int32) uint32 {
	return maxColumnTwin(col)
}

func csrMargins(z []float64, row []int, col []int32, val []float32, w []float64) {
	csrMarginsTwin(z, row, col, val, w)
}

func csrAddGrad(g []float64, row []int, col []int32, val []float32, r []float64) {
	csrAddGradTwin(g, row, col, val, r)
}

func csrAddHess(g []float64, row []int, col []int32, val []float32, d, v []float64) {
	csrAddHessTwin(g, row, col, val, d, v)
}

func csrAddGram(a []float64, row []int, col []int32, val []float32, d []float64) {
	csrAddGramTwin(a, row, col, val, d)
}

func logLoss(l *[4]float64, r, d, z []float64, class []int32) { logLossTwin(l, r, d, z, class) }

func gatherRows(y, x []float32, rows []uint64, stride, n int) { gatherRowsTwin(y, x, rows, stride, n) }
func scatterRows(y, x []float32, rows []uint64, stride, n int) {
	scatterRowsTwin(y, x, rows, stride, n)
}
