package reduce

import (
	"math"
	"strings"
	"testing"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/comm"
)

// Ranks that get shares of what others kept, as ranks do when their number has changed, hand all of it out: with a
// compressor that loses nothing the next sum is the exact one and all that was kept, residuals of sums among it.
func TestSharesAreHandedOut(t *testing.T) {
	for _, rules := range []string{"identity+ef", "identity+ef+hosts"} {
		var hosts comm.Hosts
		if strings.HasSuffix(rules, "hosts") {
			hosts = comm.Hosts{0, 2}
		}
		w := newWorld(t, 3, 3, rules, hosts)
		owed := make([]float64, testHead+w.layout.Len())
		for rank, red := range w.red {
			state := red.(ckpt.Stateful).State()
			for i, x := range state {
				values := make([]float32, x.Len())
				kind, name, ok := strings.Cut(x.Name, "/")
				if !ok { // totals
					all := make([]float64, x.Len())
					for k := range all {
						all[k] = 64
					}
					state[i] = ckpt.Float64s(x.Name, x.Shape, all)
					continue
				}
				for _, s := range w.layout {
					for k := range values {
						if s.Name == name {
							values[k] = float32((k+rank)%17+1) * map[string]float32{"kept": 0.25, "both": 100}[kind]
							owed[testHead+s.Off+k] += float64(values[k])
						}
					}
				}
				state[i] = ckpt.Float32s(x.Name, x.Shape, values).With(x.Shard)
			}
			if len(state) != 5 {
				t.Fatalf("%s: %d tensors, expected two of each of two segments, and their totals", rules, len(state))
			}
			if err := red.(ckpt.Stateful).Load(state); err != nil {
				t.Fatal(err)
			}
		}
		got, exact := w.must(0, 64, nil)
		for i, v := range got {
			if want := exact[i] + owed[i]; math.Abs(float64(v)-want) > 1e-5*(math.Abs(exact[i])+owed[i]) {
				t.Fatalf("%s, element %d: %v, expected %v and the %v that were owed", rules, i, v, exact[i], owed[i])
			}
		}
		// Then nothing is owed any more.
		got, exact = w.must(1, 64, nil)
		for i, v := range got {
			if math.Abs(float64(v)-exact[i]) > 1e-3 {
				t.Fatalf("%s, element %d: %v in the second sum, expected %v", rules, i, v, exact[i])
			}
		}
	}
}

// What no sum can have left behind is refused before anything is changed.
func TestTotalsAreChecked(t *testing.T) {
	for _, bad := range []float64{math.NaN(), math.Inf(1), -1} {
		w := newWorld(t, 1, 1, "topk:0.05+ef", nil)
		red := w.red[0].(*Compressed)
		state := red.State()
		for i, x := range state {
			if x.Name == "totals" {
				all := make([]float64, x.Len())
				all[0] = bad
				state[i] = ckpt.Float64s(x.Name, x.Shape, all)
			} else {
				values := make([]float32, x.Len())
				values[0] = 1
				state[i] = ckpt.Float32s(x.Name, x.Shape, values).With(x.Shard)
			}
		}
		if err := red.Load(state); err == nil || !strings.Contains(err.Error(), "counts of samples") {
			t.Errorf("%v samples: %v", bad, err)
		}
		if red.segments[0].kept[0] != 0 {
			t.Errorf("%v samples: the residual was loaded", bad)
		}
	}
}
