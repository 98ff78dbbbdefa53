package network

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/covey-ml/covey/rng"
)

// Draws are part of what a simulation computes: they are the same everywhere.
func ExampleSpread_Factor() {
	s, _ := ParseSpread("lognormal:0.3")
	u, _ := ParseSpread("uniform:0.8,1.2")
	fmt.Println(s, s.Factor(1, 0), s.Factor(1, 1))
	fmt.Println(u, u.Factor(1, 0), u.Factor(1, 1))
	// Output:
	// lognormal:0.3 1.2202313747193747 1.8528026366880006
	// uniform:0.8,1.2 1.085667210105448 1.055696542615178
}

// The logarithm of a log-normal factor is normal: its mean is 0, its deviation sigma, and as many are within one and two
// deviations as the normal distribution says. Bounds are six standard errors of the mean over the draws.
func TestSpreadIsLogNormal(t *testing.T) {
	const n, sigma = 20000, 0.3
	s := Spread{Kind: "lognormal", Sigma: sigma}
	var sum, squares, one, two float64
	for h := range n {
		z := math.Log(s.Factor(7, h)) / sigma
		sum, squares = sum+z, squares+z*z
		if math.Abs(z) < 1 {
			one++
		}
		if math.Abs(z) < 2 {
			two++
		}
	}
	for what, c := range map[string][3]float64{
		"mean":                  {sum / n, 0, 1},
		"second moment":         {squares / n, 1, math.Sqrt2},
		"within one deviation":  {one / n, 0.6826895, 0.4654},
		"within two deviations": {two / n, 0.9544997, 0.2084},
	} {
		if bound := 6 * c[2] / math.Sqrt(n); math.Abs(c[0]-c[1]) > bound {
			t.Errorf("%s is %v, want %v within %v", what, c[0], c[1], bound)
		}
	}
}

func TestSpreadIsUniform(t *testing.T) {
	const n = 20000
	s := Spread{Kind: "uniform", Low: 0.5, High: 2}
	var tenths [10]int
	for h := range n {
		x := s.Factor(7, h)
		if x < 0.5 || x > 2 {
			t.Fatalf("host %d: %v", h, x)
		}
		tenths[min(9, int((x-0.5)/1.5*10))]++
	}
	chi := 0.
	for _, k := range tenths {
		chi += float64(k-n/10) * float64(k-n/10) / (n / 10)
	}
	if chi > 33.7 { // the 0.0001 quantile from above, 9 degrees of freedom
		t.Errorf("%v: chi squared %v", tenths, chi)
	}
	if (Spread{}).Factor(7, 3) != 1 || s.Factor(7, 3) == s.Factor(8, 3) || s.Factor(7, 3) != s.Factor(7, 3) {
		t.Error("a factor depends on seed and host, and no spread is 1")
	}
}

func TestSpreadPrintsAndParses(t *testing.T) {
	for _, text := range []string{"none", "uniform:0.8,1.2", "uniform:1,1", "lognormal:0.3"} {
		s, err := ParseSpread(text)
		if err != nil || s.String() != text {
			t.Errorf("%s prints as %v, %v", text, s, err)
		}
	}
	for _, text := range []string{"", "normal", "none:1", "uniform:0,1", "uniform:2,1", "uniform:1,2,3", "lognormal:-1", "lognormal:NaN", "lognormal:9", "uniform:low=x"} {
		if s, err := ParseSpread(text); err == nil {
			t.Errorf("%q is %v", text, s)
		}
	}
}

// Slowed computations follow the Pareto distribution: a share of f^-Shape of them is slower than f, until Most.
func TestTailIsPareto(t *testing.T) {
	const n = 100000
	tail := Tail{Probability: 0.25, Shape: 1.5, Most: 20}
	var slowed, two, five, most float64
	for step := range n {
		f := tail.Factor(rng.Key(3, "tail", 5, uint64(step)))
		if f < 1 || f > 20 {
			t.Fatalf("step %d: %v", step, f)
		}
		for limit, count := range map[float64]*float64{1: &slowed, 2: &two, 5: &five, 19.999999: &most} {
			if f > limit {
				*count++
			}
		}
	}
	for what, c := range map[string][2]float64{
		"slowed":      {slowed / n, 0.25},
		"twice":       {two / n, 0.25 * math.Pow(2, -1.5)},
		"five times":  {five / n, 0.25 * math.Pow(5, -1.5)},
		"cut at Most": {most / n, 0.25 * math.Pow(20, -1.5)},
	} {
		if bound := 6 * math.Sqrt(c[1]*(1-c[1])/n); math.Abs(c[0]-c[1]) > bound {
			t.Errorf("%s: %v, want %v within %v", what, c[0], c[1], bound)
		}
	}
	if f := (Tail{}).Factor(1); f != 1 {
		t.Errorf("no tail slows by %v", f)
	}
}

func TestSlowAt(t *testing.T) {
	m := Machine{Slow: []Slow{{Factor: 3, From: 10 * time.Second, To: 60 * time.Second}, {Factor: 2, From: 50 * time.Second}}}
	for at, want := range map[int][2]float64{0: {1, 10}, 9: {1, 10}, 10: {3, 50}, 49: {3, 50}, 50: {6, 60}, 59: {6, 60}, 60: {2, 0}, 1000: {2, 0}} {
		f, until := m.SlowAt(time.Duration(at) * time.Second)
		if f != want[0] || until.Seconds() != want[1] {
			t.Errorf("at %ds: %v until %v, want %v", at, f, until, want)
		}
	}
}
