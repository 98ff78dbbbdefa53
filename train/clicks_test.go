package train_test

import (
	"slices"
	"testing"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/rng"
	"github.com/covey-ml/covey/train"
)

// clicks draws samples of some of 60 features, each of which speaks for a class.
func clicks(t *testing.T, name string, n int) data.Dataset { return farClicks(t, name, n, 1) }

// farClicks are those of features that are numbered so many apart.
func farClicks(t *testing.T, name string, n, apart int) data.Dataset {
	t.Helper()
	const dim = 60
	r := rng.New(5, name)
	row, class := []int{0}, []int32{}
	var col []int32
	for range n {
		said := 2 * (r.Float64() - 0.5)
		for c := r.IntN(9); c < dim; c += 1 + r.IntN(20) {
			col = append(col, int32(c*apart))
			said += float64(c%7-3) / 3
		}
		row = append(row, len(col))
		class = append(class, 0)
		if said > 0 {
			class[len(class)-1] = 1
		}
	}
	ds, err := data.CSR(name, dim*apart, row, col, slices.Repeat([]float32{1}, len(col)), class, 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	return ds
}

// Models with tables train by all-reduce as any other: with the same bits, the same test and the same AUC, over three blocks of
// the test set, for any number of workers, each byte as the formulas say.
func TestClicks(t *testing.T) {
	tr, test := clicks(t, "train", 600), clicks(t, "test", 1100)
	for _, of := range []struct{ model, optimizer string }{
		{"ctr-logistic", "ftrl:l1=0.1"}, {"wide-deep:6,embedding=4,dropout=0.1", "adagrad"}, {"wide-deep:6", "ftrl:l2=0.1"},
	} {
		c := train.Config{Model: build(t, of.model, tr), Train: tr, Test: test, Optimizer: of.optimizer, Rate: 0.1, Batch: 60, Microshards: 6, Epochs: 4, Seed: 3}
		var first *train.Report
		for _, n := range []int{1, 2, 3, 5, 7} {
			c := c
			var epochs []float64
			c.Events.Epoch = func(e train.EpochInfo) {
				if e.Test.AUC != nil {
					epochs = append(epochs, *e.Test.AUC)
				}
			}
			if n > 1 {
				c.Events = train.Events{} // told on every worker
			}
			r, err := train.Local(t.Context(), n, timeout, c)
			if err != nil {
				t.Fatal(err)
			}
			if first == nil {
				first = r
				if len(epochs) != 4 || epochs[3] != *r.AUC {
					t.Errorf("%s: the epochs' AUCs are %v, the report's %v", of.model, epochs, *r.AUC)
				}
			}
			if r.Weights != first.Weights || *r.AUC != *first.AUC || *r.TestLoss != *first.TestLoss || r.BytesSent != r.BytesExpected {
				t.Errorf("%s, %d workers: weights %.12s, AUC %v, loss %v, one worker's %.12s, %v, %v; %d bytes sent, %d expected",
					of.model, n, r.Weights, *r.AUC, *r.TestLoss, first.Weights, *first.AUC, *first.TestLoss, r.BytesSent, r.BytesExpected)
			}
		}
		if *first.AUC < 0.85 {
			t.Errorf("%s: an AUC of %v: nothing was learned", of.model, *first.AUC)
		}
	}
}
