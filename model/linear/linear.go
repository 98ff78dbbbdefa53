// Package linear is the linear family: least squares, ridge, lasso, logistic and multinomial regression, on dense and on
// sparse samples.
//
// A constructor takes a Config, which says how wide the data is and how many samples the whole training set has, and the
// strength of the regulariser in the terms of the tool that users know:
//
//	NewLinear    the sum of squared errors                                  scikit-learn LinearRegression
//	NewRidge     the sum of squared errors + alpha |w|^2                    scikit-learn Ridge
//	NewLasso     the sum of squared errors / (2 n) + alpha |w|_1            scikit-learn Lasso
//	NewLogistic  |w|^2 / 2 + C sum log(1 + exp(-s (x.w + b)))               LIBLINEAR -s 0, scikit-learn LogisticRegression
//	NewSoftmax   sum -log softmax(Wx + b)[class] + l2/2 |W|^2               scikit-learn LogisticRegression with C = 1/l2
//
// These are what Objective computes. The loss of a sample that Grad and Eval report is half the squared error summed
// over targets for the first three, and the logarithm for the last two; the regulariser, which training adds to the
// samples' mean, is scaled so that the minimum is that of the line above.
//
// The bias is never penalised, as in scikit-learn's default solvers. LIBLINEAR's own default, no bias at all, is
// Config.NoBias; its option -B 1 penalises the bias: to have that, append a column of ones to the data and set NoBias.
// Logistic regression has one weight vector, s is +1 for class 1 and -1 for class 0.
//
// Parameters are for the features as they come, unscaled: weight [targets or classes, dim] (one row for logistic), then
// bias [targets or classes]. They start at zero: but for exact ties the problems are convex and the start is arbitrary.
//
// Linear and Ridge are also model.Direct: their normal equations add up over samples, and Solve finds the minimum at
// once. See Stats for how badly scaled columns are kept from spoiling it.
package linear

import (
	"errors"
	"fmt"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/model/nn"
)

// Config is what the members of the family have in common.
type Config struct {
	Dim     int // features a sample; at least 1
	Outputs int // targets, or classes of softmax; logistic ignores it
	// N is the number of samples of the whole training set, which a regulariser's strength is relative to. NewLinear
	// ignores it.
	N      int
	NoBias bool // leave the bias out: predictions go through the origin
	// Train is the training set, or nil. Linear and Ridge read it once, when Stats or Solve is first called, to find a
	// shift and a scale for each column; workers that are to add their statistics up must be given the same samples in the same order.
	Train data.Dataset
}

// core is a network of one dense layer, started at zero.
type core struct {
	*nn.Network
	conf    Config
	weights int // elements 0 to weights-1 of the flat vector are the weight, the rest the bias
	outputs int
}

func newCore(c Config, outputs int, head nn.Head) (core, error) {
	if outputs < 1 {
		return core{}, fmt.Errorf("%d outputs: at least 1 is needed", outputs)
	}
	net, err := nn.New(nn.Config{In: c.Dim, Layers: []nn.Layer{nn.Dense{Out: outputs, NoBias: c.NoBias}}, Head: head, Bare: true})
	if err != nil {
		return core{}, err
	}
	return core{Network: net, conf: c, weights: c.Dim * outputs, outputs: outputs}, nil
}

// curved is what a member with a smooth objective gives solvers of second order.
func (c *core) curved(each float64, l loss) curved {
	return curved{dim: c.conf.Dim, outputs: c.outputs, bias: !c.conf.NoBias, each: each, loss: l}
}

// Init writes zeros.
func (c *core) Init(x []float32, _ uint64) { clear(x[:c.Layout().Len()]) }

// perSample turns a strength against the training set's sum into one against its mean.
func (c *core) perSample(name string, strength float64) (float64, error) {
	if !(strength >= 0) || strength > 1e300 {
		return 0, fmt.Errorf("%s is %g: at least 0 is needed", name, strength)
	}
	if c.conf.N < 1 {
		return 0, errors.New("the regulariser is relative to the number of training samples, which is not given")
	}
	return strength / float64(c.conf.N), nil
}

// Linear is least squares.
type Linear struct {
	core
	normal
	curved
}

// Ridge is least squares with a squared penalty.
type Ridge struct {
	core
	normal
	curved
	l2
}

// Lasso is least squares with an absolute penalty, minimised by proximal steps.
type Lasso struct {
	core
	alpha float64
}

// Logistic is binary logistic regression.
type Logistic struct {
	core
	curved
	l2
	c float64
}

// Softmax is multinomial logistic regression.
type Softmax struct {
	core
	curved
	l2
}

