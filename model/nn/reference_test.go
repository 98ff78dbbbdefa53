package nn

import (
	"math"
	"testing"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/rng"
)

// reference is the sum of b's losses, written plainly in float64, sample by sample, for parameters x in the layout of
// net. Dropout masks are found from their definition.
func reference(net *Network, x []float64, b *data.Batch) float64 {
	var total float64
	for i := range b.N {
		v := make([]float64, net.conf.In)
		for j := range v {
			v[j] = float64(at(b, i, j))
		}
		off := 0
		for k, l := range net.conf.Layers {
			switch l := l.(type) {
			case Dense:
				y := make([]float64, l.Out)
				for o := range y {
					for j := range v {
						y[o] += x[off+o*len(v)+j] * v[j]
					}
				}
				off += l.Out * len(v)
				if !l.NoBias {
					for o := range y {
						y[o] += x[off+o]
					}
					off += l.Out
				}
				v = y
			case ReLU:
				for j := range v {
					v[j] = max(v[j], 0)
				}
			case Tanh:
				for j := range v {
					v[j] = math.Tanh(v[j])
				}
			case GELU:
				for j := range v {
					v[j] *= 0.5 * (1 + math.Erf(v[j]/math.Sqrt2))
				}
			case Dropout:
				key := rng.Key(b.Seed, "dropout", uint64(k), uint64(b.ID[i]))
				for j := range v {
					bits := rng.Mix(key + uint64(j&^1))
					if j&1 == 1 {
						bits >>= 32
					}
					if float64(uint32(bits))/(1<<32) < l.P {
						v[j] = 0
					} else {
						v[j] /= 1 - l.P
					}
				}
			}
		}
		switch net.conf.Head.(type) {
		case CrossEntropy:
			var s float64
			for _, u := range v {
				s += math.Exp(u)
			}
			total += math.Log(s) - v[b.Class[i]]
		case Logistic:
			total += math.Log1p(math.Exp(-v[0] * float64(2*b.Class[i]-1)))
		case MeanSquared:
			for t, u := range v {
				e := u - float64(b.Y[i*len(v)+t])
				total += e * e / float64(len(v))
			}
		case HalfSquared:
			for t, u := range v {
				e := u - float64(b.Y[i*len(v)+t])
				total += e * e / 2
			}
		}
	}
	return total
}

// at is feature j of sample i.
func at(b *data.Batch, i, j int) float32 {
	if len(b.Row) == 0 {
		return b.X[i*b.Dim+j]
	}
	for e := b.Row[i]; e < b.Row[i+1]; e++ {
		if int(b.Col[e]) == j {
			return b.Val[e]
		}
	}
	return 0
}

// differences is the gradient of reference by central differences.
func differences(net *Network, x []float32, b *data.Batch) []float64 {
	const h = 1e-5
	p := make([]float64, len(x))
	for i, v := range x {
		p[i] = float64(v)
	}
	g := make([]float64, len(x))
	for i, v := range p {
		p[i] = v + h
		up := reference(net, p, b)
		p[i] = v - h
		g[i] = (up - reference(net, p, b)) / (2 * h)
		p[i] = v
	}
	return g
}

// batch makes n samples of dim features, a third of them zero, with classes and targets.
func batch(seed uint64, n, dim, classes, targets int) *data.Batch {
	r := rng.New(seed, "test batch")
	b := &data.Batch{N: n, Dim: dim, Seed: seed, X: make([]float32, n*dim)}
	for i := range b.X {
		if r.IntN(3) > 0 {
			b.X[i] = 2*r.Float32() - 1
		}
	}
	for i := range n {
		b.ID = append(b.ID, 1000+7*i)
		if classes > 0 {
			b.Class = append(b.Class, int32(r.IntN(classes)))
		}
		for range targets {
			b.Y = append(b.Y, 4*r.Float32()-2)
		}
	}
	return b
}

