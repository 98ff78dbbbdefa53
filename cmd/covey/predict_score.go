package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/train"
	"github.com/covey-ml/covey/vec"
)

// score is how well a model predicts samples whose labels are known.
type score struct {
	l    *learned
	what string

	Model     string        `json:"model"`
	Step      int           `json:"step"`
	Weights   string        `json:"weights_sha256"`
	Samples   int           `json:"samples"`
	Accuracy  *float64      `json:"accuracy,omitempty"`
	AUC       *float64      `json:"auc,omitempty"` // of two classes
	Loss      float64       `json:"loss"`          // mean over the samples
	RMSE      *float64      `json:"rmse,omitempty"`
	R2        *float64      `json:"r2,omitempty"` // mean over the targets
	Correct   int           `json:"correct,omitempty"`
	Classes   []string      `json:"classes,omitempty"`
	Confusion [][]int       `json:"confusion,omitempty"` // a row for each true class, a column for each predicted one
	Targets   []targetScore `json:"targets,omitempty"`
}

// targetScore is the error of one number to predict. R2 is the part of the target's variance that the predictions
// explain: 1 less the squared errors over the squared distances from the mean. It is nil when all targets are equal.
type targetScore struct {
	Name string   `json:"name"`
	RMSE float64  `json:"rmse"`
	R2   *float64 `json:"r2"`
}

// newScore measures. Accuracy, loss and RMSE come from the very sums that the run's report has.
func newScore(ctx context.Context, l *learned, s subject) (*score, error) {
	m, err := train.Evaluate(ctx, l.model, l.x, s)
	if err != nil {
		return nil, err
	}
	n := float64(m.N)
	sc := &score{l: l, what: s.what, Model: string(l.choice), Step: l.step, Weights: l.weights, Samples: m.N, Loss: m.Loss / n}
	if l.schema.Task == data.Classification {
		acc := float64(m.Correct) / n
		sc.Accuracy, sc.Correct, sc.AUC = &acc, m.Correct, m.AUC
		return sc, sc.confuse(ctx, s)
	}
	rmse := math.Sqrt(m.SqErr / n)
	sc.RMSE = &rmse
	return sc, sc.regress(ctx, s)
}

func (sc *score) confuse(ctx context.Context, s subject) error {
	classes := sc.l.predict.Outputs()
	for c := range classes {
		sc.Classes = append(sc.Classes, sc.l.class(c))
		sc.Confusion = append(sc.Confusion, make([]int, classes))
	}
	return sc.l.each(ctx, s, func(_ int, b *data.Batch, k int, out []float32) error {
		sc.Confusion[b.Class[k]][vec.ArgMax(out)]++
		return nil
	})
}

func (sc *score) regress(ctx context.Context, s subject) error {
	t := sc.l.schema.Targets
	truth, wrong := make([][]float64, t), make([]float64, t)
	err := sc.l.each(ctx, s, func(_ int, b *data.Batch, k int, out []float32) error {
		for j, v := range out {
			y := float64(b.Y[k*t+j])
			truth[j] = append(truth[j], y)
			wrong[j] += (float64(v) - y) * (float64(v) - y)
		}
		return nil
	})
	if err != nil {
		return err
	}
	mean := 0.0
	for j, ys := range truth {
		one := targetScore{Name: sc.l.target(j), RMSE: math.Sqrt(wrong[j] / float64(len(ys)))}
		if total := squaredFromMean(ys); total > 0 {
			r2 := 1 - wrong[j]/total
			one.R2 = &r2
			mean += r2 / float64(t)
		}
		sc.Targets = append(sc.Targets, one)
	}
	if !slices.ContainsFunc(sc.Targets, func(s targetScore) bool { return s.R2 == nil }) {
		sc.R2 = &mean
	}
	return nil
}

func squaredFromMean(ys []float64) float64 {
	mean := 0.0
	for _, y := range ys {
		mean += y / float64(len(ys))
	}
	sum := 0.0
	for _, y := range ys {
		sum += (y - mean) * (y - mean)
	}
	return sum
}

func (sc *score) json(w io.Writer) error {
	b, err := json.Marshal(sc)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", b)
	return err
}

