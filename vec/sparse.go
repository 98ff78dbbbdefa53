package vec

import "fmt"

// A sparse matrix is in compressed sparse rows: row i has the values val[row[i]:row[i+1]] in the columns
// col[row[i]:row[i+1]]. len(row) is one more than the rows; row need not start at 0, so that a run of rows of a
// larger matrix is row[lo:hi+1] with col and val whole. Columns may come in any order and repeat. A row pointer
// or column out of range panics.

// CSRMatVec is y[i] = the sum of val*w[col] over row i, one chain of FMA from 0 in the order stored.
func CSRMatVec(y []float32, row []int, col []int32, val, w []float32) {
	sized("CSRMatVec", "val", len(val), len(col))
	checkCSR("CSRMatVec", row, col, len(y), len(w))
	csrMatVec(y, row, col, val, w)
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
	sized("CSRMatMul", "val", len(val), len(col))
	checkCSR("CSRMatMul", row, col, rows, wholeRows("CSRMatMul", "b", len(b), n))
	for i := 0; i < rows; i++ {
		lo, hi := row[i], row[i+1]
		csrRowMul(c[i*n:(i+1)*n], col[lo:hi], val[lo:hi], b)
	}
}

// CSRTMatMul is g[col,:] = FMA(val, a[i,:], g[col,:]) for a and g with n columns, over rows in order and within a
// row in the order stored: g += S'a for a sparse S.
func CSRTMatMul(g []float32, row []int, col []int32, val, a []float32, n int) {
	rows := csrRows("CSRTMatMul", row)
	sized("CSRTMatMul", "a", len(a), rows*n)
	sized("CSRTMatMul", "val", len(val), len(col))
	checkCSR("CSRTMatMul", row, col, rows, wholeRows("CSRTMatMul", "g", len(g), n))
	if n == 1 {
		csrTMatVec(g, row, col, val, a)
		return
	}
	for i := 0; i < rows; i++ {
		lo, hi := row[i], row[i+1]
		csrRowAdd(g, col[lo:hi], val[lo:hi], a[i*n:(i+1)*n])
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
func checkCSR(op string, row []int, col []int32, rows, cols int) {
	sized(op, "row", len(row), rows+1)
	for i := range rows {
		if lo, hi := row[i], row[i+1]; lo < 0 || lo > hi || hi > len(col) {
			panic(fmt.Sprintf("vec.%s: row %d is %d:%d of %d entries", op, i, lo, hi, len(col)))
		}
	}
	used := col[row[0]:row[rows]]
	if len(used) == 0 || int(maxColumn(used)) < cols {
		return
	}
	for p, c := range used {
		if uint32(c) >= uint32(cols) {
			panic(fmt.Sprintf("vec.%s: entry %d is in column %d of %d", op, row[0]+p, c, cols))
		}
	}
}
