package vec

import (
	"fmt"
	"math"
)

// AddBias adds bias to each of y's rows: y[r,j] += bias[j].
func AddBias(y, bias []float32, rows int) {
	sized("AddBias", "y", len(y), rows*len(bias))
	n := len(bias)
	for r := 0; r < rows; r++ {
		add(y[r*n:(r+1)*n], bias)
	}
}

// SumRows sums dy's rows: s[j] = 0 + dy[0,j] + dy[1,j] + ... in order, and then db[j] = s[j], or db[j] += s[j]
// with acc.
func SumRows(db, dy []float32, rows int, acc bool) {
	sized("SumRows", "dy", len(dy), rows*len(db))
	sumRows(db, dy, rows, acc)
}

// ReLU is y[i] = x[i], or 0 where x[i] < 0. NaN stays NaN and -0 stays -0. y may be x.
func ReLU(y, x []float32) {
	same("ReLU", len(y), len(x))
	relu(y, x)
}

// ReLUGrad is dx[i] = dy[i], or 0 where y[i] <= 0, for y the output (or the input) of ReLU. dx may be dy or y.
func ReLUGrad(dx, dy, y []float32) {
	same("ReLUGrad", len(dx), len(dy))
	same("ReLUGrad", len(dx), len(y))
	reluGrad(dx, dy, y)
}

// Tanh is y[i] = the hyperbolic tangent of x[i] within 0.501 ulp, odd in x bit by bit. y may be x.
func Tanh(y, x []float32) {
	same("Tanh", len(y), len(x))
	tanh(y, x)
}

// TanhGrad is dx[i] = dy[i] (1 - y[i]^2), for y the output of Tanh, in float64 rounded once. dx may be dy or y.
func TanhGrad(dx, dy, y []float32) {
	same("TanhGrad", len(dx), len(dy))
	same("TanhGrad", len(dx), len(y))
	tanhGrad(dx, dy, y)
}

// GELU is y[i] = x[i] Phi(x[i]), Phi being the standard normal distribution (Hendrycks and Gimpel, arXiv:1606.08415,
// section 2; the exact form, not the tanh approximation), within 0.51 ulp. Of -Inf it is -0. y may be x.
func GELU(y, x []float32) {
	same("GELU", len(y), len(x))
	gelu(y, x)
}

// GELUGrad is dx[i] = dy[i] (Phi(x[i]) + x[i] phi(x[i])), for x the INPUT of GELU, in float64 rounded once. dx may
// be dy or x.
func GELUGrad(dx, dy, x []float32) {
	same("GELUGrad", len(dx), len(dy))
	same("GELUGrad", len(dx), len(x))
	geluGrad(dx, dy, x)
}

// Sigmoid is y[i] = 1/(1 + e^-x[i]) within 0.501 ulp. y may be x.
func Sigmoid(y, x []float32) {
	same("Sigmoid", len(y), len(x))
	sigmoid(y, x)
}

// Softmax writes exp(l - max l) / sum of them for each row l of logits, to p, which may be logits. The
// differences are exact, each exponential is rounded to float32, their sum s is in float64 over four lanes (j mod
// 4, then (0+2)+(1+3)), and each is multiplied by 1/s in float64 and rounded once. A row with a NaN or +Inf, or
// with nothing but -Inf, becomes NaN.
func Softmax(p, logits []float32, rows, cols int) {
	sized("Softmax", "p", len(p), rows*cols)
	sized("Softmax", "logits", len(logits), rows*cols)
	for r := 0; r < rows; r++ {
		q := p[r*cols : (r+1)*cols]
		s, _ := softmaxRow(q, logits[r*cols:(r+1)*cols])
		scaleDouble(q, 1/s)
	}
}

// SoftmaxXent is the sum, over rows in order and in float64, of the cross-entropy losses -log Softmax(row)[class],
// and writes the gradient of that sum, the probabilities minus one at the class, to dlogits, which may be nil
// (loss only) or logits. A class outside of 0 to cols-1 panics.
//
// A loss is log(s) - (l[class] - max l) in float64, with s as in Softmax; a gradient is rounded once, after the
// one is subtracted, so that it does not vanish as a probability approaches one.
func SoftmaxXent(dlogits, logits []float32, class []int32, rows, cols int) float32 {
	sized("SoftmaxXent", "logits", len(logits), rows*cols)
	sized("SoftmaxXent", "class", len(class), rows)
	if dlogits != nil {
		sized("SoftmaxXent", "dlogits", len(dlogits), rows*cols)
	}
	var loss float64
	for r := 0; r < rows; r++ {
		x := logits[r*cols : (r+1)*cols]
		c := int(class[r])
		if c < 0 || c >= cols {
			panicClass(r, c, cols)
		}
		xc := float64(x[c]) // before dlogits, which may be logits, is written
		if dlogits == nil {
			s, m := softmaxSum(x)
			loss += rowLoss(s, xc-m)
			continue
		}
		d := dlogits[r*cols : (r+1)*cols]
		s, m := softmaxRow(d, x)
		loss += rowLoss(s, xc-m)
		inv := 1 / s
		ec := float64(d[c])
		scaleDouble(d, inv)
		d[c] = float32(float64(ec*inv) - 1)
	}
	return float32(loss)
}

func rowLoss(s, diff float64) float64 {
	if !(s <= math.MaxFloat64) || s == 0 {
		return math.NaN()
	}
	return log64(s) - diff
}

//go:noinline
func panicClass(row, class, cols int) {
	panic(fmt.Sprintf("vec.SoftmaxXent: row %d has class %d, want 0 to %d", row, class, cols-1))
}