var (
	_ model.Direct    = (*Linear)(nil)
	_ model.Direct    = (*Ridge)(nil)
	_ model.Penalised = (*Ridge)(nil)
	_ model.Proximal  = (*Lasso)(nil)
	_ model.Penalised = (*Logistic)(nil)
	_ model.Penalised = (*Softmax)(nil)
	_ model.Predictor = (*Logistic)(nil)
	_ model.Costed    = (*Logistic)(nil)
	_ model.Objective = (*Linear)(nil)
	_ model.Objective = (*Ridge)(nil)
	_ model.Objective = (*Lasso)(nil)
	_ model.Objective = (*Logistic)(nil)
	_ model.Objective = (*Softmax)(nil)
)

// NewLinear returns least squares on c.Outputs targets.
func NewLinear(c Config) (*Linear, error) {
	k, err := newCore(c, c.Outputs, nn.HalfSquared{})
	if err != nil {
		return nil, err
	}
	return &Linear{core: k, normal: newNormal(c, 0), curved: k.curved(0, squaredLoss{})}, nil
}

// NewRidge returns ridge regression with penalty alpha |w|^2 against the sum of squared errors. Alpha is at least 0.
func NewRidge(c Config, alpha float64) (*Ridge, error) {
	k, err := newCore(c, c.Outputs, nn.HalfSquared{})
	if err != nil {
		return nil, err
	}
	each, err := k.perSample("alpha", alpha)
	if err != nil {
		return nil, err
	}
	return &Ridge{core: k, normal: newNormal(c, alpha), curved: k.curved(each, squaredLoss{}), l2: l2{k.weights, each}}, nil
}

// NewLasso returns the lasso with penalty alpha |w|_1 against half the mean squared error. Alpha is at least 0; with
// several targets each is fitted as if alone.
func NewLasso(c Config, alpha float64) (*Lasso, error) {
	k, err := newCore(c, c.Outputs, nn.HalfSquared{})
	if err != nil {
		return nil, err
	}
	if _, err := k.perSample("alpha", alpha); err != nil {
		return nil, err
	}
	return &Lasso{core: k, alpha: alpha}, nil
}

// NewLogistic returns binary logistic regression whose samples weigh C against |w|^2/2. C is above 0.
func NewLogistic(c Config, C float64) (*Logistic, error) {
	k, err := newCore(c, 1, nn.Logistic{})
	if err != nil {
		return nil, err
	}
	if !(C > 0) || C > 1e300 {
		return nil, fmt.Errorf("C is %g: a number above 0 is needed", C)
	}
	each, err := k.perSample("1/C", 1/C)
	if err != nil {
		return nil, err
	}
	return &Logistic{core: k, curved: k.curved(each, logisticLoss{}), l2: l2{k.weights, each}, c: C}, nil
}

// NewSoftmax returns multinomial logistic regression over c.Outputs classes with penalty l2/2 |W|^2 against the sum of
// the samples' losses. strength, the l2, is at least 0.
func NewSoftmax(c Config, strength float64) (*Softmax, error) {
	k, err := newCore(c, c.Outputs, nn.CrossEntropy{})
	if err != nil {
		return nil, err
	}
	each, err := k.perSample("l2", strength)
	if err != nil {
		return nil, err
	}
	return &Softmax{core: k, curved: k.curved(each, softmaxLoss{}), l2: l2{k.weights, each}}, nil
}

// l2 is each/2 |w|^2 over the first elements of the flat vector, added to the samples' mean.
type l2 struct {
	weights int
	each    float64
}

// Penalty is the regulariser that training adds to the mean of the samples' losses. It is summed in order, in float64.
func (r *l2) Penalty(x []float32) float64 { return r.each / 2 * squared(x[:r.weights]) }

// AddPenaltyGrad implements model.Penalised.
func (r *l2) AddPenaltyGrad(x, g []float32, lo int) {
	each := float32(r.each)
	for i := lo; i < min(lo+len(g), r.weights); i++ {
		g[i-lo] += float32(each * x[i])
	}
}

// Penalty is alpha |w|_1, which training adds to the mean of the samples' losses.
func (m *Lasso) Penalty(x []float32) float64 {
	var sum float64
	for _, w := range x[:m.weights] {
		if w < 0 {
			w = -w
		}
		sum += float64(w)
	}
	return m.alpha * sum
}

// Prox shrinks weights towards zero by alpha*rate and stops them there (soft thresholding); the bias stays.
func (m *Lasso) Prox(x []float32, lo, hi int, rate float32) {
	t := float32(m.alpha * float64(rate))
	for i := lo; i < min(hi, m.weights); i++ {
		switch w := x[i]; {
		case w > t:
			x[i] = w - t
		case w < -t:
			x[i] = w + t
		case w == w: // not a NaN, which must stay to be seen
			x[i] = 0
		}
	}
}

// squared is |w|^2 in float64, where each product is exact.
func squared(w []float32) float64 {
	var sum float64
	for _, v := range w {
		sum += float64(v) * float64(v)
	}
	return sum
}