// line is the score in one line.
func (sc *score) line() string {
	if sc.Accuracy != nil {
		return fmt.Sprintf("%s: accuracy %.2f %% (%s of %s)", sc.what, 100**sc.Accuracy, thousands(sc.Correct), thousands(sc.Samples))
	}
	return fmt.Sprintf("%s: error %.6g (root mean square)", sc.what, *sc.RMSE)
}

// print writes the score for people.
func (sc *score) print(out io.Writer) error {
	fmt.Fprintf(out, "%s: %s\n%s\n\n", sc.what, count(sc.Samples, "sample"), sc.l.madeBy())
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	if sc.Accuracy != nil {
		fmt.Fprintf(w, "accuracy\t%.2f %%  (%s of %s)\n", 100**sc.Accuracy, thousands(sc.Correct), thousands(sc.Samples))
		if sc.AUC != nil {
			fmt.Fprintf(w, "AUC\t%.6g\n", *sc.AUC)
		}
		fmt.Fprintf(w, "loss\t%.6g  (mean)\n", sc.Loss)
	} else {
		fmt.Fprintf(w, "error\t%.6g  (root mean square)\n", *sc.RMSE)
		if sc.R2 != nil {
			fmt.Fprintf(w, "R2\t%.6g\n", *sc.R2)
		}
		fmt.Fprintf(w, "loss\t%.6g  (mean)\n", sc.Loss)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	switch {
	case sc.Accuracy == nil && len(sc.Targets) > 1:
		return sc.printTargets(out)
	case len(sc.Confusion) > widestConfusion:
		return sc.printMistakes(out)
	case sc.Accuracy != nil:
		return sc.printConfusion(out)
	}
	return nil
}

func (sc *score) printTargets(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprint(w, "\ntarget\terror\tR2\n")
	for _, t := range sc.Targets {
		r2 := "-"
		if t.R2 != nil {
			r2 = fmt.Sprintf("%.6g", *t.R2)
		}
		fmt.Fprintf(w, "%s\t%.6g\t%s\n", t.Name, t.RMSE, r2)
	}
	return w.Flush()
}

// widestConfusion is how many classes a table holds that people can read.
const widestConfusion = 20

// printConfusion is the table of true classes against predicted ones.
func (sc *score) printConfusion(out io.Writer) error {
	fmt.Fprintln(out, "\nrows: the true class; columns: the predicted one")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "\t")
	for _, name := range sc.Classes {
		fmt.Fprintf(w, "%s\t", name)
	}
	fmt.Fprint(w, "right\t\n")
	columns := make([]int, len(sc.Classes))
	for i, row := range sc.Confusion {
		fmt.Fprintf(w, "%s\t", sc.Classes[i])
		sum := 0
		for j, n := range row {
			sum += n
			columns[j] += n
			fmt.Fprintf(w, "%s\t", thousands(n))
		}
		fmt.Fprintf(w, "%s\t\n", part(row[i], sum))
	}
	fmt.Fprint(w, "right\t")
	for j, sum := range columns {
		fmt.Fprintf(w, "%s\t", part(sc.Confusion[j][j], sum))
	}
	fmt.Fprint(w, "\t\n")
	return w.Flush()
}

func part(n, of int) string {
	if of == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", 100*float64(n)/float64(of))
}

// printMistakes lists the commonest mistakes, where a table would be too wide.
func (sc *score) printMistakes(out io.Writer) error {
	type mistake struct{ truth, predicted, n int }
	var all []mistake
	for i, row := range sc.Confusion {
		for j, n := range row {
			if i != j && n > 0 {
				all = append(all, mistake{i, j, n})
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	slices.SortStableFunc(all, func(a, b mistake) int { return b.n - a.n })
	shown := all[:min(len(all), widestConfusion)]
	fmt.Fprintf(out, "\nthe commonest mistakes, %d of %s\n", len(shown), thousands(len(all)))
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprint(w, "true class\tpredicted\ttimes\n")
	for _, m := range shown {
		fmt.Fprintf(w, "%s\t%s\t%s\n", sc.Classes[m.truth], sc.Classes[m.predicted], thousands(m.n))
	}
	return w.Flush()
}
