// Package convex minimises the smooth convex objectives of the linear models, over all the training data at once, to as
// many digits as float64 has: F(x) = the mean of the samples' losses + sum d_i x_i^2 / 2.
//
// A step is one outer iteration: a direction, a point along it that lowers F enough, and F and its gradient there. Two
// methods find directions:
//
//	Newton   solves H d = -g. When parameters are few the Hessian H is summed over the workers and factored (Cholesky),
//	         and five to ten steps reach the optimum. Otherwise conjugate gradients solve the system as far as it pays,
//	         each of their iterations one pass over the data: the truncated Newton method of Lin, Weng and Keerthi, Trust
//	         region Newton method for large-scale logistic regression, JMLR 9, 2008, with a line search in the trust
//	         region's place (Galli and Lin, Truncated Newton methods for linear classification, 2021).
//	LBFGS    builds H's inverse from the last steps (Nocedal and Wright, Numerical Optimization, algorithm 7.5): one pass
//	         over the data a step, and more of them.
//
// The data stays where it is: each worker views its microshards once, in the data's own order, and keeps their margins
// z = A x. A trial point further along the direction costs sums over margins, not over features.
//
// All of it is float64. Each microshard's share of a sum is computed by itself, shares are added in the canonical tree
// (reduce.Summer64), and what follows is computed by every worker alike, so that the bits depend on the microshards and
// not on who owns them. The margins at a step's end are always computed from x anew, so that a resumed run has the bits of
// one that was not interrupted. Worker.X is x rounded to float32, which moves F by about 2^-50 of itself.
//
// Training is done when the gradient's norm is at most Tol of what it was at the start, or when nothing float64 can
// resolve is left to gain.
package convex

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/reduce"
	"github.com/covey-ml/covey/strategy"
)

// Method says how directions are found.
type Method string

// The methods, by their names in jobs.
const (
	Newton Method = "newton"
	LBFGS  Method = "lbfgs"
)

// Options are a strategy's parameters. The zero value of a field means what its comment says.
type Options struct {
	Method Method  // empty: Newton
	Tol    float64 // the end: norm of the gradient relative to that at the start; 0: 1e-8
	Memory int     // LBFGS: steps that the inverse is built from; 0: 10
	Solve  string  // Newton: cholesky, cg, or empty: cholesky where that is likely to be faster
}

// The choices for Options.Solve.
const (
	Cholesky = "cholesky"
	CG       = "cg"
)

func (o Options) filled() (Options, error) {
	if o.Method == "" {
		o.Method = Newton
	}
	if o.Tol == 0 {
		o.Tol = 1e-8
	}
	if o.Memory == 0 {
		o.Memory = 10
	}
	switch {
	case o.Method != Newton && o.Method != LBFGS:
		return o, fmt.Errorf("convex: no method is called %q: newton or lbfgs", o.Method)
	case !(o.Tol > 0 && o.Tol < 1):
		return o, fmt.Errorf("%s: tol is %v: above 0 and below 1", o.Method, o.Tol)
	case o.Memory < 1 || o.Memory > 1000:
		return o, fmt.Errorf("%s: memory is %d: 1 to 1000", o.Method, o.Memory)
	case o.Solve != "" && o.Solve != Cholesky && o.Solve != CG:
		return o, fmt.Errorf("%s: solve is %q: cholesky or cg", o.Method, o.Solve)
	}
	return o, nil
}

// Check says what is wrong with o.
func (o Options) Check() error {
	_, err := o.filled()
	return err
}

// Strategy is the state of one worker. It needs a model that is model.Curved, a Reducer that is reduce.Summer64, and
// steps that each take the whole training set.
type Strategy struct {
	o Options

	// The point, its gradient and objective; the trial point's; and the direction between them.
	x, g       []float64
	xTry, gTry []float64
	d          []float64
	f, fTry    value

	marks [markLen]float64 // kept in checkpoints
	past  past             // LBFGS's memory
	cg    cgRoom
	tri   []float64 // the Hessian's lower triangle
	eval  *oracle   // nil until this process's first step
	by    string    // how Newton solves
}

// value is an objective: the mean loss and the penalty.
type value struct{ loss, penalty float64 }

