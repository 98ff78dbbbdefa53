package linear

import (
	"fmt"
	"math"
	"sync"

	"github.com/covey-ml/covey/data"
)

// reference is a shift and a scale for each feature and then each target, in which statistics are taken: a value v of
// column j counts as (v - Shift[j]) / Scale[j]. Columns of very different sizes, or far from zero, then lose no more to
// rounding than any others. Scales are powers of two, so that dividing by them is exact. It changes how well the
// equations can be solved, never what their solution means.
type reference struct {
	Shift, Scale []float64
}

// plain is the reference that changes nothing.
func plain(columns int) reference {
	r := reference{make([]float64, columns), make([]float64, columns)}
	for j := range r.Scale {
		r.Scale[j] = 1
	}
	return r
}

// standard is the reference of a data set: shifts are column means and scales the power of two next above the root mean
// square about them, both found in float64 by two passes in sample order, so that whoever reads the same samples finds
// the same bits. A column that never varies is shifted by its value, exactly. In sparse data a column that is mostly
// zero is not shifted, so that its zeros stay zero. With shift false (a model without bias) nothing is.
func standard(ds data.Dataset, shift bool) reference {
	in := ds.Info()
	d, t := in.Dim, in.Targets
	r := plain(d + t)
	n := ds.Len()
	if n == 0 {
		return r
	}
	cols := make([]column, d+t)
	each := func(f func(c *column, j int, v float64)) {
		inChunks(ds, func(b *data.Batch) {
			for e, end := span(b); e < end; e++ {
				f(&cols[b.Col[e]], int(b.Col[e]), float64(b.Val[e]))
			}
			for e, v := range b.X {
				f(&cols[e%d], e%d, float64(v))
			}
			for e, v := range b.Y {
				f(&cols[d+e%t], d+e%t, float64(v))
			}
		})
	}
	each(func(c *column, _ int, v float64) { c.add(v) })
	for j := range cols {
		c := &cols[j]
		if c.n < n { // the rest are zeros that were not written down
			c.low, c.high = min(c.low, 0), max(c.high, 0)
		}
		switch {
		case !shift || 2*c.n < n:
		case c.low == c.high:
			r.Shift[j] = c.low
		default:
			r.Shift[j] = c.sum / float64(n)
		}
		c.square = float64(float64(n-c.n) * float64(r.Shift[j]*r.Shift[j]))
	}
	each(func(c *column, j int, v float64) {
		u := v - r.Shift[j]
		c.square += float64(u * u)
	})
	for j := range cols {
		if rms := math.Sqrt(cols[j].square / float64(n)); rms > 0 {
			_, e := math.Frexp(rms)
			r.Scale[j] = math.Ldexp(1, e)
		}
	}
	return r
}

// span is where a sparse batch's values lie.
func span(b *data.Batch) (begin, end int) {
	if len(b.Row) == 0 {
		return 0, 0
	}
	return b.Row[0], b.Row[b.N]
}

// column is what Standard learns of one column: the values written down, and their sums.
type column struct {
	n                      int
	sum, square, low, high float64
}

func (c *column) add(v float64) {
	if c.n == 0 {
		c.low, c.high = v, v
	}
	c.n++
	c.sum += v
	c.low, c.high = min(c.low, v), max(c.high, v)
}

// normal is the normal equations of least squares with penalty alpha |w|^2.
//
// The statistics are the lower triangle, row by row, of the sum of a a' over samples, where a is the sample's features
// and targets seen through the reference, and a one: (dim + targets + 1) columns in all.
type normal struct {
	conf  Config
	alpha float64
	ref   *lazy
}

func newNormal(c Config, alpha float64) normal {
	return normal{conf: c, alpha: alpha, ref: new(lazy)}
}

// lazy is a reference found when first asked for.
type lazy struct {
	once sync.Once
	ref  reference
	err  error
}

func (m *normal) reference() (reference, error) {
	m.ref.once.Do(func() {
		if m.conf.Train == nil {
			m.ref.ref = plain(m.conf.Dim + m.conf.Outputs)
			return
		}
		if in := m.conf.Train.Info(); in.Dim != m.conf.Dim || in.Targets != m.conf.Outputs {
			m.ref.err = fmt.Errorf("linear: the training set has %d features and %d targets, the model %d and %d",
				in.Dim, in.Targets, m.conf.Dim, m.conf.Outputs)
			return
		}
		m.ref.ref = standard(m.conf.Train, !m.conf.NoBias)
	})
	return m.ref.ref, m.ref.err
}

// StatLen implements model.Direct. It grows with the square of dim: 8 features and a target make 55, 1000 make 502,503.
func (m *normal) StatLen() int {
	k := m.conf.Dim + m.conf.Outputs + 1
	return k * (k + 1) / 2
}

