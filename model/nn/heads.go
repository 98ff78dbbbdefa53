package nn

import (
	"fmt"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/vec"
)

// Head turns the last layer's output z, of some width a sample, into a loss, a score and a prediction.
type Head interface {
	// String prints the head for people: "cross-entropy".
	String() string
	// outputs is how many numbers a sample predict gives for z of this width.
	outputs(width int) (int, error)
	// check says which label or target of b does not fit.
	check(b *data.Batch, width int) error
	// loss returns the sum of the samples' losses and, unless dz is nil, writes its gradient to dz.
	loss(dz, z []float32, b *data.Batch) float32
	// score counts the samples whose most probable class is right, or sums squared errors.
	score(z []float32, b *data.Batch) (correct int, sqErr float64)
	// predict writes n*outputs numbers.
	predict(out, z []float32, n int)
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

func (CrossEntropy) check(b *data.Batch, width int) error { return checkClass(b, width) }

func (CrossEntropy) loss(dz, z []float32, b *data.Batch) float32 {
	return vec.SoftmaxXent(dz, z, b.Class, b.N, len(z)/b.N)
}

func (CrossEntropy) score(z []float32, b *data.Batch) (correct int, sqErr float64) {
	width := len(z) / b.N
	for i, c := range b.Class {
		if vec.ArgMax(z[i*width:(i+1)*width]) == int(c) {
			correct++
		}
	}
	return correct, 0
}

func (CrossEntropy) predict(out, z []float32, n int) { vec.Softmax(out, z, n, len(z)/n) }

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

func (Logistic) check(b *data.Batch, _ int) error { return checkClass(b, 2) }

func (Logistic) loss(dz, z []float32, b *data.Batch) float32 {
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

func (Logistic) score(z []float32, b *data.Batch) (correct int, sqErr float64) {
	for i, c := range b.Class {
		if (z[i] > 0) == (c == 1) {
			correct++
		}
	}
	return correct, 0
}

func (Logistic) predict(out, z []float32, n int) {
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

func (MeanSquared) outputs(width int) (int, error)       { return width, nil }
func (MeanSquared) check(b *data.Batch, width int) error { return checkTargets(b, width) }
func (MeanSquared) predict(out, z []float32, n int)      { copy(out, z) }

func (MeanSquared) loss(dz, z []float32, b *data.Batch) float32 {
	width := float64(len(z) / b.N)
	residuals(dz, z, b.Y, float32(2/width))
	return float32(squares(z, b.Y) / width)
}

func (MeanSquared) score(z []float32, b *data.Batch) (correct int, sqErr float64) {
	return 0, squares(z, b.Y)
}

// HalfSquared is half the squared error summed over a sample's targets: the loss of linear regression, whose gradient is
// the residual times the sample. It predicts targets.
type HalfSquared struct{}

// String prints "half-squared".
func (HalfSquared) String() string { return "half-squared" }

func (HalfSquared) outputs(width int) (int, error)       { return width, nil }
func (HalfSquared) check(b *data.Batch, width int) error { return checkTargets(b, width) }
func (HalfSquared) predict(out, z []float32, n int)      { copy(out, z) }

func (HalfSquared) loss(dz, z []float32, b *data.Batch) float32 {
	residuals(dz, z, b.Y, 1)
	return float32(squares(z, b.Y) / 2)
}

func (HalfSquared) score(z []float32, b *data.Batch) (correct int, sqErr float64) {
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
