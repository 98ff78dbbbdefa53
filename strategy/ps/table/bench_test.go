package table

import (
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

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
		tab := open(b, Config{Name: "t", Width: width, Init: 0.1, Rule: rule(b, "adagrad"), Budget: budget, Spill: b.TempDir()}, stripes)
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

var (
	fill   = flag.Int("fill", 0, "TestFill: how many rows; 12500000 is a server's of four that share 50 million")
	filled = flag.String("rule", "adagrad", "TestFill: the update rule")
	budget = flag.String("budget", "1800MiB", "TestFill: the table's budget")
)

// TestFill makes a server's part of a large table and updates it, and says how fast, and how much memory the process had at
// most:
//
//	go test ./strategy/ps/table -run TestFill -v -fill 12500000
func TestFill(t *testing.T) {
	if *fill == 0 {
		t.Skip("asked for with -fill")
	}
	most, err := spec.ParseBytes(*budget)
	if err != nil {
		t.Fatal(err)
	}
	const width, some = 16, 16384
	tab, err := New(Config{Name: "t", Width: width, Init: 0.01, Rule: rule(t, *filled), Budget: most, Spill: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer tab.Close()
	say := func(what string, start time.Time, rows int) {
		s := tab.Stats()
		t.Logf("%s: %.2f million rows/s; %d rows, %d MiB in memory, %d MiB spilled, %d pages read, %d written", what, float64(rows)/time.Since(start).Seconds()/1e6,
			s.Rows, s.Resident>>20, s.Spilled>>20, s.Reads, s.Writes)
	}
	_, g := sequence(0, some, width)
	rows := make([]uint64, 0, some)
	// The rows of a server are those that a hash gave it: some of a large range, in any order.
	row := func(i int) uint64 { return rng.Mix(uint64(i)) }
	start := time.Now()
	for lo := 0; lo < *fill; lo += some {
		rows = rows[:0]
		for i := lo; i < min(lo+some, *fill); i++ {
			rows = append(rows, row(i))
		}
		slices.Sort(rows)
		if err := tab.Apply(rows, g[:len(rows)*width], 1, 0.01, 1); err != nil {
			t.Fatal(err)
		}
	}
	say("first updates", start, *fill)
	r := rng.New(1, "rows")
	done := 0
	start = time.Now()
	for done < *fill/2 {
		rows = rows[:some]
		for i := range rows {
			rows[i] = row(int(r.Uint64N(uint64(*fill))))
		}
		slices.Sort(rows)
		rows = slices.Compact(rows)
		if err := tab.Apply(rows, g[:len(rows)*width], 2, 0.01, 1); err != nil {
			t.Fatal(err)
		}
		done += len(rows)
	}
	say("updates of any rows", start, done)
	peak := rss(t, "VmHWM")
	fmt.Printf("VmHWM %d MiB\n", peak>>20)
	if tab.Len() != *fill || peak > 2<<30 {
		t.Errorf("%d rows of %d, %d bytes of memory at most", tab.Len(), *fill, peak)
	}
}
