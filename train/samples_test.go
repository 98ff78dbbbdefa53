package train

import (
	"slices"
	"testing"
)

func TestSampleBooks(t *testing.T) {
	const n = 130
	a, b := newSampleSet(n), newSampleSet(n)
	for i := range n {
		switch {
		case i == 7 || i == 129: // nobody uses these
		case i%2 == 0:
			a.use([]int{i})
		default:
			b.use([]int{i})
		}
	}
	b.use([]int{64}) // a has used it
	a.use([]int{2})  // twice by itself
	if err := a.merge(b.encode()); err != nil {
		t.Fatal(err)
	}
	exactly, missing, repeated := a.audit()
	if exactly || !slices.Equal(missing, []int{7, 129}) || !slices.Equal(repeated, []int{2, 64}) {
		t.Fatalf("exactly %v, missing %v, repeated %v", exactly, missing, repeated)
	}
	if err := a.merge(b.encode()[1:]); err == nil {
		t.Fatal("books of another length were merged")
	}
	a.clear()
	for i := range n {
		a.use([]int{i})
	}
	if exactly, missing, repeated := a.audit(); !exactly || missing != nil || repeated != nil {
		t.Fatalf("a whole epoch: %v %v %v", exactly, missing, repeated)
	}
}
