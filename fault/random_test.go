package fault

import (
	"errors"
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestRandomFits(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := Chaos{
			Workers: rapid.IntRange(1, 20).Draw(rt, "workers"),
			Steps:   rapid.SampledFrom([]int{0, 1, 5, 1000}).Draw(rt, "steps"),
			Span:    rapid.SampledFrom([]time.Duration{0, 1, time.Millisecond, time.Minute, 999 * time.Hour}).Draw(rt, "span"),
			Links:   rapid.SampledFrom([][]string{nil, {"a-b"}, {"a-b", "b-c", "c-d"}}).Draw(rt, "links"),
			Faults:  rapid.IntRange(0, 40).Draw(rt, "faults"),
		}
		seed := rapid.Uint64().Draw(rt, "seed")
		s := Random(seed, c)
		if !reflect.DeepEqual(s, Random(seed, c)) {
			rt.Fatal("the same arguments drew another script")
		}
		links := func(name string) error {
			if !slices.Contains(c.Links, name) {
				return errors.New("no such link")
			}
			return nil
		}
		if err := s.Check(c.Workers, c.Steps, links); err != nil {
			rt.Fatal(err)
		}
		// Slow and corrupt fit every run.
		if len(s) > c.Faults || (len(s) == 0) != (c.Faults == 0) {
			rt.Fatalf("%d faults, at most %d were asked for", len(s), c.Faults)
		}
		killed := 0
		for _, f := range s {
			if f.Kind == Kill {
				killed += len(f.Ranks)
			}
			if c.Steps == 0 && (f.From.Step > 0 || f.To.Step > 0) || c.Span == 0 && (f.From.Time > 0 || f.To.Time > 0 || f.For > 0) {
				rt.Fatalf("%v: moments of a kind that the run has not", f)
			}
			if f.From.Time >= c.Span && f.From.Time > 0 {
				rt.Fatalf("%v begins after %v", f, c.Span)
			}
		}
		if killed >= c.Workers {
			rt.Fatalf("all %d ranks are killed", c.Workers)
		}
	})
}

// Kinds, ranks and moments are drawn evenly. 8 kinds, 8 ranks and tenths of the run are compared with what even draws
// would give by chi-squared at a chance of one in a million; the seeds are fixed, so the test says the same each time.
func TestRandomCovers(t *testing.T) {
	c := Chaos{Workers: 8, Steps: 1000, Span: 10 * time.Second, Links: []string{"a", "b"}, Faults: 1}
	kind, rank, step, tenth := make([]int, 8), make([]int, 8), make([]int, 10), make([]int, 10)
	byStep, lasting := 0, 0
	for seed := range uint64(8000) {
		f := Random(seed, c)[0]
		kind[f.Kind]++
		if f.Kind == Stop {
			rank[f.Ranks[0]]++
			if f.From.Step > 0 {
				byStep++
			}
			if f.To != (Moment{}) || f.For > 0 {
				lasting++
			}
		}
		if f.From.Step > 0 {
			step[(f.From.Step-1)/100]++
		} else if f.Kind == Stop || f.Kind == Kill || f.Kind == Partition {
			tenth[f.From.Time/time.Second]++
		}
	}
	for name, n := range map[string][]int{"kinds": kind, "ranks": rank, "steps": step, "times": tenth} {
		sum, chi := 0, 0.0
		for _, x := range n {
			sum += x
		}
		want := float64(sum) / float64(len(n))
		for _, x := range n {
			chi += (float64(x) - want) * (float64(x) - want) / want
		}
		// 99.9999th percentiles of chi-squared with 7 and 9 degrees of freedom.
		if most := map[int]float64{8: 40.6, 10: 44.9}[len(n)]; chi > most || sum < 900 {
			t.Errorf("%s: %v: chi-squared %.1f, most %v", name, n, chi, most)
		}
	}
	if stops := kind[Stop]; math.Abs(float64(byStep)-float64(stops)/2) > 5*math.Sqrt(float64(stops)/4) || lasting != stops {
		t.Errorf("of %d stops %d are by step and %d end", stops, byStep, lasting)
	}
}

func TestRandomKinds(t *testing.T) {
	c := Chaos{Workers: 4, Steps: 10, Kinds: []Kind{Kill, Drop}, Faults: 100}
	s := Random(1, c)
	for _, f := range s {
		if f.Kind != Kill {
			t.Errorf("%v in a run without links", f)
		}
	}
	if len(s) == 0 || len(s) > 3 {
		t.Errorf("%d kills of 4 ranks", len(s))
	}
	if s := Random(1, Chaos{Workers: 4, Steps: 10, Kinds: []Kind{Drop}, Faults: 100}); len(s) != 0 {
		t.Errorf("nothing fits, and it drew %v", s)
	}
}
