package linear

import (
	"fmt"
	"math"
	"sync"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/vec"
)

var (
	_ model.Hessian = (*Linear)(nil)
	_ model.Hessian = (*Ridge)(nil)
	_ model.Hessian = (*Logistic)(nil)
	_ model.Hessian = (*Softmax)(nil)
)

// curved makes model.Curved of a linear map and a loss of its outputs, which are the margins. Sums over features run in
// four lanes (feature by feature, written ones only when sparse) that are added in pairs at the end; sums over samples
// run in order.
type curved struct {
	dim, outputs int
	bias         bool
	each         float64 // strength of the penalty on weights, against the mean
	loss         loss
}

// loss is a convex function of a sample's margins.
type loss interface {
	check(b *data.Batch, outputs int) error
	// slope returns the sum over samples lo to hi and writes gradients to r and second derivatives to h.
	slope(r, h, z []float64, b *data.Batch, lo, hi int) float64
	// bend overwrites one sample's u by its second derivative, from its h, times u.
	bend(u, h []float64)
	// diagonal is the second derivative by margin k alone.
	diagonal(h []float64, k int) float64
	line(z, u []float64, t float64, b *data.Batch, outputs int) (sum, slope, bend float64)
}

// Margins implements model.Curved.
func (m *curved) Margins() int { return m.outputs }

// Squares implements model.Curved.
func (m *curved) Squares(strength []float64) {
	clear(strength)
	for i := range m.dim * m.outputs {
		strength[i] = m.each
	}
}

// slopeRows is how many samples' gradients are kept between their loss and their sum, while their features are in the
// cache.
const slopeRows = 128

// room is scratch of one call.
type room struct{ r, u, x []float64 }

var rooms = sync.Pool{New: func() any { return new(room) }}

func sized(s []float64, n int) []float64 {
	if cap(s) < n {
		return make([]float64, n)
	}
	return s[:n]
}

// Slope implements model.Curved.
func (m *curved) Slope(g, z, h, x []float64, b *data.Batch) (float64, error) {
	if b.N == 0 {
		return 0, nil
	}
	if b.Dim != m.dim {
		return 0, fmt.Errorf("linear: samples have %d features, the model takes %d", b.Dim, m.dim)
	}
	if err := m.loss.check(b, m.outputs); err != nil {
		return 0, err
	}
	k := m.outputs
	s := rooms.Get().(*room)
	defer rooms.Put(s)
	s.r = sized(s.r, slopeRows*k)
	var sum float64
	for lo := 0; lo < b.N; lo += slopeRows {
		hi := min(lo+slopeRows, b.N)
		r := s.r[:(hi-lo)*k]
		for i := lo; i < hi; i++ {
			m.project(z[i*k:(i+1)*k], x, b, i)
		}
		sum += m.loss.slope(r, h[lo*k:hi*k], z[lo*k:hi*k], b, lo, hi)
		for i := lo; i < hi; i++ {
			m.pull(g, r[(i-lo)*k:(i-lo+1)*k], b, i)
		}
	}
	return sum, nil
}

// Bend implements model.Curved.
func (m *curved) Bend(hv, v, h []float64, b *data.Batch) {
	k := m.outputs
	s := rooms.Get().(*room)
	defer rooms.Put(s)
	s.u = sized(s.u, k)
	for i := range b.N {
		m.project(s.u, v, b, i)
		m.loss.bend(s.u, h[i*k:(i+1)*k])
		m.pull(hv, s.u, b, i)
	}
}

// project writes the margins of sample i.
func (m *curved) project(z, x []float64, b *data.Batch, i int) {
	for k := range z {
		var v float64
		if w := x[k*m.dim : (k+1)*m.dim]; len(b.Row) > 0 {
			lo, hi := b.Row[i], b.Row[i+1]
			v = sparseDot(b.Col[lo:hi], b.Val[lo:hi], w)
		} else {
			v = denseDot(b.X[i*m.dim:(i+1)*m.dim], w)
		}
		if m.bias {
			v += x[m.dim*m.outputs+k]
		}
		z[k] = v
	}
}

// pull adds to g the features of sample i times its margins' r.
func (m *curved) pull(g, r []float64, b *data.Batch, i int) {
	for k, a := range r {
		if w := g[k*m.dim : (k+1)*m.dim]; len(b.Row) > 0 {
			lo, hi := b.Row[i], b.Row[i+1]
			sparseAxpy(w, a, b.Col[lo:hi], b.Val[lo:hi])
		} else {
			denseAxpy(w, a, b.X[i*m.dim:(i+1)*m.dim])
		}
		if m.bias {
			g[m.dim*m.outputs+k] += a
		}
	}
}

