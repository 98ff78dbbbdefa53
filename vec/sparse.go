package vec

import "fmt"

// A sparse matrix is in compressed sparse rows: row i has the values val[row[i]:row[i+1]] in the columns
// col[row[i]:row[i+1]]. len(row) is one more than the rows; row need not start at 0, so that a run of rows of a
// larger matrix is row[lo:hi+1] with col and val whole. Columns may come in any order and repeat. A row pointer
// or column out of range panics.

// CSRMatVec is y[i] = the sum of val*w[col] over row i, one chain of FMA from 0 in the order stored.
func CSRMatVec(y []float32, row []int, col []int32, val, w []float32) {
	checkCSR("CSRMatVec", row, col, val, len(y), len(w))
	for i := range y {
		lo, hi := row[i], row[i+1]
		y[i] = csrDot(col[lo:hi], val[lo:hi], w)
	}
}

// CSRMatMul is c[i,:] = the sum of val*b[col,:] over row i, for b with n columns: for each element one chain of
// FMA from 0 in the order stored, so that a column of it has the bits of CSRMatVec.
func CSRMatMul(c []float32, row []int, col []int32, val, b []float32, n int) {
	if n == 1 {
		CSRMatVec(c, row, col, val, b)
		return
	}
	rows := csrRows("CSRMatMul", row)
	sized("CSRMatMul", "c", len(c), rows*n)
	checkCSR("CSRMatMul", row, col, val, rows, wholeRows("CSRMatMul", "b", len(b), n))
	for i := 0; i < rows; i++ {
		ci := c[i*n : (i+1)*n]
		clear(ci)
		for p := row[i]; p < row[i+1]; p++ {
			j := int(col[p]) * n
			axpy(val[p], b[j:j+n], ci)
		}
	}
}

// CSRTMatMul is g[col,:] = FMA(val, a[i,:], g[col,:]) for a and g with n columns, over rows in order and within a
// row in the order stored: g += S'a for a sparse S.
func CSRTMatMul(g []float32, row []int, col []int32, val, a []float32, n int) {
	rows := csrRows("CSRTMatMul", row)
	sized("CSRTMatMul", "a", len(a), rows*n)
	checkCSR("CSRTMatMul", row, col, val, rows, wholeRows("CSRTMatMul", "g", len(g), n))
	if n == 1 {
		for i := 0; i < rows; i++ {
			lo, hi := row[i], row[i+1]
			csrScatter(a[i], col[lo:hi], val[lo:hi], g)
		}
		return
	}
	for i := 0; i < rows; i++ {
		ai := a[i*n : (i+1)*n]
		for p := row[i]; p < row[i+1]; p++ {
			j := int(col[p]) * n
			axpy(val[p], ai, g[j:j+n])
		}
	}
}

func csrRows(op string, row []int) int {
	if len(row) == 0 {
		panic(fmt.Sprintf("vec.%s: row is empty, want one element more than there are rows", op))
	}
	return len(row) - 1
}

func wholeRows(op, name string, have, n int) int {
	if n <= 0 || have%n != 0 {
		panic(fmt.Sprintf("vec.%s: %s has %d elements, want a multiple of n = %d", op, name, have, n))
	}
	return have / n
}

// checkCSR panics unless the matrix is whole: the kernels index without looking.
func checkCSR(op string, row []int, col []int32, val []float32, rows, cols int) {
	sized(op, "row", len(row), rows+1)
	sized(op, "val", len(val), len(col))
	for i := range rows {
		if lo, hi := row[i], row[i+1]; lo < 0 || lo > hi || hi > len(col) {
			panic(fmt.Sprintf("vec.%s: row %d is %d:%d of %d entries", op, i, lo, hi, len(col)))
		}
	}
	for p, c := range col[row[0]:row[rows]] {
		if uint32(c) >= uint32(cols) {
			panic(fmt.Sprintf("vec.%s: entry %d is in column %d of %d", op, row[0]+p, c, cols))
		}
	}
}
