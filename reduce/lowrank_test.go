package reduce

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/covey-ml/covey/vec"
)

// PowerSGD's sum of gradients times a power of two is the sum times it, bit for bit, over the steps: a factor is a
// direction, and what its length is comes from the gradient of the step. Gradients 2^70 times as large or as small, whose
// squares float32 does not hold, are approximated as well as others.
func TestPowerSGDHasNoUnits(t *testing.T) {
	for _, rules := range []string{"powersgd:2+ef", "powersgd:4"} {
		plain := newWorld(t, 3, 3, rules, nil)
		var want [][]float32
		for step := range 5 {
			got, _ := plain.must(step, 64, nil)
			want = append(want, got)
		}
		for _, exp := range []int{-80, -70, -20, 20, 70, 100} {
			t.Run(fmt.Sprint(rules, "/", exp), func(t *testing.T) {
				w := newWorld(t, 3, 3, rules, nil)
				by := float32(math.Ldexp(1, exp))
				for step := range want {
					got, _ := w.must(step, 64, func(parts [][][]float32) {
						for _, p := range parts {
							vec.Scale(by, p[0])
						}
					})
					for i, v := range got {
						if v != by*want[step][i] {
							t.Fatalf("step %d: element %d is %v, expected %v times %v", step, i, v, want[step][i], by)
						}
					}
				}
			})
		}
	}
}

// A sum of factors that is no number any more ends the call on all ranks, which may go on with another vector.
func TestPowerSGDOverflows(t *testing.T) {
	const rows, cols, size = 48, 64, 3e37
	w := newWorld(t, 2, 2, "powersgd:2", nil)
	w.must(0, 64, nil)
	s := &w.red[0].(*Compressed).segments[0]
	before := slices.Clone(s.q)
	for k := range 2 { // M Q is still a number
		sum := 0.0
		for _, v := range before[k*cols : (k+1)*cols] {
			sum += float64(v)
		}
		if 2*size*math.Abs(sum) > math.MaxFloat32/2 {
			t.Fatalf("column %d of the factor adds up to %v", k, sum)
		}
	}
	if 2*size*math.Sqrt(rows) < math.MaxFloat32 { // nor is M'P
		t.Fatal("nothing overflows")
	}
	parts := [][][]float32{w.vectors(0, 1), w.vectors(1, 1)}
	for _, p := range parts {
		for i := range rows * cols {
			p[0][testHead+i] = size
		}
	}
	for rank, err := range w.sum(parts, 1, 64) {
		if !errors.Is(err, ErrNotFinite) {
			t.Errorf("rank %d: %v", rank, err)
		}
	}
	if !slices.Equal(s.q, before) {
		t.Error("the factor to start from is another one")
	}
	got, _ := w.must(2, 64, nil)
	if !vec.Finite(got) {
		t.Error("the next sum is not finite")
	}
}
