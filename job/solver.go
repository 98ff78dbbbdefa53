package job

import (
	"fmt"
	"slices"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/strategy/convex"
	"github.com/covey-ml/covey/train"
)

// solverShards is the number of slices of the data for a solver, when the job does not say and no more workers want one: it
// is fixed, so that the number of workers changes no bit.
const solverShards = 8

// smooth are the models whose objective has second derivatives.
var smooth = []string{"linear", "ridge", "logistic", "softmax"}

// Solves tells whether the strategy is one of package convex.
func (j *Job) Solves() bool {
	return slices.Contains([]string{Newton, LBFGS}, j.Strategy.Name())
}

// solver reads the strategy's parameters: the solver's, and the most iterations.
func (j *Job) solver() (o convex.Options, iterations int, err error) {
	s, err := j.Strategy.Spec()
	if err != nil {
		return o, 0, err
	}
	o.Method = convex.Method(s.Name)
	o.Tol = s.Float("tol", 1e-8)
	iterations = 1000
	if o.Method == convex.Newton {
		o.Solve = s.Word("solve", "", convex.Cholesky, convex.CG)
		iterations = 100
	} else {
		o.Memory = s.Int("memory", 10)
	}
	iterations = s.Int("iterations", iterations)
	if err := s.Done(); err != nil {
		return o, 0, err
	}
	if iterations < 1 {
		return o, 0, fmt.Errorf("%s: iterations is %d: at least 1", s.Name, iterations)
	}
	if o.Tol == 0 || o.Memory == 0 && o.Method == convex.LBFGS {
		return o, 0, fmt.Errorf("%s: tol and memory are above 0", s.Name)
	}
	return o, iterations, o.Check()
}

// fillSolver checks what goes with a solver. An epoch is one of its iterations.
func (j *Job) fillSolver() error {
	_, iterations, err := j.solver()
	if err != nil {
		return j.Errorf("strategy", "%w", err)
	}
	name := j.Strategy.Name()
	switch {
	case j.Model.Name() == "lasso":
		return j.Errorf("strategy", "%s needs second derivatives, and the lasso's absolute penalty has none: use allreduce with the optimizer sgd, or the model ridge", name)
	case !slices.Contains(smooth, j.Model.Name()):
		return j.Errorf("strategy", "%s solves linear, ridge, logistic and softmax: for %s use allreduce", name, j.Model.Name())
	case j.Given("optimizer"):
		return j.Errorf("optimizer", "%s needs none: leave it out, or give --strategy allreduce", name)
	case j.Given("lr"):
		return j.Errorf("lr", "%s finds its steps itself: leave it out, or give --strategy allreduce", name)
	case j.Schedule != "" && j.Schedule != "constant":
		return j.Errorf("schedule", "%s has no rate: leave it out, or give --strategy allreduce", name)
	case j.Given("batch"):
		return j.Errorf("batch", "%s takes the whole training set in each step: leave it out, or give --strategy allreduce", name)
	}
	if !j.Given("epochs") {
		j.Epochs = iterations
	}
	return nil
}

// solverConfig is the solver's part of Build.
func (j *Job) solverConfig(m model.Model, tr, test data.Dataset) (train.Config, error) {
	o, _, err := j.solver()
	if err != nil {
		return train.Config{}, j.Errorf("strategy", "%w", err)
	}
	n := tr.Len()
	if !j.Given("microshards") {
		j.Microshards = min(n, j.Microshards)
	}
	if j.Microshards > n {
		return train.Config{}, j.Errorf("microshards", "%d slices of %d samples: at most one a sample", j.Microshards, n)
	}
	parameters := m.Layout().Len()
	if _, err := convex.New(o, parameters); err != nil {
		return train.Config{}, j.Errorf("strategy", "%w", err)
	}
	save := j.Save
	if save == 0 { // an iteration costs more than saving it only when it takes many passes
		save = map[convex.Method]int{convex.Newton: 10, convex.LBFGS: 100}[o.Method]
	}
	c := j.config(m, tr, test)
	c.Optimizer, c.Batch, c.Microshards, c.Epochs, c.Steps, c.SaveEvery, c.TestAtSaves = "sgd", n, j.Microshards, j.Epochs, j.Steps, save, true
	c.Strategy = func() strategy.Strategy {
		s, err := convex.New(o, parameters)
		if err != nil {
			panic(err) // it was made before
		}
		return s
	}
	return c, nil
}