// Stats implements model.Direct. It adds sample after sample in float64, no product fused with a sum, so that the same
// batch gives the same bits everywhere. With Config.Train the numbers are of the order of the sample count.
func (m *normal) Stats(s []float64, b *data.Batch) error {
	d, t := m.conf.Dim, m.conf.Outputs
	switch {
	case len(s) != m.StatLen():
		panic(fmt.Sprintf("linear: %d statistics, expected %d", len(s), m.StatLen()))
	case b.N == 0:
		return nil
	case b.Dim != d:
		return fmt.Errorf("linear: samples have %d features, the model takes %d", b.Dim, d)
	case len(b.Y) != b.N*t:
		return fmt.Errorf("linear: %d samples have %d targets in all; the model predicts %d each", b.N, len(b.Y), t)
	}
	ref, err := m.reference()
	if err != nil {
		return err
	}
	sparse := len(b.Row) > 0
	a := make([]float64, d+t+1)
	a[d+t] = 1
	at := make([]int, 0, d+t+1) // sparse: columns that are not zero
	for i := range b.N {
		if sparse {
			// A written value, a shifted zero, or a target.
			at = at[:0]
			e := b.Row[i]
			for j := range d {
				v := 0.0
				if e < b.Row[i+1] && int(b.Col[e]) == j {
					v = float64(b.Val[e])
					e++
				}
				if a[j] = (v - ref.Shift[j]) / ref.Scale[j]; a[j] != 0 {
					at = append(at, j)
				}
			}
		} else {
			for j, v := range b.X[i*d : (i+1)*d] {
				a[j] = (float64(v) - ref.Shift[j]) / ref.Scale[j]
			}
		}
		for k, v := range b.Y[i*t : (i+1)*t] {
			a[d+k] = (float64(v) - ref.Shift[d+k]) / ref.Scale[d+k]
		}
		if sparse {
			for j := d; j <= d+t; j++ {
				at = append(at, j)
			}
			for p, r := range at {
				row := s[r*(r+1)/2:]
				for _, c := range at[:p+1] {
					row[c] += float64(a[r] * a[c])
				}
			}
			continue
		}
		for r, v := range a {
			row := s[r*(r+1)/2:][:r+1]
			for c, u := range a[:r+1] {
				row[c] += float64(v * u)
			}
		}
	}
	return nil
}

// Solve implements model.Direct: the minimum, from the statistics of n samples, by a Cholesky factorisation with
// diagonal pivoting in float64. Where columns are collinear and there are many minima, it takes the one of least
// |w|, as scikit-learn does: a direction in which the columns, scaled to unit variance, vary by less than a
// millionth counts as no variation. A column that does not vary has weight 0. Weights are rounded to float32 and the
// bias is then the best for the rounded weights.
func (m *normal) Solve(x []float32, s []float64, n int) error {
	d, t := m.conf.Dim, m.conf.Outputs
	k := d + t // the column of ones
	if len(s) != m.StatLen() {
		panic(fmt.Sprintf("linear: %d statistics, expected %d", len(s), m.StatLen()))
	}
	at := func(r, c int) float64 { return s[r*(r+1)/2+c] }
	if n < 1 || at(k, k) != float64(n) {
		return fmt.Errorf("linear: the statistics are of %v samples, not of %d", at(k, k), n)
	}
	for i, v := range s {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("linear: statistic %d is %v: a feature or target is not finite or far too large", i, v)
		}
	}
	ref, err := m.reference()
	if err != nil {
		return err
	}
	// centred is the covariance of columns r >= c, times n.
	centred := func(r, c int) float64 {
		if m.conf.NoBias {
			return at(r, c)
		}
		return at(r, c) - float64(at(k, r)*(at(k, c)/float64(n)))
	}
	// Equilibrate: column j is divided by unit[j], so that the matrix has ones on its diagonal.
	unit := make([]float64, d)
	var live []int // columns that vary
	for j := range d {
		v := centred(j, j)
		if v <= 1e-13*at(j, j) {
			v = 0 // nothing but rounding
		}
		if v += m.alpha / float64(ref.Scale[j]*ref.Scale[j]); v > 0 {
			unit[j] = math.Sqrt(v)
			live = append(live, j)
		}
	}
	a := make([]float64, len(live)*len(live))
	raw := make([]float64, len(live)) // of a feature's own unit, in the equations'
	for p, r := range live {
		raw[p] = 1 / (unit[r] * ref.Scale[r])
		for q, c := range live[:p] {
			v := centred(r, c) / (unit[r] * unit[c])
			a[p*len(live)+q], a[q*len(live)+p] = v, v
		}
		a[p*len(live)+p] = 1
	}
	f := factor(a, len(live), 1e-12)
	b := make([]float64, len(live))
	clear(x)
	for o := range t {
		for p, j := range live {
			b[p] = centred(d+o, j) / unit[j]
		}
		f.solve(b, raw)
		bias := ref.Shift[d+o] + float64(ref.Scale[d+o]*(at(k, d+o)/float64(n)))
		for p, j := range live {
			w := float32(float64(b[p] * ref.Scale[d+o]))
			x[o*d+j] = w
			mean := ref.Shift[j] + float64(ref.Scale[j]*(at(k, j)/float64(n)))
			bias -= float64(float64(w) * mean)
		}
		if !m.conf.NoBias {
			x[t*d+o] = float32(bias)
		}
	}
	return nil
}
