//go:build !noasm

package vec

func csrMatVec(y []float32, row []int, col []int32, val, w []float32) {
	if useAVX2 {
		csrMatVecAVX2(y, row, col, val, w)
		return
	}
	csrMatVecTwin(y, row, col, val, w)
}

func csrTMatVec(g []float32, row []int, col []int32, val, a []float32) {
	if useAVX2 {
		csrTMatVecAVX2(g, row, col, val, a)
		return
	}
	csrTMatVecTwin(g, row, col, val, a)
}

func csrRowMul(c []float32, col []int32, val, b []float32) {
	if useAVX2 {
		csrRowMulAVX2(c, col, val, b)
		return
	}
	csrRowMulTwin(c, col, val, b)
}

func csrRowAdd(g []float32, col []int32, val, a []float32) {
	if useAVX2 {
		csrRowAddAVX2(g, col, val, a)
		return
	}
	csrRowAddTwin(g, col, val, a)
}

func maxColumn(col []int32) uint32 {
	if useAVX2 {
		return maxColumnAVX2(col)
	}
	return maxColumnTwin(col)
}

func csrMargins(z []float64, row []int, col []int32, val []float32, w []float64) {
	switch {
	case !useAVX2:
		csrMarginsTwin(z, row, col, val, w)
	case val == nil:
		csrMarginsOnesAVX2(z, row, col, w)
	default:
		csrMarginsAVX2(z, row, col, val, w)
	}
}

func csrAddGrad(g []float64, row []int, col []int32, val []float32, r []float64) {
	switch {
	case !useAVX2:
		csrAddGradTwin(g, row, col, val, r)
	case val == nil:
		csrAddGradOnesAVX2(g, row, col, r)
	default:
		csrAddGradAVX2(g, row, col, val, r)
	}
}

func csrAddHess(g []float64, row []int, col []int32, val []float32, d, v []float64) {
	switch {
	case !useAVX2:
		csrAddHessTwin(g, row, col, val, d, v)
	case val == nil:
		csrAddHessOnesAVX2(g, row, col, d, v)
	default:
		csrAddHessAVX2(g, row, col, val, d, v)
	}
}

func csrAddGram(a []float64, row []int, col []int32, val []float32, d []float64) {
	switch {
	case !useAVX2:
		csrAddGramTwin(a, row, col, val, d)
	case val == nil:
		csrAddGramOnesAVX2(a, row, col, d)
	default:
		csrAddGramAVX2(a, row, col, val, d)
	}
}

func logLoss(l *[4]float64, r, d, z []float64, class []int32) {
	n := 0
	if useAVX2 {
		n = len(z) &^ 3
		logLossAVX2(l, r, d, z, class)
	}
	if d != nil {
		d = d[n:]
	}
	logLossTwin(l, r[n:], d, z[n:], class[n:])
}

func gatherRows(y, x []float32, rows []uint64, stride, n int) {
	if useAVX2 {
		gatherRowsAVX2(y, x, rows, stride, n)
		return
	}
	gatherRowsTwin(y, x, rows, stride, n)
}

func scatterRows(y, x []float32, rows []uint64, stride, n int) {
	if useAVX2 {
		scatterRowsAVX2(y, x, rows, stride, n)
		return
	}
	scatterRowsTwin(y, x, rows, stride, n)
}
