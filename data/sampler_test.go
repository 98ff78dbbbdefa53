package data

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestSamplerUsesEachSampleOnceAnEpoch(t *testing.T) {
	for _, c := range []struct{ n, batch, steps, last int }{{1, 1, 1, 1}, {10, 10, 1, 10}, {10, 3, 4, 1}, {10, 5, 2, 5}, {10, 7, 2, 3}, {1000, 256, 4, 232}} {
		s, err := NewSampler(c.n, c.batch, 7)
		if err != nil {
			t.Fatal(err)
		}
		if s.Steps() != c.steps || s.Len() != c.n {
			t.Errorf("%d samples in batches of %d: %d steps", c.n, c.batch, s.Steps())
		}
		for epoch := range 3 {
			var got []int
			for step := range s.Steps() {
				b := s.Batch(epoch, step)
				if want := c.batch; step == c.steps-1 && len(b) != c.last || step < c.steps-1 && len(b) != want {
					t.Errorf("%d samples in batches of %d: step %d has %d", c.n, c.batch, step, len(b))
				}
				got = append(got, b...)
			}
			slices.Sort(got)
			if !slices.Equal(got, all(c.n)) {
				t.Errorf("%d samples in batches of %d: epoch %d holds %v", c.n, c.batch, epoch, got)
			}
		}
	}
}

// A batch depends on (seed, epoch, step) alone: not on what was asked before, and it has these values everywhere.
func TestBatchDependsOnSeedEpochAndStep(t *testing.T) {
	fresh := func(seed uint64, epoch, step int) []int {
		s, err := NewSampler(100, 8, seed)
		if err != nil {
			t.Fatal(err)
		}
		return s.Batch(epoch, step)
	}
	s, _ := NewSampler(100, 8, 3)
	for _, at := range [][2]int{{5, 2}, {0, 12}, {5, 2}, {1, 0}, {0, 0}} {
		if got, want := s.Batch(at[0], at[1]), fresh(3, at[0], at[1]); !slices.Equal(got, want) {
			t.Errorf("epoch %d, step %d: %v from a used sampler, %v from a fresh one", at[0], at[1], got, want)
		}
	}
	if slices.Equal(fresh(3, 0, 0), fresh(4, 0, 0)) || slices.Equal(fresh(3, 0, 0), fresh(3, 1, 0)) {
		t.Error("seed or epoch does not change the batch")
	}
	const want = "[79 38 29 20 64 8 9 53]"
	if got := fmt.Sprint(fresh(3, 2, 1)); got != want {
		t.Errorf("seed 3, epoch 2, step 1: %s, expected %s", got, want)
	}
}

func TestSamplerRefuses(t *testing.T) {
	for _, c := range []struct {
		n, batch int
		says     string
	}{
		{10, 11, "batch is 11 and there are only 10 samples: use a batch of at most 10"},
		{10, 0, "batch is 0, expected 1 to 10"},
		{0, 1, "no samples"},
	} {
		if _, err := NewSampler(c.n, c.batch, 1); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%d samples in batches of %d: %v, expected %q", c.n, c.batch, err, c.says)
		}
	}
}

func TestSamplerAllocatesNothingWithinAnEpoch(t *testing.T) {
	s, _ := NewSampler(10000, 100, 1)
	s.Batch(0, 0)
	step := 0
	if n := testing.AllocsPerRun(50, func() { s.Batch(0, step); step++ }); n != 0 {
		t.Errorf("Batch allocates %v times within an epoch", n)
	}
	epoch := 1
	if n := testing.AllocsPerRun(20, func() { s.Batch(epoch, 0); epoch++ }); n > 4 {
		t.Errorf("Batch allocates %v times for a new epoch, expected its generator only", n)
	}
}

// Workers that share a sampler, some of them an epoch ahead, get what each would get from its own; and what they hold stays.
func TestSamplerIsShared(t *testing.T) {
	const n, batch, epochs = 1000, 90, 6
	s, err := NewSampler(n, batch, 4)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			own, _ := NewSampler(n, batch, 4)
			held := s.Batch(w%2, 3)
			for e := w % 2; e < epochs; e++ {
				for step := range s.Steps() {
					if !slices.Equal(s.Batch(e, step), own.Batch(e, step)) {
						t.Errorf("worker %d: another batch in epoch %d, step %d", w, e, step)
					}
				}
			}
			if fresh, _ := NewSampler(n, batch, 4); !slices.Equal(held, fresh.Batch(w%2, 3)) {
				t.Errorf("worker %d: what it holds has changed", w)
			}
		})
	}
	wg.Wait()
}

// The first place of a shuffled order holds each sample about equally often.
func TestShuffleIsUniform(t *testing.T) {
	const n, epochs = 10, 20000
	var first, last [n]int
	s, _ := NewSampler(n, n, 5)
	for e := range epochs {
		b := s.Batch(e, 0)
		first[b[0]]++
		last[b[n-1]]++
	}
	for i := range n {
		for _, got := range []int{first[i], last[i]} {
			if d := got - epochs/n; d < -250 || d > 250 { // 6 deviations of 42
				t.Errorf("seed 5: sample %d is first %d and last %d times of %d, expected about %d", i, first[i], last[i], epochs, epochs/n)
			}
		}
	}
}

func TestSlice(t *testing.T) {
	for m := 1; m <= 17; m++ {
		for n := range 40 {
			at := 0
			for i := range m {
				lo, hi := Slice(i, m, n)
				if lo != at || hi < lo || hi-lo != n/m && hi-lo != (n+m-1)/m {
					t.Fatalf("slice %d of %d of %d samples is %d to %d", i, m, n, lo, hi)
				}
				at = hi
			}
			if at != n {
				t.Fatalf("%d slices of %d samples end at %d", m, n, at)
			}
		}
	}
}
