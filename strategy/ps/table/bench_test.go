package table

import (
	"slices"
	"testing"

	"github.com/covey-ml/covey/rng"
	"github.com/covey-ml/covey/spec"
)

// randomRows are sorted and distinct, out of n.
func randomRows(r interface{ Uint64N(uint64) uint64 }, rows []uint64, n int) []uint64 {
	for i := range rows {
		rows[i] = r.Uint64N(uint64(n))
	}
	slices.Sort(rows)
	return slices.Compact(rows)
}

// BenchmarkRows is rows a second of a table of a million, of 16 floats with Adagrad, 4096 at a time, any of them: all in
// memory, and half of them.
func BenchmarkRows(b *testing.B) {
	const n, width, some = 1_000_000, 16, 4096
	for _, budget := range []spec.Bytes{0, 80 << 20} {
		tab := open(b, Config{Name: "t", Rows: n, Width: width, Init: 0.1, Rule: rule(b, "adagrad"), Budget: budget, Spill: b.TempDir()}, stripes)
		if err := sweep(tab, n, 1); err != nil {
			b.Fatal(err)
		}
		where := "memory"
		if tab.Stats().Spilled > 0 {
			where = "spilled"
		}
		_, g := sequence(0, some, width)
		r := rng.New(1, "rows")
		rows := make([]uint64, some)
		for name, do := range map[string]func(rows []uint64, g []float32) error{
			"Get":   tab.Get,
			"Apply": func(rows []uint64, g []float32) error { return tab.Apply(rows, g, 1, 0.01, 1) },
		} {
			b.Run(name+"/"+where, func(b *testing.B) {
				done := 0
				for b.Loop() {
					b.StopTimer()
					some := randomRows(r, rows, n)
					b.StartTimer()
					if err := do(some, g[:len(some)*width]); err != nil {
						b.Fatal(err)
					}
					done += len(some)
				}
				b.ReportMetric(float64(done)/b.Elapsed().Seconds(), "rows/s")
			})
		}
	}
}
