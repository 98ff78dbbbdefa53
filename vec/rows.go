package vec

import "fmt"

// GatherRows writes n elements of each of some rows of x, which are stride elements apart, to y, row after row. y and x do
// not overlap.
func GatherRows(y, x []float32, rows []uint64, stride, n int) {
	checkRows("GatherRows", y, x, rows, stride, n)
	gatherRows(y, x, rows, stride, n)
}

// ScatterRows writes back what GatherRows has read. Of a row that is there twice the last one stays.
func ScatterRows(y, x []float32, rows []uint64, stride, n int) {
	checkRows("ScatterRows", y, x, rows, stride, n)
	scatterRows(y, x, rows, stride, n)
}

func checkRows(what string, y, x []float32, rows []uint64, stride, n int) {
	if n < 0 || stride < n {
		panic(fmt.Sprintf("vec.%s: %d elements of rows that are %d apart", what, n, stride))
	}
	sized(what, "y", len(y), len(rows)*n)
	if n == 0 {
		return
	}
	var last uint64
	for _, r := range rows {
		last = max(last, r)
	}
	if len(rows) > 0 && (len(x) < n || last > uint64(len(x)-n)/uint64(stride)) {
		panic(fmt.Sprintf("vec.%s: row %d of %d elements, %d apart, in %d", what, last, n, stride, len(x)))
	}
}

func gatherRowsTwin(y, x []float32, rows []uint64, stride, n int) {
	for i, r := range rows {
		copy(y[i*n:(i+1)*n], x[int(r)*stride:])
	}
}

func scatterRowsTwin(y, x []float32, rows []uint64, stride, n int) {
	for i, r := range rows {
		copy(x[int(r)*stride:], y[i*n:(i+1)*n])
	}
}
