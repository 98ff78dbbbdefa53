package data

import (
	"crypto/sha256"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/covey-ml/covey/rng"
)

// labelled returns n samples whose classes 0 to k-1 occur in unequal numbers, in no order.
func labelled(n, k int) Dataset {
	class := make([]int32, n)
	r := rng.New(9, "test/labelled")
	for i := range class {
		class[i] = int32(min(r.IntN(k), r.IntN(k)))
		if i < k {
			class[i] = int32(i)
		}
	}
	return Dense("labelled", 1, make([]float32, n), class, k)
}

func TestEachSampleBelongsToOneClient(t *testing.T) {
	ds := labelled(1000, 10)
	for _, how := range []string{"iid", "contiguous", "label:2", "label:10", "label:k=3", "dirichlet:0.001", "dirichlet:0.1", "dirichlet:alpha=1", "dirichlet:1000", "size:0", "size:1.5", "size:10"} {
		for _, clients := range []int{1, 5, 7, 10, 100} {
			if how == "label:2" && clients < 5 || how == "label:k=3" && clients < 4 {
				continue // refused, below
			}
			for seed := range uint64(3) {
				parts, err := Partition(ds, clients, how, seed)
				if err != nil {
					t.Errorf("%s, %d clients, seed %d: %v", how, clients, seed, err)
					continue
				}
				var got []int
				for c, p := range parts {
					if len(p) == 0 || !slices.IsSorted(p) {
						t.Errorf("%s, %d clients, seed %d: client %d has %v", how, clients, seed, c, p)
					}
					got = append(got, p...)
				}
				slices.Sort(got)
				if len(parts) != clients || !slices.Equal(got, all(ds.Len())) {
					t.Errorf("%s, %d clients, seed %d: %d clients hold %d samples", how, clients, seed, len(parts), len(got))
				}
				again, _ := Partition(ds, clients, how, seed)
				if fmt.Sprint(again) != fmt.Sprint(parts) {
					t.Errorf("%s, %d clients, seed %d: a second call divides otherwise", how, clients, seed)
				}
			}
		}
	}
}

// counts returns each client's samples by class.
func counts(ds Dataset, parts [][]int) [][]int {
	var out [][]int
	for _, p := range parts {
		n := make([]int, ds.Info().Classes)
		for _, i := range p {
			n[ds.Label(i)]++
		}
		out = append(out, n)
	}
	return out
}

func TestPartitionByLabelGivesEachClientKClasses(t *testing.T) {
	ds := labelled(5000, 10)
	for _, k := range []int{1, 2, 3, 9} {
		parts, err := Partition(ds, 20, fmt.Sprintf("label:%d", k), 4)
		if err != nil {
			t.Fatal(err)
		}
		for c, n := range counts(ds, parts) {
			if has := len(n) - count(n, 0); has != k {
				t.Errorf("label:%d: client %d has %d classes: %v", k, c, has, n)
			}
		}
	}
}

func count(s []int, v int) int {
	n := 0
	for _, x := range s {
		if x == v {
			n++
		}
	}
	return n
}

// Hsu et al., section 3: as alpha grows, clients approach the distribution of the data; as it falls to zero, a client's
// samples come from one class.
func TestDirichletLimits(t *testing.T) {
	ds := labelled(10000, 5)
	whole := counts(ds, [][]int{all(ds.Len())})[0]
	parts, err := Partition(ds, 10, "dirichlet:1e6", 2)
	if err != nil {
		t.Fatal(err)
	}
	for c, n := range counts(ds, parts) {
		for l, k := range n {
			p := float64(whole[l]) / 10000
			if dev := math.Sqrt(1000 * p * (1 - p)); math.Abs(float64(k)-1000*p) > 5*dev {
				t.Errorf("seed 2: client %d has %d samples of class %d, expected about %.0f", c, k, l, 1000*p)
			}
		}
		if len(parts[c]) != 1000 {
			t.Errorf("client %d has %d samples, expected equal sizes", c, len(parts[c]))
		}
	}
	parts, err = Partition(ds, 100, "dirichlet:0.001", 2)
	if err != nil {
		t.Fatal(err)
	}
	pure := 0
	for _, n := range counts(ds, parts)[:50] { // before classes run out
		if slices.Max(n) == 100 {
			pure++
		}
	}
	if pure < 40 {
		t.Errorf("seed 2: %d of the first 50 clients hold one class, expected nearly all", pure)
	}
}

func TestPartitionSizes(t *testing.T) {
	ds := labelled(1000, 3)
	parts, err := Partition(ds, 4, "sizes:500,300,150,50", 1)
	if err != nil {
		t.Fatal(err)
	}
	for c, want := range []int{500, 300, 150, 50} {
		if len(parts[c]) != want {
			t.Errorf("client %d has %d samples, expected %d", c, len(parts[c]), want)
		}
	}
	// 996 samples beyond one each in proportion 1, 1/2, 1/3, 1/4: 478.08, 239.04, 159.36, 119.52.
	if got := powerLaw(1000, 4, 1); !slices.Equal(got, []int{479, 240, 160, 121}) {
		t.Errorf("power law of 1000 among 4: %v", got)
	}
	if got := powerLaw(1000, 3, 0); !slices.Equal(got, []int{334, 333, 333}) {
		t.Errorf("equal sizes of 1000 among 3: %v", got)
	}
	contiguous, _ := Partition(ds, 3, "contiguous", 1)
	if contiguous[1][0] != 333 || contiguous[1][332] != 665 {
		t.Errorf("the second of three runs is %d to %d", contiguous[1][0], contiguous[1][332])
	}
}

