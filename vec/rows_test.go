package vec

import (
	"slices"
	"testing"

	"github.com/covey-ml/covey/rng"
)

// TestRows: rows of all lengths are gathered and scattered as the twins do it, and nothing beside them is written.
func TestRows(t *testing.T) {
	const seed = 1
	r := rng.New(seed, "rows")
	for n := range 40 {
		for range 20 {
			stride := n + r.IntN(5)
			many := 1 + r.IntN(50)
			x := make([]float32, max(0, (many-1)*stride+n))
			for i := range x {
				x[i] = float32(i + 1)
			}
			var rows []uint64
			for range r.IntN(2 * many) {
				rows = append(rows, uint64(r.IntN(many)))
			}
			room := make([]float32, 8+len(rows)*n+8)
			y, want := room[8:8+len(rows)*n], make([]float32, len(rows)*n)
			GatherRows(y, x, rows, stride, n)
			gatherRowsTwin(want, x, rows, stride, n)
			if !slices.Equal(y, want) || slices.ContainsFunc(append(room[:8:8], room[8+len(y):]...), func(v float32) bool { return v != 0 }) {
				t.Fatalf("seed %d: %d elements, %d apart, of rows %v: %v, expected %v", seed, n, stride, rows, room, want)
			}
			for i := range y {
				y[i] = -float32(i + 1)
			}
			twin := slices.Clone(x)
			ScatterRows(y, x, rows, stride, n)
			scatterRowsTwin(y, twin, rows, stride, n)
			if !slices.Equal(x, twin) {
				t.Fatalf("seed %d: %d elements, %d apart, to rows %v: %v, expected %v", seed, n, stride, rows, x, twin)
			}
		}
	}
}

func TestRowsMisusePanics(t *testing.T) {
	x, y := make([]float32, 20), make([]float32, 8)
	for name, f := range map[string]func(){
		"a row beyond the end": func() { GatherRows(y, x, []uint64{0, 4}, 5, 4) },
		"a huge row":           func() { ScatterRows(y, x[:19], []uint64{0, 1 << 63}, 5, 4) },
		"a short y":            func() { GatherRows(y[:7], x, []uint64{0, 1}, 5, 4) },
		"rows that overlap":    func() { ScatterRows(y, x, []uint64{0, 1}, 3, 4) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}