func (v value) sum() float64 { return v.loss + v.penalty }

const (
	markStart = iota // the gradient's norm at the start; 0 before the first step
	markStill        // steps in a row that gained nothing
	markLen
)

// New returns a worker's strategy for so many parameters.
func New(o Options, parameters int) (*Strategy, error) {
	o, err := o.filled()
	if err != nil {
		return nil, err
	}
	s := &Strategy{o: o}
	for _, v := range []*[]float64{&s.x, &s.g, &s.xTry, &s.gTry, &s.d} {
		*v = make([]float64, parameters)
	}
	if o.Method == LBFGS {
		s.past = newPast(o.Memory, parameters)
	}
	return s, nil
}

var _ strategy.Strategy = (*Strategy)(nil)

// String is the strategy's name in jobs and checkpoints, with its parameters.
func (s *Strategy) String() string {
	tol := strconv.FormatFloat(s.o.Tol, 'g', -1, 64)
	if s.o.Method == LBFGS {
		return fmt.Sprintf("lbfgs:memory=%d,tol=%s", s.o.Memory, tol)
	}
	if s.o.Solve != "" {
		return fmt.Sprintf("newton:solve=%s,tol=%s", s.o.Solve, tol)
	}
	return "newton:tol=" + tol
}

// State implements ckpt.Stateful.
func (s *Strategy) State() []ckpt.Tensor {
	return append(s.past.state(), ckpt.Float64s("x", nil, s.x), ckpt.Float64s("marks", nil, s.marks[:]))
}

// Load implements ckpt.Stateful.
func (s *Strategy) Load(ts []ckpt.Tensor) error {
	s.eval = nil // what was computed at the old x
	return ckpt.Restore(ts, s.State())
}

// Step does one outer iteration.
func (s *Strategy) Step(ctx context.Context, w *strategy.Worker) (strategy.Report, error) {
	clock := w.Group.Clock()
	began := clock.Now()
	fresh := s.eval == nil
	if fresh {
		if err := s.prepare(w); err != nil {
			return strategy.Report{}, err
		}
	}
	e := s.eval
	e.waited, e.stop = 0, false
	err := e.begin(w)
	if err == nil && fresh {
		err = s.arrive(ctx, w)
	}
	why := ""
	if err == nil {
		if why, err = s.reached(ctx); err == nil && why == "" {
			why, err = s.move(ctx)
		}
	}
	if err != nil {
		return strategy.Report{}, err
	}
	for i, v := range s.x {
		w.X[i] = float32(v)
	}
	rep := strategy.Report{Loss: s.f.loss, Stop: e.stop, Done: why != "", Why: why,
		Solving: &strategy.Solving{Objective: s.f.sum(), Gradient: s.relative()}}
	rep.Comm, rep.Wait = e.waited, e.waited
	rep.Compute = clock.Now() - began - e.waited
	return rep, nil
}

// prepare finds what the worker's parts must be able to do.
func (s *Strategy) prepare(w *strategy.Worker) error {
	m, ok := w.Model.(model.Curved)
	if !ok {
		return fmt.Errorf("%s: the model's objective has no second derivatives to solve with; use the strategy allreduce", s.o.Method)
	}
	sum, ok := w.Reducer.(reduce.Summer64)
	if !ok {
		return fmt.Errorf("%s: the reducer does not sum float64 exactly", s.o.Method)
	}
	switch {
	case comm.IsHollow(w.Group):
		return fmt.Errorf("%s: where a solver goes hangs on its numbers, and a run for times alone has none", s.o.Method)
	case w.Samples != w.Total:
		return fmt.Errorf("%s: a step must take the whole training set of %d samples, it is %d", s.o.Method, w.Total, w.Samples)
	case len(w.X) != len(s.x):
		return fmt.Errorf("%s: made for %d parameters, the model has %d", s.o.Method, len(s.x), len(w.X))
	}
	if s.o.Method == Newton {
		if err := s.choose(m); err != nil {
			return err
		}
	}
	s.eval = newOracle(w, m, sum, len(s.x))
	return nil
}

