package table

import (
	"github.com/covey-ml/covey/vec"
	"golang.org/x/sys/unix"
)

// largePage is the size of the pages of allocLarge.
const largePage = 2 << 20

// allocLarge is alloc for what is used all over: in large pages where there are any, so that finding one seldom takes a look at
// tables of pages. A page of which nothing was touched costs nothing still.
func allocLarge(n int) ([]float32, error) {
	x, err := alloc[float32](n)
	if err == nil && 4*n >= largePage {
		unix.Madvise(vec.Bytes(x), unix.MADV_HUGEPAGE) // a wish
	}
	return x, err
}
