package hogwild

import (
	"math"
	"sync/atomic"
	"testing"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model/linear"
)

// A sample moves the parameters of its own features and the bias, and no others, along the gradient of its loss and its share of
// the regulariser: in a pass each parameter gets all of its pull, whatever the number of samples that have its feature.
func TestASampleMovesItsOwn(t *testing.T) {
	const dim, rate = 6, float32(0.25)
	row, col, val := []int{0, 3, 4, 6}, []int32{0, 2, 4, 2, 2, 5}, []float32{1, -2, 0.5, 3, 1, 1}
	ds, err := data.CSR("test", dim, row, col, val, []int32{1, 0, 1}, 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, bias := range []bool{true, false} {
		m, err := linear.NewLogistic(linear.Config{Dim: dim, N: 3, NoBias: !bias}, 2)
		if err != nil {
			t.Fatal(err)
		}
		n := m.Layout().Len()
		s := New(NewShared(ds))
		s.m, s.shared.x, s.shared.strength = m, make([]atomic.Uint32, n), strengths(m, ds, n)
		before := make([]float64, n)
		for j := range before {
			before[j] = float64(j%3) - 0.75
			store(&s.shared.x[j], float32(before[j]))
		}
		var b data.Batch
		data.View(ds, &b, 0, 3)
		loss := s.descend(&b, 0, rate)
		z := before[0] - 2*before[2] + 0.5*before[4]
		if bias {
			z += before[dim]
		}
		if want := math.Log1p(math.Exp(-z)); math.Abs(loss-want) > 1e-12 {
			t.Errorf("loss %v, expected %v", loss, want)
		}
		slope := -1 / (1 + math.Exp(z))
		have := map[int]float64{0: 1, 2: 3, 4: 1} // samples
		feature := map[int]float64{0: 1, 2: -2, 4: 0.5}
		for j := range before {
			want := before[j]
			if v, ok := feature[j]; ok {
				want = (want - float64(rate)*slope*v) / (1 + float64(rate)*(1.0/2/3)*3/have[j])
			} else if j == dim {
				want -= float64(rate) * slope
			}
			if got := float64(load(&s.shared.x[j])); math.Abs(got-want) > 1e-6 || feature[j] == 0 && j < dim && got != before[j] {
				t.Errorf("parameter %d is %v, expected %v", j, got, want)
			}
		}
	}
}

// A worker that asks to stop stops all after the same step: the newest that any of them may have begun.
func TestAllStopAfterTheSameStep(t *testing.T) {
	s := NewShared(nil)
	s.ranks[0], s.ranks[1] = &progress{}, &progress{}
	a := s.enter(0, 0, false)
	s.leave(a, 1, 2)
	a = s.enter(0, 1, false)
	if _, stop := s.leave(a, 6, 2); stop { // it may go on with step 2
		t.Error("worker 0 stops, and nobody has asked for it")
	}
	b := s.enter(1, 0, true)
	if _, stop := s.leave(b, 2, 2); stop {
		t.Error("worker 1 stops after step 0, and worker 0 may be in step 2")
	}
	for step := 1; step <= 2; step++ {
		b = s.enter(1, step, false)
		if mean, stop := s.leave(b, 2, 2); stop != (step == 2) || mean != 2 {
			t.Errorf("worker 1, step %d: stops: %v, loss %v", step, stop, mean)
		}
	}
	a = s.enter(0, 2, false)
	if _, stop := s.leave(a, 1, 2); !stop {
		t.Error("worker 0 does not stop after step 2")
	}
}
