package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/vec"
)

// predictOptions is one call of covey predict.
type predictOptions struct {
	data    string
	on      string
	format  string
	invert  string
	unknown string
	json    bool
	keys    keyFlags
}

const (
	onTest  = "test"
	onTrain = "train"

	formatText = "text"
	formatCSV  = "csv"
	formatJSON = "json"
)

func predictCommand() *cobra.Command {
	o := &predictOptions{}
	c := &cobra.Command{
		Use:   "predict RUN|CHECKPOINT",
		Short: "Use what a run has learned",
		Long: `Predict with the last whole checkpoint of a run folder, or with the checkpoint folder that is named. Without
--data, and for the data that the run was trained on, the samples are the run's own test set.

When the samples have labels the output is a score: accuracy and who was taken for whom, or the error of
regression. Otherwise it is a prediction a line, as it is with --format:
  text  the class or the value
  csv   with sample number, probability of each class, and the label if there is one
  json  the same, one object a line

--data - reads standard input: the format of the training data or, when that was images, also a PNG or JPEG
picture or plain numbers from 0 (paper) to 255 (ink). CSV may lack the target column, or have it empty, and
LIBSVM lines may lack the label.` + "\n" + exitHelp,
		Example: `  covey predict runs/mnist-mlp-1
  covey predict runs/mnist-mlp-1 --data seven.png
  covey predict runs/iris-softmax-1 --data new.csv --format csv
  head -n 5 new.csv | covey predict runs/iris-softmax-1/checkpoints/step-20 --data - --format json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("expected a run folder or a checkpoint folder, as in covey predict runs/mnist-mlp-1")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return o.run(c, args[0]) },
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&o.data, "data", "", "samples: a file, a folder, digits, or - for standard input (default: the run's own)")
	f.StringVar(&o.on, "on", "", "which set of the run's own data, or of a folder: test or train (default: test)")
	f.StringVar(&o.format, "format", "", "a prediction a line: text, csv or json")
	f.BoolVar(&o.json, "json", false, "print the score as one JSON object")
	f.StringVar(&o.invert, "invert", invertAuto, "swap light and dark of a picture: auto (when its border is light), yes or no")
	f.StringVar(&o.unknown, "unknown", "", "texts that the training data does not hold: error or zero (no indicator)")
	o.keys = addKeyFlags(c, "target_file", "header", "delimiter", "missing")
	return c
}

func (o *predictOptions) check() error {
	for _, f := range []struct {
		name, value string
		choices     []string
	}{{"--on", o.on, []string{onTest, onTrain}}, {"--format", o.format, []string{formatText, formatCSV, formatJSON}},
		{"--invert", o.invert, []string{invertAuto, invertYes, invertNo}}, {"--unknown", o.unknown, []string{"error", "zero"}}} {
		if f.value == "" {
			continue
		}
		if err := spec.OneOf(f.name, f.value, f.choices...); err != nil {
			return &usageError{err}
		}
	}
	if o.json && o.format != "" {
		return usagef("--json prints the score and --format %s the predictions: give one of them", o.format)
	}
	return nil
}

func (o *predictOptions) run(c *cobra.Command, path string) error {
	if err := o.check(); err != nil {
		return err
	}
	note := func(format string, args ...any) {
		fmt.Fprintf(c.ErrOrStderr(), "covey predict: "+format+"\n", args...)
	}
	p, err := findTarget(path)
	if err != nil {
		return err
	}
	l, err := load(p, note)
	if err != nil {
		return err
	}
	vec.SetThreads(runtime.GOMAXPROCS(0))
	defer vec.SetThreads(1)
	s, err := o.open(c, l, note)
	if err != nil {
		return err
	}
	has := labelled(s)
	if o.json && !has {
		return usagef("--json prints a score, and %s has no labels to score against: give --format json for the predictions", s.what)
	}
	out := bufio.NewWriter(c.OutOrStdout())
	switch {
	case o.json:
		err = o.score(c.Context(), l, s, (*score).json, out)
	case o.format == "" && has:
		err = o.score(c.Context(), l, s, (*score).print, out)
	default:
		err = writePredictions(c.Context(), l, s, o.format, has, out)
		if err == nil && !has && s.Len() == 1 && o.format == "" {
			err = surely(c.Context(), l, s, note)
		}
		if err == nil && has {
			err = o.score(c.Context(), l, s, func(s *score, w io.Writer) error {
				_, err := fmt.Fprintf(w, "covey predict: %s\n", s.line())
				return err
			}, c.ErrOrStderr())
		}
	}
	if e := out.Flush(); err == nil {
		err = e
	}
	return err
}

func (o *predictOptions) score(ctx context.Context, l *learned, s subject, print func(*score, io.Writer) error, w io.Writer) error {
	sc, err := newScore(ctx, l, s)
	if err != nil {
		return err
	}
	return print(sc, w)
}

// surely tells how sure the prediction of a single sample is.
func surely(ctx context.Context, l *learned, s subject, note func(format string, args ...any)) error {
	if l.schema.Task != data.Classification {
		return nil
	}
	return l.each(ctx, s, func(_ int, _ *data.Batch, _ int, out []float32) error {
		best := vec.ArgMax(out)
		next := 0
		if best == 0 {
			next = 1
		}
		for i, p := range out {
			if i != best && p > out[next] {
				next = i
			}
		}
		note("%s with probability %.1f %%, then %s with %.1f %%", l.class(best), 100*out[best], l.class(next), 100*out[next])
		return nil
	})
}

// madeBy says which checkpoint predicts.
func (l *learned) madeBy() string {
	where := l.run
	if where == "" {
		return fmt.Sprintf("%s of checkpoint %s", l.choice, l.dir)
	}
	if wd, err := os.Getwd(); err == nil && filepath.IsAbs(where) {
		if rel, err := filepath.Rel(wd, where); err == nil && !strings.HasPrefix(rel, "..") {
			where = rel
		}
	}
	return fmt.Sprintf("%s of %s after step %s", l.choice, where, thousands(l.step))
}
