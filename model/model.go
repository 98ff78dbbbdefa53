// Package model says what is learned: a differentiable objective over one flat vector of parameters.
//
// A Model is a pure function of (x, batch): it holds no parameters. That is what lets the same model run in a
// goroutine, a process or a simulated worker and give the same bits. Package nn holds layered networks and
// package linear the linear family; a program of your own implements Model and trains it like theirs.
package model

import (
	"context"
	"slices"

	"github.com/covey-ml/covey/data"
)

// Model is the objective. Methods may be called from several goroutines when each brings its own g.
type Model interface {
	// Layout names the segments of the flat vector, in order, without gaps. It never changes.
	Layout() Layout
	// Init writes the initial parameters: a function of seed and nothing else.
	Init(x []float32, seed uint64)
	// Grad overwrites g (of Layout().Len() elements) with the SUM over b's samples of the data term's gradients
	// at x, and returns the sum of the samples' losses. It is called once a microshard, with the same kernels
	// whatever the worker count. Regularisers are not in it (see Penalised), nor is any division.
	//
	// done, which may be nil, is called from Grad's goroutine for each segment once its elements of g are final and
	// those of x will not be read again, so that they can be reduced and updated while Grad goes on; each segment
	// is reported once, in any order. An empty batch gives zeros. x and b are only read, and g is not kept.
	Grad(ctx context.Context, x, g []float32, b *data.Batch, done func(Segment)) (Loss, error)
	// Eval measures x on b without changing anything.
	Eval(ctx context.Context, x []float32, b *data.Batch) (Metrics, error)
}

// Predictor is asked for at run time by inference.
type Predictor interface {
	// Outputs is how many numbers Predict gives a sample: class probabilities, or targets.
	Outputs() int
	// Predict writes b.N*Outputs() numbers, row-major.
	Predict(ctx context.Context, x []float32, b *data.Batch, out []float32) error
}

// Penalised is a model with a differentiable regulariser r(x), added once to the MEAN of the data term.
type Penalised interface {
	Penalty(x []float32) float64
	// AddPenaltyGrad adds r's gradient for the elements of x from lo on, as many as g has, to g.
	AddPenaltyGrad(x, g []float32, lo int)
}

// Proximal is a model with a regulariser that has no gradient everywhere, such as the lasso's.
type Proximal interface {
	Penalty(x []float32) float64
	// Prox replaces elements lo to hi of x by argmin_u r(u) + |u-x|^2/(2 rate).
	Prox(x []float32, lo, hi int, rate float32)
}

// Direct is a model with a closed-form solution from statistics that add up over samples (normal equations).
type Direct interface {
	// StatLen is the number of statistics.
	StatLen() int
	// Stats adds b's statistics to s.
	Stats(s []float64, b *data.Batch) error
	// Solve writes the optimum for the statistics of n samples in all.
	Solve(x []float32, s []float64, n int) error
}

// Curved is a model whose data term is, sample by sample, a convex and twice differentiable function of margins: numbers
// that are linear in the parameters. Solvers of second order ask for it. All is float64, with the same bits on every
// processor, and a function of the arguments alone. Methods may be called from several goroutines, each with vectors of
// its own; they neither keep nor change what they only read. Vectors over parameters have Layout().Len() elements,
// vectors over margins b.N*Margins(), sample after sample.
type Curved interface {
	// Margins is how many margins a sample has.
	Margins() int
	// Slope returns the sum of the losses of b's samples at x, adds its gradient to g, and writes the margins to z and to h
	// what Bend and Diagonal need to know of the second derivatives. It fails when b does not fit the model.
	Slope(g, z, h, x []float64, b *data.Batch) (float64, error)
	// Bend adds to hv the Hessian of that sum, at the x at which Slope wrote h, times v.
	Bend(hv, v, h []float64, b *data.Batch)
	// Diagonal adds to d the diagonal of that Hessian.
	Diagonal(d, h []float64, b *data.Batch)
	// Line returns the sum of the losses at margins z + t u, and its first and second derivatives by t.
	Line(z, u []float64, t float64, b *data.Batch) (sum, slope, bend float64)
	// Squares writes each parameter's strength in the regulariser, the sum of strength x^2 / 2, which is added once to the
	// MEAN of the samples' losses.
	Squares(strength []float64)
}

// Hessian is a Curved model that can write its second derivatives down.
type Hessian interface {
	Curved
	// AddHessian adds to a the lower triangle of the Hessian, row by row: n(n+1)/2 elements for n parameters. It is only
	// asked for when Margins is 1.
	AddHessian(a, h []float64, b *data.Batch)
}

// Objective is a model that can state all it minimises, regulariser included and in its own published convention (sums
// or means, factors of two), for a report or a comparison with another solver.
type Objective interface {
	// Objective is computed in float64 over all of ds. It may use package math, because nothing of it reaches weights.
	Objective(x []float32, ds data.Dataset) float64
}

// Costed is a model that knows what it costs. All are numbers of floating-point operations for n samples.
type Costed interface {
	// FLOPs is all of Grad: Forward, and Backward of each segment of the layout.
	FLOPs(n int) int64
	// Forward is the pass that Eval makes, too, and Grad before any segment is final.
	Forward(n int) int64
	// Backward is what Grad computes for segment i of the layout, from when the segment before it, in the order in which
	// they become final, is final.
	Backward(n, i int) int64
}

// Kind tells what a segment holds.
type Kind uint8

// The kinds of segment.
const (
	Parameter Kind = iota // optimised
	Buffer                // running statistics: summed as gradients are, not optimised
)

// Segment is a named, shaped run of the flat vector: elements Off to Off+Len.
type Segment struct {
	Name  string
	Shape []int
	Off   int
	Len   int
	Kind  Kind
}

// Layout is the segments in order of Off.
type Layout []Segment

// Len is the number of elements of the flat vector.
func (l Layout) Len() int {
	if len(l) == 0 {
		return 0
	}
	last := l[len(l)-1]
	return last.Off + last.Len
}

// Index returns the number of s in l, or -1 when it is not in it.
func (l Layout) Index(s Segment) int {
	i, ok := slices.BinarySearchFunc(l, s.Off, func(l Segment, off int) int { return l.Off - off })
	for ok && l[i].Len == 0 && i+1 < len(l) && l[i].Name != s.Name {
		i++
	}
	if !ok {
		return -1
	}
	return i
}

// Add returns l with one more parameter segment at its end.
func (l Layout) Add(name string, shape ...int) Layout {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return append(l, Segment{Name: name, Shape: shape, Off: l.Len(), Len: n})
}

// Loss is the data term of one microshard.
type Loss struct {
	Sum float32 // over its samples
	N   int     // its samples
}

// Metrics add up over batches; the zero Metrics is the empty batch's.
type Metrics struct {
	N       int     // samples
	Loss    float64 // sum of the samples' losses
	Correct int     // samples whose most probable class was the right one; 0 for regression
	SqErr   float64 // sum of squared errors over targets; 0 for classification
}

// Add adds o to m.
func (m *Metrics) Add(o Metrics) {
	m.N += o.N
	m.Loss += o.Loss
	m.Correct += o.Correct
	m.SqErr += o.SqErr
}
