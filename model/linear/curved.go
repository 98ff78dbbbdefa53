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
// run in order, but for the loss's, whose lanes vec says.
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
	// bend overwrites each sample's u by its second derivative, from its h, times u.
	bend(u, h []float64, outputs int)
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

// blockRows is how many samples are taken through all that a question asks of them, while their features are in the
// cache.
const blockRows = 128

// room is scratch of one call: numbers by margin of a block (two of them), by sample of a block, and by feature.
type room struct{ r, u, by, x []float64 }

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
	s.r = sized(s.r, blockRows*k)
	var sum float64
	for lo := 0; lo < b.N; lo += blockRows {
		hi := min(lo+blockRows, b.N)
		r := s.r[:(hi-lo)*k]
		m.project(z[lo*k:hi*k], x, b, lo, hi, s)
		sum += m.loss.slope(r, h[lo*k:hi*k], z[lo*k:hi*k], b, lo, hi)
		m.pull(g, r, b, lo, hi, s)
	}
	return sum, nil
}

// Bend implements model.Curved.
func (m *curved) Bend(hv, v, h []float64, b *data.Batch) {
	k := m.outputs
	if k == 1 && !m.bias && len(b.Row) > 0 { // the second derivatives are h
		vec.CSRAddHess(hv, b.Row, b.Col, values(b), h, v)
		return
	}
	s := rooms.Get().(*room)
	defer rooms.Put(s)
	s.u = sized(s.u, blockRows*k)
	for lo := 0; lo < b.N; lo += blockRows {
		hi := min(lo+blockRows, b.N)
		u := s.u[:(hi-lo)*k]
		m.project(u, v, b, lo, hi, s)
		m.loss.bend(u, h[lo*k:hi*k], k)
		m.pull(hv, u, b, lo, hi, s)
	}
}

// project writes the margins of samples lo to hi.
func (m *curved) project(z, x []float64, b *data.Batch, lo, hi int, s *room) {
	n := m.outputs
	for k := range n {
		w := x[k*m.dim : (k+1)*m.dim]
		switch {
		case len(b.Row) == 0:
			for i := lo; i < hi; i++ {
				z[(i-lo)*n+k] = denseDot(b.X[i*m.dim:(i+1)*m.dim], w)
			}
		case n == 1:
			vec.CSRMargins(z, b.Row[lo:hi+1], b.Col, values(b), w)
		default:
			s.by = sized(s.by, hi-lo)
			vec.CSRMargins(s.by, b.Row[lo:hi+1], b.Col, values(b), w)
			for i, v := range s.by {
				z[i*n+k] = v
			}
		}
		if m.bias {
			bias := x[m.dim*n+k]
			for i := range hi - lo {
				z[i*n+k] += bias
			}
		}
	}
}

// pull adds to g the features of samples lo to hi, each times its margins' r.
func (m *curved) pull(g, r []float64, b *data.Batch, lo, hi int, s *room) {
	n := m.outputs
	for k := range n {
		w := g[k*m.dim : (k+1)*m.dim]
		switch {
		case len(b.Row) == 0:
			for i := lo; i < hi; i++ {
				denseAxpy(w, r[(i-lo)*n+k], b.X[i*m.dim:(i+1)*m.dim])
			}
		case n == 1:
			vec.CSRAddGrad(w, b.Row[lo:hi+1], b.Col, values(b), r)
		default:
			s.by = sized(s.by, hi-lo)
			for i := range s.by {
				s.by[i] = r[i*n+k]
			}
			vec.CSRAddGrad(w, b.Row[lo:hi+1], b.Col, values(b), s.by)
		}
		if m.bias {
			bias := &g[m.dim*n+k]
			for i := range hi - lo {
				*bias += r[i*n+k]
			}
		}
	}
}

// values are the values of sparse samples as vec takes them: nil stands for ones.
func values(b *data.Batch) []float32 {
	if b.Ones {
		return nil
	}
	return b.Val
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
	vec.CSRAddGram(a[:d*(d+1)/2], b.Row, b.Col, values(b), h, d)
	if !m.bias {
		return
	}
	last := a[d*(d+1)/2:] // the bias's row
	vec.CSRAddGrad(last[:d], b.Row, b.Col, values(b), h)
	for _, v := range h {
		last[d] += v
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

func (squaredLoss) bend([]float64, []float64, int) {}

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
	return vec.LogLoss(r, h, z, b.Class[lo:hi])
}

func (logisticLoss) bend(u, h []float64, _ int) {
	for i, v := range h {
		u[i] *= v
	}
}

func (logisticLoss) diagonal(h []float64, _ int) float64 { return h[0] }

func (logisticLoss) line(z, u []float64, t float64, b *data.Batch, _ int) (sum, slope, bend float64) {
	s := rooms.Get().(*room)
	defer rooms.Put(s)
	s.r, s.u, s.x = sized(s.r, blockRows), sized(s.u, blockRows), sized(s.x, blockRows)
	for lo := 0; lo < b.N; lo += blockRows {
		hi := min(lo+blockRows, b.N)
		at, r, h, way := s.u[:hi-lo], s.r[:hi-lo], s.x[:hi-lo], u[lo:hi]
		for i, v := range z[lo:hi] {
			at[i] = v + float64(t*way[i])
		}
		sum += vec.LogLoss(r, h, at, b.Class[lo:hi])
		for i, v := range way {
			slope += float64(r[i] * v)
			bend += float64(h[i] * float64(v*v))
		}
	}
	return sum, slope, bend
}

// softmaxLoss keeps the probabilities p for its second derivatives, diag(p) - p p'.
type softmaxLoss struct{}

func (softmaxLoss) check(b *data.Batch, outputs int) error { return checkClasses(b, outputs) }

func (softmaxLoss) slope(r, h, z []float64, b *data.Batch, lo, hi int) float64 {
	return vec.SoftmaxLoss64(r, h, z, b.Class[lo:hi], len(z)/(hi-lo))
}

func (softmaxLoss) bend(u, p []float64, outputs int) {
	for len(u) > 0 {
		own, prob := u[:outputs], p[:outputs]
		var mean float64
		for c, v := range own {
			mean += float64(prob[c] * v)
		}
		for c := range own {
			own[c] = float64(prob[c] * (own[c] - mean))
		}
		u, p = u[outputs:], p[outputs:]
	}
}

func (softmaxLoss) diagonal(p []float64, k int) float64 { return float64(p[k] * (1 - p[k])) }

func (softmaxLoss) line(z, u []float64, t float64, b *data.Batch, outputs int) (sum, slope, bend float64) {
	s := rooms.Get().(*room)
	defer rooms.Put(s)
	s.u = sized(s.u, outputs)
	return vec.SoftmaxLine64(z, u, t, b.Class, outputs, s.u)
}
