//go:build !race

package train_test

import (
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/covey-ml/covey/train"
)

// A step in the steady state allocates nothing: over an epoch of a hundred steps, what its end allocates (the sample
// books of all, the next order) is all there is. The race detector empties pools at random, hence the build tag.
func TestStepAllocatesNothing(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection would empty the pools
	for _, workers := range []int{1, 2, 3} {
		c := config(t, "mlp:24")
		c.Ahead = workers < 3
		c.Test, c.Batch, c.Microshards, c.SaveEvery = nil, 3, 3, 1<<30
		mallocs := func(epochs int) uint64 {
			var before, after runtime.MemStats
			c.Epochs = epochs
			runtime.ReadMemStats(&before)
			if _, err := train.Local(t.Context(), workers, timeout, c); err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			return after.Mallocs - before.Mallocs
		}
		mallocs(2)
		short, long := mallocs(2), mallocs(22)
		if n := (float64(long) - float64(short)) / 2000 / float64(workers); n > 0.3 {
			t.Errorf("%d workers: %.2f objects a step and worker", workers, n)
		}
	}
}