// Diagonal implements model.Curved.
func (m *curved) Diagonal(d, h []float64, b *data.Batch) {
	n := m.outputs
	for i := range b.N {
		for k := range n {
			a := m.loss.diagonal(h[i*n:(i+1)*n], k)
			w := d[k*m.dim : (k+1)*m.dim]
			if len(b.Row) > 0 {
				for e := b.Row[i]; e < b.Row[i+1]; e++ {
					v := float64(b.Val[e])
					w[b.Col[e]] += float64(a * float64(v*v))
				}
			} else {
				for j, u := range b.X[i*m.dim : (i+1)*m.dim] {
					v := float64(u)
					w[j] += float64(a * float64(v*v))
				}
			}
			if m.bias {
				d[m.dim*n+k] += a
			}
		}
	}
}

// Line implements model.Curved.
func (m *curved) Line(z, u []float64, t float64, b *data.Batch) (sum, slope, bend float64) {
	if b.N == 0 {
		return 0, 0, 0
	}
	return m.loss.line(z, u, t, b, m.outputs)
}

// AddHessian implements model.Hessian.
func (m *curved) AddHessian(a, h []float64, b *data.Batch) {
	if len(b.Row) > 0 {
		m.addSparseHessian(a, h, b)
	} else {
		m.addDenseHessian(a, h, b)
	}
}

func (m *curved) addSparseHessian(a, h []float64, b *data.Batch) {
	d := m.dim
	last := a[d*(d+1)/2:] // the bias's row
	s := rooms.Get().(*room)
	defer rooms.Put(s)
	for i := range b.N {
		lo, hi := b.Row[i], b.Row[i+1]
		col := b.Col[lo:hi]
		s.x = sized(s.x, len(col))
		val := s.x[:len(col)]
		for p, v := range b.Val[lo:hi] {
			val[p] = float64(v)
		}
		for p, r := range col {
			w := float64(h[i] * val[p])
			row := a[int(r)*(int(r)+1)/2:][:int(r)+1]
			before, values := col[:p+1], val[:p+1]
			for len(before) >= 4 && len(values) >= 4 { // four at a time: columns of a row differ
				c0, c1, c2, c3 := before[0], before[1], before[2], before[3]
				row[c0] += float64(w * values[0])
				row[c1] += float64(w * values[1])
				row[c2] += float64(w * values[2])
				row[c3] += float64(w * values[3])
				before, values = before[4:], values[4:]
			}
			for q, c := range before {
				row[c] += float64(w * values[q])
			}
			if m.bias {
				last[r] += w
			}
		}
		if m.bias {
			last[d] += h[i]
		}
	}
}

// hessianRows is how many dense samples are added to the triangle at a time: each of its elements is then read and
// written once for all of them.
const hessianRows = 8

func (m *curved) addDenseHessian(a, h []float64, b *data.Batch) {
	d := m.dim
	n := d
	if m.bias {
		n++
	}
	s := rooms.Get().(*room)
	defer rooms.Put(s)
	s.x = sized(s.x, hessianRows*n)
	x := s.x // column by column: the samples' values of a feature lie together
	for lo := 0; lo < b.N; lo += hessianRows {
		rows := min(hessianRows, b.N-lo)
		clear(x)
		for i := range rows {
			for j, v := range b.X[(lo+i)*d : (lo+i+1)*d] {
				x[j*hessianRows+i] = float64(v)
			}
			if m.bias {
				x[d*hessianRows+i] = 1
			}
		}
		var w [hessianRows]float64
		at := 0
		for r := range n {
			some := 0.0
			for i := range rows {
				w[i] = h[lo+i] * x[r*hessianRows+i]
				some += math.Abs(w[i])
			}
			row := a[at : at+r+1]
			at += r + 1
			if some == 0 {
				continue
			}
			for c := range row {
				v := (*[hessianRows]float64)(x[c*hessianRows:])
				row[c] += ((float64(w[0]*v[0]) + float64(w[1]*v[1])) + (float64(w[2]*v[2]) + float64(w[3]*v[3]))) +
					((float64(w[4]*v[4]) + float64(w[5]*v[5])) + (float64(w[6]*v[6]) + float64(w[7]*v[7])))
			}
		}
	}
}

func sparseDot(col []int32, val []float32, w []float64) float64 {
	var a, b, c, d float64
	val = val[:len(col)]
	for len(col) >= 4 {
		a += float64(float64(val[0]) * w[col[0]])
		b += float64(float64(val[1]) * w[col[1]])
		c += float64(float64(val[2]) * w[col[2]])
		d += float64(float64(val[3]) * w[col[3]])
		col, val = col[4:], val[4:]
	}
	for i, j := range col {
		a += float64(float64(val[i]) * w[j])
	}
	return (a + b) + (c + d)
}

