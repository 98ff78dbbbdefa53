package table

import (
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/covey-ml/covey/rng"
	"github.com/covey-ml/covey/spec"
)

// sequence is n rows from lo on, and their gradients of 1.
func sequence(lo, n, width int) ([]uint64, []float32) {
	rows, g := make([]uint64, n), make([]float32, n*width)
	for i := range rows {
		rows[i] = uint64(lo + i)
	}
	for i := range g {
		g[i] = 1
	}
	return rows, g
}

// sweep updates n rows in their order, some at a time.
func sweep(tab *Table, n, step int) error {
	const some = 1000
	for lo := 0; lo < n; lo += some {
		rows, g := sequence(lo, some, tab.c.Width)
		if err := tab.Apply(rows, g, step, 0.1, 1); err != nil {
			return err
		}
	}
	return nil
}

// Over a table much larger than its budget a pass in order reads and writes each page about once.
func TestSequentialPasses(t *testing.T) {
	const n, width, passes = 100_000, 16, 3
	const budget = 4 << 20
	tab, err := New(Config{Name: "t", Width: width, Rule: rule(t, "adam"), Budget: budget, Spill: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer tab.Close()
	if err := sweep(tab, n, 1); err != nil {
		t.Fatal(err)
	}
	first := tab.Stats()
	for step := 2; step <= passes; step++ {
		if err := sweep(tab, n, step); err != nil {
			t.Fatal(err)
		}
	}
	s := tab.Stats()
	if first.Resident > budget || s.Resident > budget || s.Spilled < n*width*4*3-budget {
		t.Errorf("with a budget of %d: %+v after one pass, %+v after all", budget, first, s)
	}
	pages := 0
	for i := range tab.store.(striped) {
		pages += len(tab.store.(striped)[i].where)
	}
	if most := uint64((passes - 1) * pages * 11 / 10); s.Reads-first.Reads > most || s.Writes-first.Writes > most {
		t.Errorf("%d passes over %d pages read %d and wrote %d", passes-1, pages, s.Reads-first.Reads, s.Writes-first.Writes)
	}
	// Reading changes nothing: no page is written for it but what is dirty already.
	rows, out := sequence(0, n, width)
	for range 2 {
		if err := tab.Get(rows, out); err != nil {
			t.Fatal(err)
		}
	}
	if r := tab.Stats(); r.Writes-s.Writes > uint64(budget/(4*tab.pageLen)) {
		t.Errorf("two passes that only read wrote %d pages", r.Writes-s.Writes)
	}
}

func TestOverBudgetWithoutAFolder(t *testing.T) {
	tab := open(t, Config{Name: "t", Width: 16, Rule: rule(t, "adagrad"), Budget: 4 << 20}, stripes)
	err := sweep(tab, 1_000_000, 1)
	if err == nil || !strings.Contains(err.Error(), "the budget of 4MiB is used up at about ") || !strings.Contains(err.Error(), "there is no folder to spill to") {
		t.Fatal(err)
	}
	if s := tab.Stats(); s.Resident > 4<<20 || s.Rows < 2<<20/(16*2*4) {
		t.Errorf("refused at %+v", s)
	}
	// What is there goes on.
	rows, g := sequence(0, 1000, 16)
	if err := tab.Apply(rows, g, 2, 0.1, 1); err != nil {
		t.Error(err)
	}
}

func TestNamesAloneOverBudget(t *testing.T) {
	tab := open(t, Config{Name: "t", Width: 1, Rule: rule(t, "sgd"), Budget: 2 * 48 << 10, Spill: t.TempDir()}, 2)
	err := sweep(tab, 100_000, 1)
	if err == nil || !strings.Contains(err.Error(), "the budget of 96KiB is used up by the names of about ") {
		t.Fatal(err)
	}
	if s := tab.Stats(); s.Rows < 4000 {
		t.Errorf("refused at %+v", s)
	}
	rows, g := sequence(0, 1000, 1)
	if err := tab.Get(rows, g); err != nil {
		t.Error(err)
	}
	for i, x := range g {
		if x != -0.1 {
			t.Fatalf("row %d is %v", i, x)
		}
	}
}

// The file has no name while it is used, or none any more after Close.
func TestFileIsRemoved(t *testing.T) {
	dir := t.TempDir()
	tab := open(t, Config{Name: "t", Width: 16, Rule: rule(t, "adam"), Budget: 2 * 64 << 10, Spill: dir}, 2)
	if err := sweep(tab, 5000, 1); err != nil {
		t.Fatal(err)
	}
	if tab.Stats().Spilled == 0 {
		t.Error("nothing was spilled")
	}
	look := func(when string) {
		if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
			t.Errorf("%s: %v, %v", when, files, err)
		}
	}
	if runtime.GOOS != "windows" {
		look("in use")
	}
	if err := tab.Close(); err != nil {
		t.Error(err)
	}
	look("after Close")
}

// Rows that are used often stay in memory while others pass.
func TestOftenUsedRowsStay(t *testing.T) {
	const n, hot, width = 20_000, 100, 16
	tab := open(t, Config{Name: "t", Width: width, Rule: rule(t, "sgd"), Budget: spec.Bytes(n*width*4/4 + 2*64<<10), Spill: t.TempDir()}, 2)
	if err := sweep(tab, n, 1); err != nil {
		t.Fatal(err)
	}
	r := rng.New(1, "cold")
	rows, g := sequence(0, hot, width)
	before := tab.Stats().Reads
	const times = 5000
	for range times {
		if err := tab.Apply(rows, g, 2, 0.1, 1); err != nil {
			t.Fatal(err)
		}
		if err := tab.Get([]uint64{hot + r.Uint64N(n-hot)}, g[:width]); err != nil {
			t.Fatal(err)
		}
	}
	// A cold row costs a read at most; the hot ones are read once.
	if reads := tab.Stats().Reads - before; reads > times*11/10 {
		t.Errorf("%d pages were read for %d cold rows", reads, times)
	}
}
