package ps

import (
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/rng"
	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/vec"
)

// someRows draws rows of a table.
func someRows(r *rand.Rand, t model.Table, most int) sparse {
	var s sparse
	for row := uint64(0); len(s.rows) < most; {
		if row += uint64(r.IntN(1 + int(t.Rows)/most)); row >= t.Rows {
			break
		}
		s.rows = append(s.rows, row)
		for range t.Width {
			s.x = append(s.x, float32(r.Float64()-0.5))
		}
		row++
	}
	return s
}

// The sum of workers' rows is, bit for bit, that of whole vectors along the same tree, however many workers share the
// microshards: a row that some of them do not have is as the others have it.
func TestRowsAreSummedAlongTheTree(t *testing.T) {
	tables := []model.Table{{Name: "a", Rows: 40, Width: 3}}
	for leaves := 1; leaves <= 9; leaves++ {
		r := rng.New(7, "rows", uint64(leaves))
		found := make([][]sparse, leaves)
		whole := make([][]float32, leaves)
		for leaf := range found {
			s := someRows(r, tables[0], 12)
			found[leaf], whole[leaf] = []sparse{s}, make([]float32, 40*3)
			for i, row := range s.rows {
				copy(whole[leaf][row*3:], s.x[i*3:(i+1)*3])
			}
		}
		one := comm.NewTree(leaves, 1)
		buffers := make([][]float32, comm.Buffers(one.Folds(0, leaves)))
		for _, f := range one.Folds(0, leaves) {
			if f.Leaf >= 0 {
				buffers[f.Dst] = slices.Clone(whole[f.Leaf])
			} else {
				vec.Add(buffers[f.Dst], buffers[f.Src])
			}
		}
		for workers := 1; workers <= leaves+2; workers++ {
			tree := comm.NewTree(leaves, workers)
			var parts [][]sparse
			for rank := range workers {
				a := &apart{gathered: gathered{tables: tables}}
				lo, hi := tree.Run(comm.Rank(rank))
				folds := tree.Folds(lo, hi)
				for _, f := range folds {
					if f.Leaf >= 0 {
						a.found = append(a.found, found[f.Leaf])
					}
				}
				a.fold(folds, tree.Vectors(comm.Rank(rank)))
				parts = append(parts, a.parts...)
			}
			sum := (&shelf{of: tables}).merged(tree, parts)[0]
			got := make([]float32, 40*3)
			for i, row := range sum.rows {
				copy(got[row*3:], sum.x[i*3:(i+1)*3])
			}
			if !slices.Equal(vec.Bytes(got), vec.Bytes(buffers[0])) {
				t.Errorf("%d microshards, %d workers: the sum of rows is not that of whole vectors", leaves, workers)
			}
		}
	}
}

// What is written is read back, and nothing but what could have been written is.
func FuzzRows(f *testing.F) {
	tables := []model.Table{{Name: "a", Rows: 1000, Width: 2}, {Name: "b", Rows: math.MaxUint64, Width: 1}}
	widths := []int{2, 1}
	message := func(parts [][]sparse) []byte {
		var m rowsMessage
		m.begin()
		for _, part := range parts {
			for t := range tables {
				m.m, m.ids = append(m.m, part[t].x...), appendRows(m.ids, part[t].rows)
			}
		}
		b, err := m.end()
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	f.Add(message([][]sparse{{{}, {}}}), 1)
	f.Add(message([][]sparse{{{[]uint64{0, 1, 999}, []float32{1, 2, 3, 4, 5, 6}}, {[]uint64{math.MaxUint64 - 1}, []float32{7}}}, {{}, {[]uint64{5}, []float32{1}}}}), 2)
	f.Add([]byte{255, 255, 255, 255, 0, 0, 0, 0}, 1)
	f.Fuzz(func(t *testing.T, b []byte, parts int) {
		m := make([]float32, len(b)/4)
		copy(vec.Bytes(m), b)
		got, err := decodeRowsMessage(nil, m, 1+(parts&3), tables, widths)
		if err != nil {
			return
		}
		var again [][]sparse
		for _, part := range got {
			for i, s := range part {
				if len(s.x) != len(s.rows)*widths[i] {
					t.Fatalf("%d rows of %d numbers have %d", len(s.rows), widths[i], len(s.x))
				}
				for n, row := range s.rows {
					if row >= tables[i].Rows || n > 0 && row <= s.rows[n-1] {
						t.Fatalf("row %d of table %q", row, tables[i].Name)
					}
				}
			}
			again = append(again, part)
		}
		w := message(again)
		m = vec.Floats(w)
		back, err := decodeRowsMessage(nil, m, 1+(parts&3), tables, widths)
		if err != nil {
			t.Fatal(err)
		}
		for p := range back {
			for i := range tables {
				if !reflect.DeepEqual(vec.Bytes(back[p][i].x), vec.Bytes(got[p][i].x)) || !slices.Equal(back[p][i].rows, got[p][i].rows) {
					t.Fatalf("%v became %v", got, back)
				}
			}
		}
	})
}

// A message of rows that is not as it should be is refused, with what is wrong, before it is taken.
func TestRowsAreRefused(t *testing.T) {
	tables := []model.Table{{Name: "a", Rows: 10, Width: 2}}
	s, err := newShelf(Config{Servers: 2}, 0, 0, tables, &spec.Spec{Name: "sgd"}, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.drop()
	mine, foreign := uint64(0), uint64(0)
	for row := range tables[0].Rows {
		if s.owners.of(row) == 0 {
			mine = row
		} else {
			foreign = row
		}
	}
	for _, of := range []struct {
		rows []uint64
		x    []float32
		why  string
	}{
		{[]uint64{mine}, []float32{1, 2}, ""},
		{[]uint64{foreign}, []float32{1, 2}, "another server's"},
		{[]uint64{10}, []float32{1, 2}, `row 10 of table "a", which has 10`},
		{[]uint64{mine}, []float32{1}, "1 numbers are left"},
		{[]uint64{mine}, []float32{1, 2, 3}, "too many"},
		{[]uint64{mine}, []float32{1, float32(math.NaN())}, "not finite"},
		{[]uint64{5, 5}, []float32{1, 2, 3, 4}, "comes after row 5"},
	} {
		var m rowsMessage
		m.begin()
		m.m, m.ids = append(m.m, of.x...), appendRows(m.ids, of.rows)
		b, err := m.end()
		if err != nil {
			t.Fatal(err)
		}
		if why := s.take(&rowsIn{m: vec.Floats(b)}, 1); (why == "") != (of.why == "") || !strings.Contains(why, of.why) {
			t.Errorf("rows %v, numbers %v: %q, expected %q", of.rows, of.x, why, of.why)
		}
	}
}
