package vec

// The solvers of convex problems work on a sparse matrix of float32 with vectors of float64. Its values may be nil, which
// stands for ones: the usual case of features that are there or not. Rows and columns are as for CSRMatVec, and every
// product and sum rounds to float64 by itself.

// CSRMargins is z[i] = the sum of val*w[col] over row i. Entry p of a row goes to lane p mod 4, in order; the sum is
// (0+2)+(1+3).
func CSRMargins(z []float64, row []int, col []int32, val []float32, w []float64) {
	checkValues("CSRMargins", row, col, val, len(z), len(w))
	csrMargins(z, row, col, val, w)
}

// CSRAddGrad is g[col] += val*r[i], over rows in order and within a row in the order stored: the gradient of a function of
// the margins whose derivatives are r.
func CSRAddGrad(g []float64, row []int, col []int32, val []float32, r []float64) {
	checkValues("CSRAddGrad", row, col, val, len(r), len(g))
	csrAddGrad(g, row, col, val, r)
}

// CSRAddHess is g += X' D X v for the diagonal d of D, in one pass over the rows: CSRMargins of v, each times d[i], and
// CSRAddGrad of that, row by row.
func CSRAddHess(g []float64, row []int, col []int32, val []float32, d, v []float64) {
	checkValues("CSRAddHess", row, col, val, len(d), len(g))
	same("CSRAddHess", len(g), len(v))
	csrAddHess(g, row, col, val, d, v)
}

// CSRAddGram adds the lower triangle of X' D X to a, of which row r begins at r(r+1)/2, for the diagonal d of D: over
// X's rows in order, val[p]*d[i] times val[q] in column q of row p, for entries q up to p. Columns must increase in a row.
func CSRAddGram(a []float64, row []int, col []int32, val []float32, d []float64, cols int) {
	checkValues("CSRAddGram", row, col, val, len(d), cols)
	sized("CSRAddGram", "a", len(a), cols*(cols+1)/2)
	csrAddGram(a, row, col, val, d)
}

// checkValues is checkCSR for a val that may be nil.
func checkValues(op string, row []int, col []int32, val []float32, rows, cols int) {
	if val != nil {
		sized(op, "val", len(val), len(col))
	}
	checkCSR(op, row, col, rows, cols)
}
