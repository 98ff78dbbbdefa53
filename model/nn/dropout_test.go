package nn

import (
	"context"
	"math"
	"slices"
	"testing"

	"github.com/covey-ml/covey/data"
)

// masks runs ones through a dropout layer at position index and returns its output for samples ids.
func masks(t *testing.T, p float64, index int, seed uint64, ids []int, dim int) []float32 {
	t.Helper()
	var layers []Layer
	for range index {
		layers = append(layers, Dropout{})
	}
	layers = append(layers, Dropout{P: p}, Dense{Out: 2})
	net, x, _ := build(t, Config{In: dim, Layers: layers, Head: CrossEntropy{}})
	b := &data.Batch{N: len(ids), Dim: dim, ID: ids, Seed: seed, X: make([]float32, len(ids)*dim)}
	for i := range b.X {
		b.X[i] = 1
	}
	ws := newWorkspace(net)
	if _, err := ws.forward(context.Background(), x, b, true); err != nil {
		t.Fatal(err)
	}
	return ws.pass[index].y
}

// TestDropoutFollowsSample: a sample's mask is the same in any batch and place, and differs by sample, layer and seed.
func TestDropoutFollowsSample(t *testing.T) {
	const dim = 101
	ids := []int{5, 9, 1, 700, 33}
	whole := masks(t, 0.5, 0, 1, ids, dim)
	for i, id := range ids {
		if !slices.Equal(masks(t, 0.5, 0, 1, []int{2, id}, dim)[dim:], whole[i*dim:(i+1)*dim]) {
			t.Errorf("sample %d has another mask in another batch", id)
		}
		for j := range i {
			if slices.Equal(whole[i*dim:(i+1)*dim], whole[j*dim:(j+1)*dim]) {
				t.Errorf("samples %d and %d have one mask", id, ids[j])
			}
		}
	}
	if slices.Equal(masks(t, 0.5, 1, 1, ids, dim), whole) {
		t.Error("two layers have one mask")
	}
	if slices.Equal(masks(t, 0.5, 0, 2, ids, dim), whole) {
		t.Error("two seeds have one mask")
	}
}

// TestDropoutRate: the share of zeros is P within five standard deviations, for each place in a pair of values and for
// neighbours at once, and what is kept is scaled by 1/(1-P).
func TestDropoutRate(t *testing.T) {
	const dim, n = 64, 1000
	ids := make([]int, n)
	for i := range ids {
		ids[i] = i
	}
	for _, p := range []float64{0, 0.1, 0.5, 0.9} {
		y := masks(t, p, 0, 17, ids, dim)
		var even, odd, both float64
		for i := 0; i < len(y); i += 2 {
			for k := range 2 {
				if y[i+k] != 0 && y[i+k] != float32(1/(1-p)) {
					t.Fatalf("a kept 1 became %v at P=%v", y[i+k], p)
				}
			}
			if y[i] == 0 {
				even++
			}
			if y[i+1] == 0 {
				odd++
			}
			if y[i] == 0 && y[i+1] == 0 {
				both++
			}
		}
		pairs := float64(len(y) / 2)
		for _, c := range []struct {
			name      string
			got, want float64
		}{{"even", even, p}, {"odd", odd, p}, {"both", both, p * p}} {
			if tol := 5 * math.Sqrt(c.want*(1-c.want)/pairs); math.Abs(c.got/pairs-c.want) > tol {
				t.Errorf("P=%v: %s places are zero at a rate of %v", p, c.name, c.got/pairs)
			}
		}
	}
}