// arrive evaluates the point that this process starts at.
func (s *Strategy) arrive(ctx context.Context, w *strategy.Worker) error {
	if s.marks[markStart] == 0 {
		for i, v := range w.X {
			s.x[i] = float64(v)
		}
	}
	copy(s.xTry, s.x)
	if err := s.try(ctx); err != nil {
		return err
	}
	s.accept()
	if s.marks[markStart] == 0 {
		s.marks[markStart] = math.Sqrt(dot(s.g, s.g))
	}
	return nil
}

// try evaluates xTry.
func (s *Strategy) try(ctx context.Context) (err error) {
	s.fTry, err = s.eval.slope(ctx, s.gTry, s.xTry)
	return err
}

// accept makes the trial point the point.
func (s *Strategy) accept() {
	s.x, s.xTry = s.xTry, s.x
	s.g, s.gTry = s.gTry, s.g
	s.f = s.fTry
	s.eval.accept()
}

// relative is the gradient's norm relative to that at the start.
func (s *Strategy) relative() float64 {
	if s.marks[markStart] == 0 {
		return 0
	}
	return math.Sqrt(dot(s.g, s.g)) / s.marks[markStart]
}

// stillMost is how many steps in a row may gain nothing that float64 resolves.
const stillMost = 4

// reached says why the point is the end, or "".
func (s *Strategy) reached(ctx context.Context) (why string, err error) {
	rel := s.relative()
	switch {
	case rel <= s.o.Tol:
		grows, err := s.grows(ctx)
		if grows {
			return fmt.Sprintf("the gradient is %.2g of what it was at the start, but there is no optimum: the data is separable, and with no penalty the parameters grow for ever", rel), err
		}
		return fmt.Sprintf("the gradient is %.2g of what it was at the start, at most tol=%g", rel, s.o.Tol), err
	case s.marks[markStill] >= stillMost:
		return fmt.Sprintf("float64 resolves no further decrease; the gradient is %.2g of what it was at the start", rel), nil
	}
	return "", nil
}

// grows tells whether the gradient vanishes because the parameters grow without end, which takes a data term that falls to
// its infimum and no penalty. Then Newton's step along x itself is still a good part of x.
func (s *Strategy) grows(ctx context.Context) (bool, error) {
	if s.f.penalty > 0 || s.f.loss == 0 || dot(s.x, s.x) == 0 {
		return false, nil
	}
	if err := s.eval.bend(ctx, s.d, s.x); err != nil {
		return false, err
	}
	return -dot(s.g, s.x) > 0.01*dot(s.d, s.x), nil
}

// move does the iteration, and says why it is the last.
func (s *Strategy) move(ctx context.Context) (why string, err error) {
	if s.o.Method == LBFGS {
		err = s.quasi(ctx)
	} else {
		err = s.newton(ctx)
	}
	if err != nil {
		return "", err
	}
	before := s.f.sum()
	err = s.search(ctx)
	if errors.Is(err, errStuck) {
		if s.past.forget() { // the memory may be to blame: begin again from the gradient alone
			return "", nil
		}
		s.marks[markStill] = stillMost
		return s.reached(ctx)
	}
	if err != nil {
		return "", err
	}
	s.past.push(s.x, s.xTry, s.g, s.gTry)
	s.accept()
	if s.by == Cholesky {
		if err := s.chords(ctx); err != nil {
			return "", err
		}
	}
	if before-s.f.sum() <= 0x1p-52*math.Abs(before) {
		s.marks[markStill]++
	} else {
		s.marks[markStill] = 0
	}
	return s.reached(ctx)
}

func dot(x, y []float64) float64 {
	var a, b, c, d float64
	y = y[:len(x)]
	for len(x) >= 4 {
		a += float64(x[0] * y[0])
		b += float64(x[1] * y[1])
		c += float64(x[2] * y[2])
		d += float64(x[3] * y[3])
		x, y = x[4:], y[4:]
	}
	for i, v := range x {
		a += float64(v * y[i])
	}
	return (a + b) + (c + d)
}

// axpy adds a x to y.
func axpy(a float64, x, y []float64) {
	y = y[:len(x)]
	for i, v := range x {
		y[i] += float64(a * v)
	}
}

func finite(x []float64) bool {
	return !slices.ContainsFunc(x, func(v float64) bool { return math.IsNaN(v - v) })
}
