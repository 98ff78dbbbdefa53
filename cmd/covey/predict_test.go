package main

import (
	"context"
	"encoding/json"
	"io"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/internal/realdata"
	"github.com/covey-ml/covey/job"
	"github.com/covey-ml/covey/model"
)

// fixed is a model whose outputs are the first features of each sample.
type fixed struct {
	model.Model
	outputs int
}

func (f fixed) Outputs() int { return f.outputs }

func (f fixed) Predict(_ context.Context, _ []float32, b *data.Batch, out []float32) error {
	for k := range b.N {
		copy(out[k*f.outputs:(k+1)*f.outputs], b.X[k*b.Dim:])
	}
	return nil
}

func (f fixed) Eval(_ context.Context, _ []float32, b *data.Batch) (model.Metrics, error) {
	m := model.Metrics{N: b.N}
	for k := range b.N {
		for t := range len(b.Y) / b.N {
			d := float64(b.X[k*b.Dim+t] - b.Y[k*f.outputs+t])
			m.SqErr += d * d
		}
	}
	return m, nil
}

// R2 against values worked by hand: residuals 1, 0, -1, 0 of targets 1, 2, 3, 6 (mean 3, squares 14) leave 1 - 2/14; the
// second target never changes, so nothing is to be explained.
func TestRegressionScore(t *testing.T) {
	ds := data.DenseTargets("d", 2, []float32{2, 5, 2, 5, 2, 5, 6, 5}, []float32{1, 5, 2, 5, 3, 5, 6, 5}, 2)
	l := &learned{schema: data.SchemaOf(ds), choice: job.Choice("linear"), dir: "c", model: fixed{outputs: 2}, predict: fixed{outputs: 2}}
	sc, err := newScore(context.Background(), l, subject{ds, "d"})
	if err != nil {
		t.Fatal(err)
	}
	one, two := sc.Targets[0], sc.Targets[1]
	if math.Abs(one.RMSE-math.Sqrt(0.5)) > 1e-12 || one.R2 == nil || math.Abs(*one.R2-(1-2.0/14)) > 1e-12 {
		t.Errorf("%+v", one)
	}
	if two.RMSE != 0 || two.R2 != nil || sc.R2 != nil {
		t.Errorf("%+v %v", two, sc.R2)
	}
	var b strings.Builder
	if err := sc.print(&b); err != nil || !strings.Contains(b.String(), "value 1  0.707107  0.857143\nvalue 2  0         -\n") {
		t.Errorf("%v\n%s", err, b.String())
	}
}

// A table of many classes is not printed; the commonest mistakes are.
func TestManyClasses(t *testing.T) {
	const classes = 25
	var x []float32
	var class []int32
	for i := range 4 * classes {
		c := i % classes
		class = append(class, int32(c))
		row := make([]float32, classes)
		if c == 3 && i > classes {
			row[7] = 1 // three of four
		} else {
			row[c] = 1
		}
		x = append(x, row...)
	}
	ds := data.Dense("d", classes, x, class, classes)
	l := &learned{schema: data.SchemaOf(ds), dir: "c", model: fixed{outputs: classes}, predict: fixed{outputs: classes}}
	sc, err := newScore(context.Background(), l, subject{ds, "d"})
	if err != nil {
		t.Fatal(err)
	}
	if sc.Confusion[3][7] != 3 || sc.Confusion[3][3] != 1 || sc.Confusion[4][4] != 4 {
		t.Error(sc.Confusion)
	}
	var b strings.Builder
	if err := sc.print(&b); err != nil || !strings.Contains(b.String(), "true class  predicted  times\n3           7          3\n") {
		t.Errorf("%v\n%s", err, b.String())
	}
}

// Predictions that are no numbers leave JSON whole.
func TestJSONLine(t *testing.T) {
	l := &learned{schema: &data.Schema{Task: data.Regression, Targets: 2, Named: true, TargetNames: []string{`a "b"`, "c"}}}
	line := l.jsonLine(nil, 3, []float32{float32(math.NaN()), 1.5}, []float32{1, 2})
	var v struct {
		Sample     int
		Prediction map[string]*float64
		Truth      map[string]float64
	}
	if err := json.Unmarshal(line, &v); err != nil || v.Sample != 3 || v.Prediction[`a "b"`] != nil || *v.Prediction["c"] != 1.5 || v.Truth["c"] != 2 {
		t.Errorf("%s: %v %+v", line, err, v)
	}
}

// command runs covey in this process.
func command(t *testing.T, stdin io.Reader, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs strings.Builder
	code = run(context.Background(), args, stdin, &out, &errs)
	return out.String(), errs.String(), code
}

// What predict finds on real data is what the run reported.
func TestPredictRealData(t *testing.T) {
	for _, c := range []struct {
		name  string
		flags []string
		beat  float64
	}{
		{"mnist", []string{"--model", "mlp:32", "--steps", "150"}, 0.85},
		{"a9a", []string{"--model", "logistic", "--steps", "300", "--lr", "0.01"}, 0.82},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := realdata.Path(t, c.name)
			dir := filepath.Join(t.TempDir(), "run")
			args := append([]string{"train", "--data", path, "--transport", "inproc", "--quiet", "--json", "--run", dir}, c.flags...)
			trained, stderr, code := command(t, nil, args...)
			if code != exitDone {
				t.Fatal(code, stderr)
			}
			want := accuracyIn(t, trained)
			if want < c.beat {
				t.Errorf("accuracy %v, expected more than %v", want, c.beat)
			}
			for _, args := range [][]string{{}, {"--data", path}, {"--data", path, "--on", "test"}} {
				out, stderr, code := command(t, nil, append([]string{"predict", dir, "--json"}, args...)...)
				if code != exitDone {
					t.Fatal(args, code, stderr)
				}
				if got := accuracyIn(t, out); got != want {
					t.Errorf("%v: accuracy %v, the run's is %v", args, got, want)
				}
			}
		})
	}
}

func accuracyIn(t *testing.T, text string) float64 {
	t.Helper()
	var v struct{ Accuracy *float64 }
	if err := json.Unmarshal([]byte(text), &v); err != nil || v.Accuracy == nil {
		t.Fatalf("no accuracy in %s (%v)", text, err)
	}
	return *v.Accuracy
}
