package vec

// Dot is the sum of x[i]*y[i]. Product i goes to lane i mod 32 by FMA, in order of i; the vectors count as
// followed by zeros up to a multiple of 32. Then lane l takes lane l+16, then l+8, l+4, l+2 and l+1.
func Dot(x, y []float32) float32 {
	same("Dot", len(x), len(y))
	return dot(x, y)
}

// SquareBlock is how many elements a block of SumSquares has.
const SquareBlock = 4096

// SumSquares is the sum of x[i]^2 in float64, over blocks of SquareBlock elements (the last may be shorter), whose
// sums are added as TreeSum does. Within a block, the exact float64 square of element i is added to lane i mod 16 in
// order of i; then lane l takes lane l+8, then l+4, l+2 and l+1.
func SumSquares(x []float32) float64 { return sumBlocks(x, squares) }

// sumBlocks adds what sum makes of each block of x as TreeSum does.
func sumBlocks(x []float32, sum func(block []float32) float64) float64 {
	if 0 < len(x) && len(x) <= SquareBlock {
		return sum(x) // a tree is larger than many a block
	}
	var t treeSum
	for len(x) > SquareBlock {
		t.add(sum(x[:SquareBlock]))
		x = x[SquareBlock:]
	}
	if len(x) > 0 {
		t.add(sum(x))
	}
	return t.sum()
}

// TreeSum adds p in the order of the balanced binary tree: neighbours, then neighbours of neighbours; an odd one
// out moves up unchanged. It is 0 for an empty p, and leaves p alone.
func TreeSum(p []float64) float64 {
	var t treeSum
	for _, v := range p {
		t.add(v)
	}
	return t.sum()
}

// treeSum adds numbers in tree order as they come: part[l] is the sum of 2^l neighbours when bit l of n is set.
type treeSum struct {
	n    uint
	part [64]float64
}

func (t *treeSum) add(v float64) {
	l := 0
	for ; t.n>>l&1 == 1; l++ {
		v = t.part[l] + v
	}
	t.part[l] = v
	t.n++
}

func (t *treeSum) sum() float64 {
	var s float64
	first := true
	for l := 0; t.n>>l != 0; l++ {
		if t.n>>l&1 == 0 {
			continue
		}
		if first {
			s, first = t.part[l], false
		} else {
			s = t.part[l] + s
		}
	}
	return s
}
