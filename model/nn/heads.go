package nn

import (
	"fmt"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/vec"
)

// Head turns the last layer's output z, of some width a sample, into a loss, a score and a prediction. Models of other
// packages that end as networks do call its methods themselves.
type Head interface {
	// String prints the head for people: "cross-entropy".
	String() string
	// outputs is how many numbers a sample Predict gives for z of this width.
	outputs(width int) (int, error)
	// Check says which label or target of b does not fit.
	Check(b *data.Batch, width int) error
	// Loss returns the sum of the samples' losses and, unless dz is nil, writes its gradient to dz.
	Loss(dz, z []float32, b *data.Batch) float32
	// Score counts the samples whose most probable class is right, or sums squared errors.
	Score(z []float32, b *data.Batch) (correct int, sqErr float64)
	// Predict writes n*outputs numbers.
	Predict(out, z []float32, n int)
}

// CrossEntropy is softmax cross-entropy over as many classes as z is wide: a sample's loss is -log softmax(z)[class],
// in nats, so that the mean over samples is torch.nn.CrossEntropyLoss. It predicts class probabilities.
type CrossEntropy struct{}

// String prints "cross-entropy".
func (CrossEntropy) String() string { return "cross-entropy" }

func (CrossEntropy) outputs(width int) (int, error) {
	if width < 2 {
		return 0, fmt.Errorf("%d class: at least 2 are needed", width)
	}
	return width, nil
}

// Check implements Head.
func (CrossEntropy) Check(b *data.Batch, width int) error { return checkClass(b, width) }

// Loss implements Head.
func (CrossEntropy) Loss(dz, z []float32, b *data.Batch) float32 {
	return vec.SoftmaxXent(dz, z, b.Class, b.N, len(z)/b.N)
}

// Score implements Head.
func (CrossEntropy) Score(z []float32, b *data.Batch) (correct int, sqErr float64) {
	width := len(z) / b.N
	for i, c := range b.Class {
		if vec.ArgMax(z[i*width:(i+1)*width]) == int(c) {
			correct++
		}
	}
	return correct, 0
}

// Predict implements Head.
func (CrossEntropy) Predict(out, z []float32, n int) { vec.Softmax(out, z, n, len(z)/n) }

// Logistic is binary cross-entropy on one logit z = log p/(1-p), p the probability of class 1: a sample's loss is
// log(1 + exp(-s z)) with s = 1 for class 1 and -1 for class 0. It predicts the probabilities of both classes.
type Logistic struct{}

// String prints "logistic".
func (Logistic) String() string { return "logistic" }

func (Logistic) outputs(width int) (int, error) {
	if width != 1 {
		return 0, fmt.Errorf("takes one number a sample, not %d", width)
	}
	return 2, nil
}

// Check implements Head.
func (Logistic) Check(b *data.Batch, _ int) error { return checkClass(b, 2) }

// Loss implements Head.
func (Logistic) Loss(dz, z []float32, b *data.Batch) float32 {
	var sum float64
	for i, c := range b.Class {
		m := z[i]
		if c == 1 {
			m = -m
		}
		if dz != nil {
			dz[i] = m
		}
		sum += float64(vec.Softplus(m))
	}
	if dz != nil {
		// The gradient is -s sigmoid(-s z); sigmoid(z) - 1 would lose all its digits as the probability nears 1.
		vec.Sigmoid(dz, dz)
		for i, c := range b.Class {
			if c == 1 {
				dz[i] = -dz[i]
			}
		}
	}
	return float32(sum)
}

// Score implements Head.
func (Logistic) Score(z []float32, b *data.Batch) (correct int, sqErr float64) {
	for i, c := range b.Class {
		if (z[i] > 0) == (c == 1) {
			correct++
		}
	}
	return correct, 0
}

// Predict implements Head.
func (Logistic) Predict(out, z []float32, n int) {
	// From the back, so that out may hold the sigmoids until they are spread.
	vec.Sigmoid(out[:n], z)
	for i := n - 1; i >= 0; i-- {
		p := out[i]
		out[2*i], out[2*i+1] = 1-p, p
	}
}

// MeanSquared is squared error averaged over a sample's targets, so that the mean over samples is torch.nn.MSELoss with
// its default reduction. It predicts targets.
type MeanSquared struct{}

// String prints "mean-squared".
func (MeanSquared) String() string { return "mean-squared" }

func (MeanSquared) outputs(width int) (int, error) { return width, nil }

// Check implements Head.
func (MeanSquared) Check(b *data.Batch, width int) error { return checkTargets(b, width) }

// Predict implements Head.
func (MeanSquared) Predict(out, z []float32, n int) { copy(out, z) }

// Loss implements Head.
func (MeanSquared) Loss(dz, z []float32, b *data.Batch) float32 {
	width := float64(len(z) / b.N)
	residuals(dz, z, b.Y, float32(2/width))
	return float32(squares(z, b.Y) / width)
}

// Score implements Head.
func (MeanSquared) Score(z []float32, b *data.Batch) (correct int, sqErr float64) {
	return 0, squares(z, b.Y)
}

// HalfSquared is half the squared error summed over a sample's targets: the loss of linear regression, whose gradient is
// the residual times the sample. It predicts targets.
type HalfSquared struct{}

// String prints "half-squared".
func (HalfSquared) String() string { return "half-squared" }

func (HalfSquared) outputs(width int) (int, error) { return width, nil }

// Check implements Head.
func (HalfSquared) Check(b *data.Batch, width int) error { return checkTargets(b, width) }

// Predict implements Head.
func (HalfSquared) Predict(out, z []float32, n int) { copy(out, z) }

// Loss implements Head.
func (HalfSquared) Loss(dz, z []float32, b *data.Batch) float32 {
	residuals(dz, z, b.Y, 1)
	return float32(squares(z, b.Y) / 2)
}

// Score implements Head.
func (HalfSquared) Score(z []float32, b *data.Batch) (correct int, sqErr float64) {
	return 0, squares(z, b.Y)
}

// residuals writes scale*(z-y) to dz, unless that is nil.
func residuals(dz, z, y []float32, scale float32) {
	for i := range dz {
		dz[i] = (z[i] - y[i]) * scale
	}
}

// squares is the sum of (z-y)^2, in order, in float64, where the square of a float32 is exact.
func squares(z, y []float32) float64 {
	var sum float64
	for i, v := range z {
		d := v - y[i]
		sum += float64(d) * float64(d)
	}
	return sum
}

func checkClass(b *data.Batch, classes int) error {
	if len(b.Class) != b.N {
		return fmt.Errorf("nn: %d samples have %d class labels; a classifier needs one each", b.N, len(b.Class))
	}
	for i, c := range b.Class {
		if c < 0 || int(c) >= classes {
			return fmt.Errorf("nn: sample %d has class %d; the model knows classes 0 to %d", b.ID[i], c, classes-1)
		}
	}
	return nil
}

func checkTargets(b *data.Batch, width int) error {
	if len(b.Y) != b.N*width {
		return fmt.Errorf("nn: %d samples have %d targets in all; the model predicts %d each", b.N, len(b.Y), width)
	}
	return nil
}
