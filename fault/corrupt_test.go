package fault

import (
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestSpoil(t *testing.T) {
	fresh := func() []float32 { return []float32{1, -2, 0, 0.5} }
	for how, want := range map[string][]float32{
		"sign-flip": {-1, 2, float32(math.Copysign(0, -1)), -0.5},
		"zero":      {0, 0, 0, 0},
		"scale:100": {100, -200, 0, 50},
		"scale:-1":  {-1, 2, float32(math.Copysign(0, -1)), -0.5},
	} {
		g := fresh()
		if err := Spoil(how, g, 1); err != nil {
			t.Fatal(err)
		}
		for i := range g {
			if math.Float32bits(g[i]) != math.Float32bits(want[i]) {
				t.Errorf("%s: %v, want %v", how, g, want)
			}
		}
	}
	g := fresh()
	if err := Spoil("nan", g, 1); err != nil || slices.ContainsFunc(g, func(x float32) bool { return x == x }) {
		t.Errorf("nan: %v, %v", g, err)
	}
	if err := Spoil("sing-flip", g, 1); err == nil || !strings.Contains(err.Error(), `did you mean "sign-flip"?`) {
		t.Errorf("a wrong name: %v", err)
	}
}

// Noise has mean 0, deviation 10, the normal distribution's fourth moment less what the sum of twelve lacks (its excess
// kurtosis is -1.2/12), no correlation from value to value, and is the key's alone.
func TestNoise(t *testing.T) {
	const n = 200_000
	draw := func(key uint64) []float32 {
		g := make([]float32, n)
		if err := Spoil("noise:10", g, key); err != nil {
			t.Fatal(err)
		}
		return g
	}
	g := draw(42)
	var m1, m2, m4, lag float64
	for i, x := range g {
		z := float64(x) / 10
		m1 += z / n
		m2 += z * z / n
		m4 += z * z * z * z / n
		lag += z * float64(g[(i+1)%n]) / 10 / n
	}
	// Five standard errors: var z = 1, var z^2 = 2 - 0.1, var z^4 below the normal's 96.
	root := math.Sqrt(n)
	if math.Abs(m1) > 5/root || math.Abs(m2-1) > 5*math.Sqrt(1.9)/root || math.Abs(m4-2.9) > 5*math.Sqrt(96)/root || math.Abs(lag) > 5/root {
		t.Errorf("mean %v, variance %v, fourth moment %v, next to next %v", m1, m2, m4, lag)
	}
	if !slices.Equal(g, draw(42)) || slices.Equal(g[:10], draw(43)[:10]) {
		t.Error("noise does not hang on the key")
	}
	if want := []float32{5.3741517, -9.9149275, 7.991448}; !slices.Equal(g[:3], want) {
		t.Errorf("the first draws are %v, and were %v", g[:3], want)
	}
}

func TestCorruptions(t *testing.T) {
	s := mustParse(t, "corrupt gradient of {1-2} zero\nkill 2 at step 1\ncorrupt gradient of 2 nan from step 3 to step 5\ncorrupt gradient of 2 zero to step 2")
	for _, c := range []struct {
		rank, step int
		want       []int
	}{{0, 3, nil}, {1, 3, []int{0}}, {2, 1, []int{0, 3}}, {2, 2, []int{0}}, {2, 3, []int{0, 2}}, {2, 4, []int{0, 2}}, {2, 5, []int{0}}} {
		if got := s.Corruptions(c.rank, c.step); !reflect.DeepEqual(got, c.want) {
			t.Errorf("rank %d at step %d: %v, want %v", c.rank, c.step, got, c.want)
		}
	}
}
