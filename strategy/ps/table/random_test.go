package table

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/optim"
	"github.com/covey-ml/covey/spec"
)

// reference is a table in the simplest way: a dense vector with an optimizer of its own for each row.
type reference struct {
	rule  *spec.Spec
	width int
	init  func(row uint64) []float32
	rows  map[uint64]*line
}

type line struct {
	x    []float32
	rule optim.Optimizer
}

func (r *reference) get(row uint64) []float32 {
	if l := r.rows[row]; l != nil {
		return l.x
	}
	return r.init(row)
}

func (r *reference) apply(t *rapid.T, row uint64, g []float32, step int, rate, scale float32) {
	l := r.rows[row]
	if l == nil {
		o, err := optim.New(r.rule, model.Layout(nil).Add("x", r.width))
		if err != nil {
			t.Fatal(err)
		}
		l = &line{x: r.init(row), rule: o}
		r.rows[row] = l
	}
	l.rule.Begin(step, rate)
	l.rule.Apply(l.x, slices.Clone(g), 0, scale)
}

// Whatever is done to a table in which almost nothing stays in memory, its rows are those of the reference.
func TestRandomOperations(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SampledFrom([]string{"sgd", "momentum", "adagrad", "adam", "rmsprop:momentum=0.9"}).Draw(t, "rule")
		parsed, err := spec.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		const parts = 2
		ids := rapid.OneOf(rapid.Uint64Range(0, 400), rapid.Uint64())
		few := rapid.SampledFrom([]uint64{0, 401}).Draw(t, "rows that can be")
		if few > 0 {
			ids = rapid.Uint64Range(0, few-1)
		}
		c := Config{Name: "t", Rows: few, Width: rapid.IntRange(1, 300).Draw(t, "width"), Seed: 5, Init: 0.5, Rule: parsed, Spill: dir}
		tab, err := newTable(c, parts)
		if err != nil {
			t.Fatal(err)
		}
		if more := rapid.SampledFrom([]int64{0, 64 << 10, 100 << 10}).Draw(t, "bytes a stripe above the least"); more > 0 {
			c.Budget = parts * spec.Bytes(tab.least()+more)
			tab.Close()
			if tab, err = newTable(c, parts); err != nil {
				t.Fatal(err)
			}
		}
		defer func() { tab.Close() }()
		w := c.Width
		ref := &reference{rule: parsed, width: w, rows: map[uint64]*line{}, init: func(row uint64) []float32 {
			x := make([]float32, w)
			tab.fresh(row, x)
			return x
		}}
		anyRows := rapid.Custom(func(t *rapid.T) []uint64 {
			ids := rapid.SliceOfN(ids, 0, 200).Draw(t, "ids")
			slices.Sort(ids)
			return slices.Compact(ids)
		})
		step := 0
		t.Repeat(map[string]func(*rapid.T){
			"Apply": func(t *rapid.T) {
				step++
				rows := anyRows.Draw(t, "rows")
				seed := rapid.Uint64().Draw(t, "gradient")
				g := make([]float32, len(rows)*w)
				for i := range g {
					g[i] = float32(int32(uint32(seed)*uint32(i+1)*2654435761)) * 0x1p-31
				}
				if err := tab.Apply(rows, slices.Clone(g), step, 0.1, 0.5); err != nil {
					t.Fatal(err)
				}
				for i, r := range rows {
					ref.apply(t, r, g[i*w:][:w], step, 0.1, 0.5)
				}
			},
			"Get": func(t *rapid.T) {
				rows := anyRows.Draw(t, "rows")
				out := make([]float32, len(rows)*w)
				if err := tab.Get(rows, out); err != nil {
					t.Fatal(err)
				}
				for i, r := range rows {
					if want := ref.get(r); !equal(out[i*w:][:w], want) {
						t.Fatalf("row %d is %v, expected %v", r, out[i*w:][:w], want)
					}
				}
			},
			"Move": func(t *rapid.T) {
				var b bytes.Buffer
				if err := tab.Snapshot(&b); err != nil {
					t.Fatal(err)
				}
				other, err := newTable(c, parts)
				if err != nil {
					t.Fatal(err)
				}
				if err := other.Load(&b); err != nil {
					t.Fatal(err)
				}
				if err := tab.Close(); err != nil {
					t.Fatal(err)
				}
				tab = other
			},
			"": func(t *rapid.T) {
				if s := tab.Stats(); s.Rows != len(ref.rows) || c.Budget > 0 && s.Resident > int64(c.Budget) || c.Budget == 0 && s.Spilled > 0 {
					t.Fatalf("%+v with %d rows and budget %d", s, len(ref.rows), c.Budget)
				}
				seen := 0
				if err := tab.Each(func(rows []uint64, values []float32) error {
					seen += len(rows)
					for i, r := range rows {
						l := ref.rows[r]
						if l == nil {
							t.Fatalf("row %d was never updated", r)
						}
						want := slices.Clone(l.x)
						for _, m := range l.rule.State() {
							x := make([]float32, w)
							if err := m.CopyTo(x); err != nil {
								t.Fatal(err)
							}
							want = append(want, x...)
						}
						if got := values[i*len(want):][:len(want)]; !equal(got, want) {
							t.Fatalf("row %d with its state is %v, expected %v", r, got, want)
						}
					}
					return nil
				}); err != nil {
					t.Fatal(err)
				}
				if seen != len(ref.rows) {
					t.Fatalf("Each shows %d rows of %d", seen, len(ref.rows))
				}
			},
		})
	})
}
