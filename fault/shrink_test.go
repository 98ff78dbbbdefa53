package fault

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A failure that needs two certain faults of 30 is found as exactly these two, at their simplest, wherever they stand.
func TestShrinkFindsTwoOfThirty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := drawThirty(rt)
		i := rapid.IntRange(0, 29).Draw(rt, "i")
		j := (i + rapid.IntRange(1, 29).Draw(rt, "apart")) % 30
		i, j = min(i, j), max(i, j)
		fails := func(s Script) bool { return s.holds(100+i) && s.holds(100+j) }
		got := Shrink(s, fails, 2000)
		if len(got) != 2 || got[0].Ranks[0] != 100+i || got[1].Ranks[0] != 100+j || !fails(got) {
			rt.Fatalf("shrunk to\n%s", got)
		}
		for _, f := range got {
			if l := f.To.Time - f.From.Time; f.From.Time != 0 || l != time.Millisecond && l != 0 || f.From.Step > 1 || len(f.Ranks) > 1 {
				rt.Fatalf("not the simplest: %v", f)
			}
		}
	})
}

// drawThirty draws 30 faults, fault i with rank 100+i, which no other has.
func drawThirty(t *rapid.T) Script {
	seed := rapid.Uint64().Draw(t, "seed")
	var s Script
	for i := uint64(0); len(s) < 30; i++ {
		for _, f := range Random(seed+i, Chaos{Workers: 50, Steps: 1000, Span: time.Hour, Faults: 3, Kinds: []Kind{Kill, Stop, Slow}}) {
			f.Ranks = append(f.Ranks, 100+len(s))
			if f.For == 0 && len(s) < 30 {
				s = append(s, f)
			}
		}
	}
	return s
}

func (s Script) holds(rank int) bool {
	return slices.ContainsFunc(s, func(f Fault) bool { return has(f.Ranks, rank) })
}

func TestShrinkAsksOnceAndNoMoreThanTries(t *testing.T) {
	s := Random(3, Chaos{Workers: 40, Steps: 1000, Span: time.Hour, Faults: 60, Kinds: []Kind{Stop, Slow, Partition}})
	if len(s) < 20 {
		t.Fatalf("only %d faults", len(s))
	}
	need := s[len(s)/2]
	for _, tries := range []int{0, 1, 2, 7, 50, 2000} {
		asked := map[string]bool{}
		n := 0
		got := Shrink(s, func(s Script) bool {
			n++
			if asked[s.String()] {
				t.Fatalf("asked twice about\n%s", s)
			}
			asked[s.String()] = true
			return slices.ContainsFunc(s, func(f Fault) bool { return f.Kind == need.Kind && has(f.Ranks, need.Ranks[0]) })
		}, tries)
		if n > tries {
			t.Errorf("%d tries, %d were allowed", n, tries)
		}
		switch {
		case tries < 2 && len(got) != len(s):
			t.Errorf("%d faults after %d tries", len(got), tries)
		case tries == 2000 && len(got) != 1:
			t.Errorf("not the shortest:\n%s", got)
		}
	}
	before := s.String()
	if got := Shrink(s, func(Script) bool { return false }, 100); got.String() != before || s.String() != before {
		t.Error("a script that does not fail came back changed")
	}
	if got := Shrink(s, func(Script) bool { return true }, 100); len(got) != 0 {
		t.Errorf("a run that fails by itself:\n%s", got)
	}
}

// What is found does not change when it is shrunk again, and no single fault of it can be left out (1-minimal), also
// where a failure is not monotone: here an even number of faults of at least 4, one of them fault 0.
func TestShrinkIsMinimal(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := drawThirty(rt)
		fails := func(s Script) bool { return len(s) >= 4 && len(s)%2 == 0 && s.holds(100) }
		got := Shrink(s, fails, 100_000)
		for i := range got {
			if fails(slices.Delete(slices.Clone(got), i, i+1)) {
				rt.Fatalf("%v is not needed in\n%s", got[i], got)
			}
		}
		if again := Shrink(got, fails, 100_000); again.String() != got.String() {
			rt.Fatalf("shrunk again:\n%s", again)
		}
	})
}

// Zeller and Hildebrandt, 2002, section 3: ddmin takes at most |c|^2 + 3|c| tests, and at most 2 log2 |c| when one item
// alone makes it fail.
func TestDdminTests(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.IntRange(1, 60).Draw(rt, "size")
		list := consecutive(0, size)
		need := rapid.SliceOfNDistinct(rapid.IntRange(0, size-1), 1, size, rapid.ID).Draw(rt, "need")
		tests := 0
		got := ddmin(list, func(part []int) bool {
			tests++
			return !slices.ContainsFunc(need, func(n int) bool { return !slices.Contains(part, n) })
		})
		slices.Sort(need)
		if !slices.Equal(got, need) {
			rt.Fatalf("found %v, needed %v", got, need)
		}
		if most := size*size + 3*size; tests > most {
			rt.Fatalf("%d tests of %d items, most %d", tests, size, most)
		}
		if most := 2 * math.Ceil(math.Log2(float64(size))); len(need) == 1 && float64(tests) > most {
			rt.Fatalf("%d tests for one of %d items, most %v", tests, size, most)
		}
	})
}
