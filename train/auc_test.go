package train

import (
	"math"
	"testing"

	"github.com/covey-ml/covey/rng"
)

// pairwise is the area under the ROC curve by its definition: over all pairs of a positive and a negative sample.
func pairwise(p []float32, class []int32) float64 {
	won, all := 0.0, 0.0
	for i := range p {
		for j := range p {
			if class[i] == 1 && class[j] == 0 {
				all++
				switch {
				case p[i] > p[j]:
					won++
				case p[i] == p[j]:
					won += 0.5
				}
			}
		}
	}
	return won / all
}

// outputs is the probabilities of both classes.
func outputs(p []float32) []float32 {
	var out []float32
	for _, v := range p {
		out = append(out, 1-v, v)
	}
	return out
}

func TestAUC(t *testing.T) {
	for seed := range uint64(60) {
		r := rng.New(seed, "test auc")
		n := 2 + r.IntN(200)
		p, class := make([]float32, n), make([]int32, n)
		for i := range p {
			class[i] = int32(r.IntN(2))
			p[i] = float32(r.IntN(1+int(seed))) / float32(1+seed) // with ties, and at first nothing else
			if r.IntN(4) == 0 {
				p[i] = r.Float32()
			}
		}
		class[0], class[1] = 0, 1
		// In any pieces, in any order.
		cut := r.IntN(n)
		packed := appendScores(nil, outputs(p[cut:]), class[cut:])
		packed = appendScores(packed, outputs(p[:cut]), class[:cut])
		if got, want := auc(packed), pairwise(p, class); got == nil || math.Abs(*got-want) > 1e-12 {
			t.Errorf("seed %d, %d samples: %v, want %v", seed, n, got, want)
		}
	}
}

func TestAUCByHand(t *testing.T) {
	for _, c := range []struct {
		p     []float32
		class []int32
		want  float64 // -1: none
	}{
		{[]float32{0, 1}, []int32{0, 1}, 1},
		{[]float32{1, 0}, []int32{0, 1}, 0},
		{[]float32{0.5, 0.5, 0.5}, []int32{0, 1, 0}, 0.5},
		// scikit-learn's example: of the pairs (0.35, 0.1), (0.35, 0.4), (0.8, 0.1), (0.8, 0.4) one is in the wrong order.
		{[]float32{0.1, 0.4, 0.35, 0.8}, []int32{0, 0, 1, 1}, 0.75},
		{[]float32{0.1, 0.4}, []int32{1, 1}, -1},
		{[]float32{0.1, 0.4}, []int32{0, 0}, -1},
		{nil, nil, -1},
	} {
		got := auc(appendScores(nil, outputs(c.p), c.class))
		if (got == nil) != (c.want < 0) || got != nil && *got != c.want {
			t.Errorf("%v of classes %v: %v, want %v", c.p, c.class, got, c.want)
		}
	}
}
