package train

import (
	"context"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/data"
)

// What is handed out does not depend on whether it was prepared ahead, through epochs that end in the middle of a batch,
// and nothing is left running.
func TestFeedAhead(t *testing.T) {
	defer goleak.VerifyNone(t)
	ds := data.DenseTargets("numbers", 1, []float32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, make([]float32, 10), 1)
	const shards, steps = 3, 11
	ids := map[bool][]int{}
	seeds := map[bool][]uint64{}
	for _, ahead := range []bool{false, true} {
		s, err := data.NewSampler(10, 4, 1)
		if err != nil {
			t.Fatal(err)
		}
		f := &feed{ds: ds, sampler: sliced{s, shards, Pace{Batch: 4}}, seed: 1, step: 2, last: 2 + steps, ahead: ahead, clock: comm.RealClock()}
		for step := 2; step < 2+steps; step++ {
			f.begin(t.Context(), step)
			for _, leaf := range []int{2, 0} {
				b, err := f.take(leaf)
				if err != nil {
					t.Fatal(err)
				}
				ids[ahead], seeds[ahead] = append(ids[ahead], b.ID...), append(seeds[ahead], b.Seed)
				for i, id := range b.ID {
					if b.X[i] != float32(id) {
						t.Fatalf("sample %d has value %v", id, b.X[i])
					}
				}
			}
		}
		f.stop()
	}
	if !slices.Equal(ids[true], ids[false]) || !slices.Equal(seeds[true], seeds[false]) {
		t.Errorf("ahead: samples %v, else %v", ids[true], ids[false])
	}
}

// An order that changes is refused, and a context that ends ends the wait.
func TestFeedErrors(t *testing.T) {
	defer goleak.VerifyNone(t)
	ds := data.DenseTargets("numbers", 1, []float32{0, 1, 2, 3}, make([]float32, 4), 1)
	s, err := data.NewSampler(4, 4, 1)
	if err != nil {
		t.Fatal(err)
	}
	f := &feed{ds: ds, sampler: sliced{s, 2, Pace{Batch: 4}}, seed: 1, last: 2, ahead: true, clock: comm.RealClock()}
	defer f.stop()
	ctx, cancel := context.WithCancel(t.Context())
	for step := range 2 {
		f.begin(ctx, step)
		if _, err := f.take(step); step == 0 && err != nil || step == 1 && (err == nil || !strings.Contains(err.Error(), "order, [0]")) {
			t.Errorf("step %d: error %v", step, err)
		}
	}
	if _, err := f.take(0); err != nil { // the last one that there is
		t.Error(err)
	}
	f.next = 0
	cancel()
	if _, err := f.take(0); err != context.Canceled {
		t.Errorf("after the end: error %v", err)
	}
}