func TestPartitionRefuses(t *testing.T) {
	ds := labelled(100, 10)
	reg := DenseTargets("numbers", 1, make([]float32, 100), make([]float32, 100), 1)
	for _, c := range []struct {
		ds      Dataset
		clients int
		how     string
		says    string
	}{
		{ds, 3, "idd", `unknown partition "idd": did you mean "iid"?`},
		{ds, 3, "iid:3", `iid: does not take the value "3"`},
		{ds, 0, "iid", "0 clients for 100 samples: expected 1 to 100"},
		{ds, 101, "iid", "101 clients for 100 samples"},
		{ds, 3, "label:2", "leave some of the 10 classes to nobody: use at least 4 classes a client"},
		{ds, 3, "label:11", "11 classes a client, expected 1 to 10"},
		{reg, 3, "label:2", "numbers has no classes (regression): use iid, contiguous or size"},
		{reg, 3, "dirichlet:1", "numbers has no classes"},
		{ds, 3, "dirichlet:0", "alpha is 0, expected above 0"},
		{ds, 3, "dirichlet:beta=1", `unknown parameter "beta"`},
		{ds, 3, "size:-1", "exponent is -1, expected 0 to 10"},
		{ds, 3, "sizes:50,50", "2 sizes that sum to 100, expected 3 sizes"},
		{ds, 2, "sizes:50,51", "2 sizes that sum to 101, expected 2 sizes, one a client, that sum to 100"},
		{labelled(12, 10), 6, "label:7", "would have no sample"},
	} {
		if _, err := Partition(c.ds, c.clients, c.how, 1); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s among %d clients: %v, expected %q", c.how, c.clients, err, c.says)
		}
	}
}

// Partitions are part of the determinism contract: every platform must draw these.
func TestPartitionsAreTheSameEverywhere(t *testing.T) {
	ds := labelled(3000, 10)
	h := sha256.New()
	for _, how := range []string{"iid", "label:2", "dirichlet:0.1", "dirichlet:5", "size:1.5"} {
		parts, err := Partition(ds, 17, how, 3)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(h, how, parts)
	}
	const want = "db9f3747ac1c43358283eeafa7b843640dc990994fa44ed653dc7c73b3ebd4e8"
	if got := fmt.Sprintf("%x", h.Sum(nil)); got != want {
		t.Errorf("hash %s, expected %s: did a partition change, or does this platform round otherwise?", got, want)
	}
}

func TestTable(t *testing.T) {
	ds := mustRead(t, "1,a\n2,b\n3,a\n4,b\n5,c\n", Options{})
	var b strings.Builder
	if err := Table(&b, ds, [][]int{{0, 1, 2}, {3, 4}}); err != nil {
		t.Fatal(err)
	}
	want := "  client  samples  a  b  c\n       0        3  2  1  0\n       1        2  0  1  1\n"
	if b.String() != want {
		t.Errorf("the table is\n%sexpected\n%s", b.String(), want)
	}
	b.Reset()
	if err := Table(&b, labelled(100, 25), [][]int{all(100)}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "5 more\n") {
		t.Errorf("a table of 25 classes is\n%s", b.String())
	}
}

func TestLogarithmAndExponential(t *testing.T) {
	r := rng.New(1, "test/ln")
	for range 100000 {
		x := math.Ldexp(r.Float64()+0.5, r.IntN(200)-100)
		if got, want := ln(x), math.Log(x); math.Abs(got-want) > 1e-15*max(1, math.Abs(want)) {
			t.Fatalf("ln(%v) = %v, expected %v", x, got, want)
		}
		x = (r.Float64() - 0.5) * 1400
		if got, want := exp(x), math.Exp(x); math.Abs(got-want) > 1e-14*want {
			t.Fatalf("exp(%v) = %v, expected %v", x, got, want)
		}
	}
	if ln(1) != 0 || exp(0) != 1 || exp(math.Inf(-1)) != 0 {
		t.Errorf("ln 1 = %v, exp 0 = %v, exp -Inf = %v", ln(1), exp(0), exp(math.Inf(-1)))
	}
}

// A Gamma(shape, 1) variable has mean and variance shape; its logarithm has mean digamma(shape), which for a small shape
// is about -1/shape.
func TestGamma(t *testing.T) {
	const n = 200000
	for _, shape := range []float64{0.3, 0.7, 1, 2.5, 40} {
		r := rng.New(1, "test/gamma")
		sum, square := 0.0, 0.0
		for range n {
			g := math.Exp(lnGamma(r, shape))
			sum += g
			square += g * g
		}
		mean := sum / n
		variance := square/n - mean*mean
		if math.Abs(mean-shape) > 6*math.Sqrt(shape/n) {
			t.Errorf("seed 1: gamma of shape %v has mean %v", shape, mean)
		}
		// The variance of the squared deviation is 2 shape^2 + 6 shape.
		if math.Abs(variance-shape) > 6*math.Sqrt((2*shape*shape+6*shape)/n) {
			t.Errorf("seed 1: gamma of shape %v has variance %v", shape, variance)
		}
	}
	r := rng.New(1, "test/gamma")
	sum := 0.0
	for range n {
		sum += lnGamma(r, 1e-3)
	}
	// Mean -1000.577, deviation about 1000.
	if mean := sum / n; math.Abs(mean+1000.577) > 6*1000/math.Sqrt(n) {
		t.Errorf("seed 1: the logarithm of a gamma of shape 0.001 has mean %v, expected -1000.6", mean)
	}
}
