package table

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/covey-ml/covey/rng"
	"github.com/covey-ml/covey/spec"
)

// A table whose rows have places has the rows of one that looks for them, writes the same snapshot, and refuses rows that are not
// its own.
func TestPlacesOfRows(t *testing.T) {
	const rows, width, parts = 1000, 5, 4
	owned := func(row uint64) bool { return rng.Mix(row)%3 == 0 }
	c := Config{Name: "t", Rows: rows, Owned: owned, Width: width, Seed: 7, Init: 0.5, Rule: rule(t, "adagrad")}
	flatOne := open(t, c, parts)
	if _, ok := flatOne.store.(*flat); !ok {
		t.Fatalf("few rows are in a %T", flatOne.store)
	}
	c.Budget, c.Spill = parts*spec.Bytes(flatOne.least()+64<<10), t.TempDir()
	other := open(t, c, parts)
	if _, ok := other.store.(striped); !ok {
		t.Fatalf("rows within a budget are in a %T", other.store)
	}
	var mine []uint64
	for row := range uint64(rows) {
		if owned(row) {
			mine = append(mine, row)
		}
	}
	r := rng.New(7, "places")
	seen := map[uint64]bool{}
	for step := 1; step <= 20; step++ {
		var some []uint64
		for _, row := range mine {
			if r.IntN(20) == 0 {
				some, seen[row] = append(some, row), true
			}
		}
		g := make([]float32, len(some)*width)
		draw(g, r)
		for _, tab := range []*Table{flatOne, other} {
			if err := tab.Apply(some, slices.Clone(g), step, 0.1, 0.5); err != nil {
				t.Fatal(err)
			}
		}
	}
	a, b := make([]float32, len(mine)*width), make([]float32, len(mine)*width)
	if err := flatOne.Get(mine, a); err != nil {
		t.Fatal(err)
	}
	if err := other.Get(mine, b); err != nil {
		t.Fatal(err)
	}
	if !equal(a, b) {
		t.Error("the two tables' rows differ")
	}
	var one, two bytes.Buffer
	for tab, to := range map[*Table]*bytes.Buffer{flatOne: &one, other: &two} {
		if err := tab.Snapshot(to); err != nil {
			t.Fatal(err)
		}
		if s := tab.Stats(); s.Rows != len(seen) || s.Resident <= 0 {
			t.Errorf("%d rows were updated: %+v", len(seen), s)
		}
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("the two tables' snapshots differ")
	}
	foreign := uint64(0)
	for owned(foreign) {
		foreign++
	}
	for _, tab := range []*Table{flatOne, other} {
		if _, ok := tab.Foreign(mine); ok {
			t.Error("the table's own rows are said to be foreign")
		}
		if row, ok := tab.Foreign(append(slices.Clone(mine[:3]), foreign)); !ok || row != foreign {
			t.Errorf("row %d is said to be foreign, %v, expected %d", row, ok, foreign)
		}
	}
	if err := flatOne.Get([]uint64{foreign}, a[:width]); err == nil || !strings.Contains(err.Error(), "is not this table's") {
		t.Errorf("row %d, which is not the table's: %v", foreign, err)
	}
}

// A table that would be too large with a place for each row has none.
func TestNoPlacesInALargeTable(t *testing.T) {
	const rows, width = 1 << 23, 16
	tab := open(t, Config{Name: "t", Rows: rows, Width: width, Rule: rule(t, "adagrad")}, stripes)
	if _, ok := tab.store.(striped); !ok {
		t.Errorf("%d bytes are in a %T", 2*4*width*rows, tab.store)
	}
	one := open(t, Config{Name: "t", Rows: rows, Width: width, Rule: rule(t, "adagrad"), Owned: func(row uint64) bool { return row%4 == 0 }}, stripes)
	if s := one.Stats(); s.Rows != 0 || s.Resident != 0 {
		t.Errorf("an empty table: %+v", s)
	}
	if err := one.Apply([]uint64{4, 8, rows - 4}, make([]float32, 3*width), 1, 0.1, 1); err != nil {
		t.Fatal(err)
	}
	if s := one.Stats(); s.Rows != 3 || s.Resident > 3*largePage+4<<20 {
		t.Errorf("three rows: %+v", s)
	}
}
