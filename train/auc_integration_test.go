//go:build integration

package train

import (
	"bytes"
	"encoding/json"
	"math"
	"os/exec"
	"testing"

	"github.com/covey-ml/covey/internal/python"
	"github.com/covey-ml/covey/rng"
)

// TestAUCIsScikitLearns: on samples with and without ties, of even classes and of rare ones.
func TestAUCIsScikitLearns(t *testing.T) {
	py := python.With(t, "sklearn")
	type question struct {
		P     []float32 `json:"p"`
		Class []int32   `json:"class"`
	}
	var all []question
	for seed := range uint64(8) {
		r := rng.New(seed, "test auc")
		var q question
		for i := range 5000 {
			rare := int32(0)
			if r.IntN(1+20*int(seed%2)) == 0 {
				rare = int32(r.IntN(2))
			}
			if i < 2 {
				rare = int32(i)
			}
			p := r.Float32()*0.8 + 0.2*float32(rare)
			if seed >= 4 {
				p = float32(int(p*20)) / 20
			}
			q.P, q.Class = append(q.P, p), append(q.Class, rare)
		}
		all = append(all, q)
	}
	in, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(py, "-c", `
import json, sys
from sklearn.metrics import roc_auc_score
print(json.dumps([roc_auc_score(q["class"], q["p"]) for q in json.load(sys.stdin)]))
`)
	var complaint bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, complaint.String())
	}
	var want []float64
	if err := json.Unmarshal(out, &want); err != nil {
		t.Fatal(err)
	}
	for i, q := range all {
		if got := auc(appendScores(nil, outputs(q.P), q.Class)); got == nil || math.Abs(*got-want[i]) > 1e-12 {
			t.Errorf("question %d: %v, scikit-learn's %v", i, *got, want[i])
		}
	}
}
