package vec

import (
	"sync/atomic"
	"testing"
)

// Every part runs once, and all have ended at the end.
func TestSideBySide(t *testing.T) {
	for n := range 6 {
		var ran [6]atomic.Int32
		SideBySide(n, func(i int) { ran[i].Add(1) })
		for i := range ran {
			want := int32(0)
			if i < n {
				want = 1
			}
			if got := ran[i].Load(); got != want {
				t.Errorf("of %d parts, part %d ran %d times", n, i, got)
			}
		}
	}
}