func sparseAxpy(g []float64, a float64, col []int32, val []float32) {
	val = val[:len(col)]
	for i, j := range col {
		g[j] += float64(a * float64(val[i]))
	}
}

func denseDot(x []float32, w []float64) float64 {
	var a, b, c, d float64
	w = w[:len(x)]
	for len(x) >= 4 {
		a += float64(float64(x[0]) * w[0])
		b += float64(float64(x[1]) * w[1])
		c += float64(float64(x[2]) * w[2])
		d += float64(float64(x[3]) * w[3])
		x, w = x[4:], w[4:]
	}
	for i, v := range x {
		a += float64(float64(v) * w[i])
	}
	return (a + b) + (c + d)
}

func denseAxpy(g []float64, a float64, x []float32) {
	g = g[:len(x)]
	for j, v := range x {
		g[j] += float64(a * float64(v))
	}
}

// squaredLoss is half the squared error, summed over targets.
type squaredLoss struct{}

func (squaredLoss) check(b *data.Batch, outputs int) error {
	if len(b.Y) != b.N*outputs {
		return fmt.Errorf("linear: %d samples have %d targets in all; the model predicts %d each", b.N, len(b.Y), outputs)
	}
	return nil
}

func (squaredLoss) slope(r, h, z []float64, b *data.Batch, lo, hi int) float64 {
	var sum float64
	y := b.Y[lo*len(b.Y)/b.N : hi*len(b.Y)/b.N]
	for i, v := range z {
		e := v - float64(y[i])
		r[i], h[i] = e, 1
		sum += float64(e * e)
	}
	return sum / 2
}

func (squaredLoss) bend([]float64, []float64) {}

func (squaredLoss) diagonal([]float64, int) float64 { return 1 }

func (squaredLoss) line(z, u []float64, t float64, b *data.Batch, _ int) (sum, slope, bend float64) {
	for i, v := range z {
		e := v + float64(t*u[i]) - float64(b.Y[i])
		sum += float64(e * e)
		slope += float64(e * u[i])
		bend += float64(u[i] * u[i])
	}
	return sum / 2, slope, bend
}

func checkClasses(b *data.Batch, classes int) error {
	if len(b.Class) != b.N {
		return fmt.Errorf("linear: %d samples have %d labels", b.N, len(b.Class))
	}
	for i, c := range b.Class {
		if uint(c) >= uint(classes) {
			return fmt.Errorf("linear: sample %d of a batch is of class %d; the model has classes 0 to %d", i, c, classes-1)
		}
	}
	return nil
}

type logisticLoss struct{}

func (logisticLoss) check(b *data.Batch, _ int) error { return checkClasses(b, 2) }

func (logisticLoss) slope(r, h, z []float64, b *data.Batch, lo, hi int) float64 {
	return vec.LogisticLoss64(r, h, z, b.Class[lo:hi])
}

func (logisticLoss) bend(u, h []float64) { u[0] *= h[0] }

func (logisticLoss) diagonal(h []float64, _ int) float64 { return h[0] }

func (logisticLoss) line(z, u []float64, t float64, b *data.Batch, _ int) (sum, slope, bend float64) {
	return vec.LogisticLine64(z, u, t, b.Class)
}

// softmaxLoss keeps the probabilities p for its second derivatives, diag(p) - p p'.
type softmaxLoss struct{}

func (softmaxLoss) check(b *data.Batch, outputs int) error { return checkClasses(b, outputs) }

func (softmaxLoss) slope(r, h, z []float64, b *data.Batch, lo, hi int) float64 {
	return vec.SoftmaxLoss64(r, h, z, b.Class[lo:hi], len(z)/(hi-lo))
}

func (softmaxLoss) bend(u, p []float64) {
	var mean float64
	for c, v := range u {
		mean += float64(p[c] * v)
	}
	for c := range u {
		u[c] = float64(p[c] * (u[c] - mean))
	}
}

func (softmaxLoss) diagonal(p []float64, k int) float64 { return float64(p[k] * (1 - p[k])) }

func (softmaxLoss) line(z, u []float64, t float64, b *data.Batch, outputs int) (sum, slope, bend float64) {
	s := rooms.Get().(*room)
	defer rooms.Put(s)
	s.u = sized(s.u, outputs)
	return vec.SoftmaxLine64(z, u, t, b.Class, outputs, s.u)
}
