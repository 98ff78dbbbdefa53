package linear

import (
	"math"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/vec"
)

// The objectives below go through package math, whose Exp and Log1p may differ in the last bit between processors.
// They may, because they only report: nothing of them reaches weights.

// Objective is the sum of squared errors over ds, in float64.
func (m *Linear) Objective(x []float32, ds data.Dataset) float64 { return m.sum(x, ds, squaredError) }

// Objective is the sum of squared errors over ds plus alpha |w|^2, in float64.
func (m *Ridge) Objective(x []float32, ds data.Dataset) float64 {
	return m.sum(x, ds, squaredError) + m.normal.alpha*squared(x[:m.core.weights])
}

// Objective is the sum of squared errors over ds divided by twice its samples, plus alpha |w|_1, in float64.
func (m *Lasso) Objective(x []float32, ds data.Dataset) float64 {
	return m.sum(x, ds, squaredError)/(2*float64(max(ds.Len(), 1))) + m.Penalty(x)
}

// Objective is |w|^2 / 2 + C sum log(1 + exp(-s (x.w + b))) over ds, in float64.
func (m *Logistic) Objective(x []float32, ds data.Dataset) float64 {
	w := make([]float64, len(x))
	for i, v := range x {
		w[i] = float64(v)
	}
	var total float64
	var s room
	inChunks(ds, func(b *data.Batch) {
		s.u = sized(s.u, b.N)
		m.project(s.u, w, b, 0, b.N, &s)
		total += vec.LogLoss(s.u, nil, s.u, b.Class)
	})
	return squared(x[:m.core.weights])/2 + m.c*total
}

// Objective is the sum of -log softmax(Wx + b)[class] over ds plus l2/2 |W|^2, in float64.
func (m *Softmax) Objective(x []float32, ds data.Dataset) float64 {
	return m.sum(x, ds, crossEntropy) + m.l2.each*float64(m.conf.N)/2*squared(x[:m.core.weights])
}

// sum adds loss(z, targets or nil, class or 0) over ds, z = Wx + b in float64.
func (c *core) sum(x []float32, ds data.Dataset, loss func(z []float64, y []float32, class int) float64) float64 {
	var total float64
	z := make([]float64, c.outputs)
	inChunks(ds, func(b *data.Batch) {
		for i := range b.N {
			for k := range z {
				w := x[k*c.conf.Dim : (k+1)*c.conf.Dim]
				var v float64
				if !c.conf.NoBias {
					v = float64(x[c.weights+k])
				}
				if len(b.Row) > 0 {
					for e := b.Row[i]; e < b.Row[i+1]; e++ {
						v += float64(b.Val[e]) * float64(w[b.Col[e]])
					}
				} else {
					for j, u := range b.X[i*c.conf.Dim : (i+1)*c.conf.Dim] {
						v += float64(u) * float64(w[j])
					}
				}
				z[k] = v
			}
			var y []float32
			if len(b.Y) > 0 {
				y = b.Y[i*c.outputs : (i+1)*c.outputs]
			}
			class := 0
			if len(b.Class) > 0 {
				class = int(b.Class[i])
			}
			total += loss(z, y, class)
		}
	})
	return total
}

func squaredError(z []float64, y []float32, _ int) float64 {
	var sum float64
	for k, v := range z {
		d := v - float64(y[k])
		sum += d * d
	}
	return sum
}

func crossEntropy(z []float64, _ []float32, class int) float64 {
	top := z[0]
	for _, v := range z {
		top = max(top, v)
	}
	var sum float64
	for _, v := range z {
		sum += math.Exp(v - top)
	}
	return top + math.Log(sum) - z[class]
}

// inChunks calls f with the samples of ds, in order.
func inChunks(ds data.Dataset, f func(*data.Batch)) {
	const rows = 256
	var b data.Batch
	for lo := 0; lo < ds.Len(); lo += rows {
		data.View(ds, &b, lo, min(lo+rows, ds.Len()))
		f(&b)
	}
}