// rows is samples lo to hi of b.
func rows(b *data.Batch, lo, hi, targets int) *data.Batch {
	c := &data.Batch{N: hi - lo, Dim: b.Dim, Seed: b.Seed, ID: b.ID[lo:hi]}
	if len(b.Row) > 0 {
		for _, r := range b.Row[lo : hi+1] {
			c.Row = append(c.Row, r-b.Row[lo])
		}
		c.Col, c.Val = b.Col[b.Row[lo]:b.Row[hi]], b.Val[b.Row[lo]:b.Row[hi]]
	} else {
		c.X = b.X[lo*b.Dim : hi*b.Dim]
	}
	if len(b.Class) > 0 {
		c.Class = b.Class[lo:hi]
	}
	if targets > 0 {
		c.Y = b.Y[lo*targets : hi*targets]
	}
	return c
}

// sparse is b as compressed rows.
func sparse(b *data.Batch) *data.Batch {
	c := *b
	c.X = nil
	c.Row = []int{0}
	for i := range b.N {
		for j := range b.Dim {
			if v := b.X[i*b.Dim+j]; v != 0 {
				c.Col, c.Val = append(c.Col, int32(j)), append(c.Val, v)
			}
		}
		c.Row = append(c.Row, len(c.Col))
	}
	return &c
}

// network is a case that the tests run through.
type network struct {
	name             string
	conf             Config
	classes, targets int
	dense            bool // takes dense samples only
}

func networks() []network {
	return []network{
		{"one layer", Config{In: 7, Layers: []Layer{Dense{Out: 4}}, Head: CrossEntropy{}}, 4, 0, false},
		{"no bias", Config{In: 7, Layers: []Layer{Dense{Out: 3, NoBias: true}}, Head: CrossEntropy{}, Bare: true}, 3, 0, false},
		{"relu", Config{In: 7, Layers: []Layer{Dense{Out: 9}, ReLU{}, Dense{Out: 5}, ReLU{}, Dense{Out: 3}}, Head: CrossEntropy{}}, 3, 0, false},
		{"tanh", Config{In: 7, Layers: []Layer{Dense{Out: 6}, Tanh{}, Dense{Out: 3}}, Head: CrossEntropy{}}, 3, 0, false},
		{"gelu", Config{In: 7, Layers: []Layer{Dense{Out: 6}, GELU{}, Dense{Out: 2}}, Head: MeanSquared{}}, 0, 2, false},
		{"dropout", Config{In: 7, Layers: []Layer{Dense{Out: 11}, Tanh{}, Dropout{P: 0.4}, Dense{Out: 6}, GELU{}, Dropout{P: 0.2}, Dense{Out: 3}}, Head: CrossEntropy{}}, 3, 0, false},
		{"no dropout", Config{In: 7, Layers: []Layer{Dense{Out: 5}, Dropout{}, Dense{Out: 3}}, Head: CrossEntropy{}}, 3, 0, false},
		{"dropout first", Config{In: 7, Layers: []Layer{Dropout{P: 0.3}, Dense{Out: 3}}, Head: CrossEntropy{}}, 3, 0, true},
		{"activation last", Config{In: 7, Layers: []Layer{Dense{Out: 3}, Tanh{}}, Head: MeanSquared{}}, 0, 3, false},
		{"logistic", Config{In: 7, Layers: []Layer{Dense{Out: 1}}, Head: Logistic{}, Bare: true}, 2, 0, false},
		{"deep logistic", Config{In: 7, Layers: []Layer{Dense{Out: 4}, ReLU{}, Dense{Out: 1}}, Head: Logistic{}}, 2, 0, false},
		{"mean squared", Config{In: 7, Layers: []Layer{Dense{Out: 3}}, Head: MeanSquared{}}, 0, 3, false},
		{"half squared", Config{In: 7, Layers: []Layer{Dense{Out: 3}}, Head: HalfSquared{}}, 0, 3, false},
		{"half squared, one", Config{In: 7, Layers: []Layer{Dense{Out: 1}}, Head: HalfSquared{}}, 0, 1, false},
	}
}

func build(t testing.TB, c Config) (net *Network, x, g []float32) {
	t.Helper()
	net, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	x, g = make([]float32, net.Layout().Len()), make([]float32, net.Layout().Len())
	net.Init(x, 3)
	return net, x, g
}
