// Package ctr is models for click-through rates: two classes, told from a few of very many sparse features, as feature
// hashing makes them (data.Options.Hash) or LIBSVM files hold them.
//
// Both are model.Sparse: parameters that belong to a feature are the rows of tables, numbered as the features are, so that
// a batch needs only those of its own features and a feature that never occurs costs nothing.
//
//	NewLogistic   sparse logistic regression: a table of one weight a feature, and a bias
//	NewWideDeep   the same, plus a network on embeddings of the features (Cheng et al., Wide & deep learning for
//	              recommender systems, 2016, arXiv 1606.07792, sections 3.1 to 3.3), the sum of whose outputs is the logit
//
// Neither has a regulariser of its own: optimizers bring theirs (ftrl's l1 and l2).
package ctr

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/model/nn"
	"github.com/covey-ml/covey/vec"
)

// Config is a wide-and-deep network.
type Config struct {
	Dim int // features; at most 2^31
	// Fields holds the first feature of each field (a column of a table), increasing from 0: the embeddings of each field's
	// features are added up and the fields' sums stand side by side as the network's input. nil is one field: all of a
	// sample's embeddings are added up.
	Fields []int
	Width  int        // numbers of an embedding; at least 1
	Layers []nn.Layer // on the embeddings; the layer that makes one number of them is added
}

// Embedding bounds the numbers that an embedding begins with, uniformly drawn: as Keras has it.
const Embedding = 0.05

// maxDim is what a batch can number.
const maxDim = 1 << 31

// Model is one of this package's models. It holds no parameters and is safe for concurrent use.
type Model struct {
	dim    int
	fields []int // as in Config, at least one
	net    *nn.Network
	layout model.Layout
	tables []model.Table
	pool   sync.Pool // of *room
}

var _ model.Sparse = (*Model)(nil)

// NewLogistic returns sparse logistic regression on dim features, which starts at zero. Its table is "weight", its dense
// parameter "bias".
func NewLogistic(dim int) (*Model, error) {
	return build("", Config{Dim: dim})
}

// NewWideDeep returns a wide-and-deep network. Its tables are "wide.weight", which starts at zero, and "deep.embedding";
// its dense parameters are those of the network, as package nn names and draws them, after "deep.", and "wide.bias".
func NewWideDeep(c Config) (*Model, error) {
	if c.Width < 1 {
		return nil, fmt.Errorf("embeddings of %d numbers: at least 1 is needed", c.Width)
	}
	return build("wide.", c)
}

func build(wide string, c Config) (*Model, error) {
	if c.Dim < 1 || int64(c.Dim) > maxDim {
		return nil, fmt.Errorf("samples of %d features: 1 to %d are possible", c.Dim, int64(maxDim))
	}
	m := &Model{dim: c.Dim, fields: c.Fields}
	if len(m.fields) == 0 {
		m.fields = []int{0}
	}
	for i, f := range m.fields {
		if i == 0 && f != 0 || i > 0 && f <= m.fields[i-1] || f >= c.Dim {
			return nil, fmt.Errorf("field %d begins with feature %d: fields begin with feature 0 and go on in increasing order, below %d", i, f, c.Dim)
		}
	}
	m.tables = []model.Table{{Name: wide + "weight", Rows: uint64(c.Dim), Width: 1}}
	if c.Width > 0 {
		var err error
		layers := append(slices.Clone(c.Layers), nn.Dense{Out: 1})
		if m.net, err = nn.New(nn.Config{In: len(m.fields) * c.Width, Layers: layers, Head: nn.Logistic{}}); err != nil {
			return nil, err
		}
		for _, s := range m.net.Layout() {
			m.layout = m.layout.Add("deep."+s.Name, s.Shape...)
		}
		m.tables = append(m.tables, model.Table{Name: "deep.embedding", Rows: uint64(c.Dim), Width: c.Width, Bound: Embedding})
	}
	m.layout = m.layout.Add(wide+"bias", 1)
	m.pool.New = func() any { return new(room) }
	return m, nil
}

// Layout implements model.Sparse.
func (m *Model) Layout() model.Layout { return m.layout }

// Tables implements model.Sparse.
func (m *Model) Tables() []model.Table { return m.tables }

// Outputs is 2: the probabilities of both classes.
func (m *Model) Outputs() int { return 2 }

// Init implements model.Sparse.
func (m *Model) Init(x []float32, seed uint64) {
	if m.net != nil {
		m.net.Init(x[:m.net.Layout().Len()], seed)
	}
	x[m.layout.Len()-1] = 0 // the bias
}

// parts is a vector cut up.
type parts struct {
	net, bias, wide, deep []float32
}

func (m *Model) cut(x []float32, p *model.Picked) parts {
	if len(x) != p.Len(m) {
		panic(fmt.Sprintf("ctr: a vector has %d elements, the dense parameters and the picked rows %d", len(x), p.Len(m)))
	}
	dense, rows := m.layout.Len(), len(p.Rows[0])
	return parts{x[:dense-1], x[dense-1 : dense], x[dense : dense+rows], x[dense+rows:]}
}

// room is the memory of one call.
type room struct {
	keys, spare []uint64 // Pick's
	row, fields []int    // offsets into the batch's values, from 0: of samples, and of the fields of each
	z, dz       []float32
	in, din     []float32 // what goes into the network, and its gradient
	b           data.Batch
}

// through works out the logits, s.z. The network's part must be closed.
func (m *Model) through(ctx context.Context, s *room, x parts, b *data.Batch, p *model.Picked, train bool) (part nn.Part, err error) {
	s.row = vec.Resized(s.row, b.N+1)
	for i, at := range b.Row {
		s.row[i] = at - b.Row[0]
	}
	val := b.Val[b.Row[0]:b.Row[b.N]]
	s.z = vec.Resized(s.z, b.N)
	vec.CSRMatVec(s.z, s.row, p.Place, val, x.wide)
	vec.AddBias(s.z, x.bias, b.N)
	if m.net == nil {
		return part, nil
	}
	width := m.tables[1].Width
	m.divide(s, b)
	s.in = vec.Resized(s.in, b.N*len(m.fields)*width)
	vec.CSRMatMul(s.in, s.fields, p.Place, val, x.deep, width)
	s.b = data.Batch{N: b.N, Dim: len(m.fields) * width, ID: b.ID, X: s.in, Seed: b.Seed}
	if part, err = m.net.Part(ctx, x.net, &s.b, train); err == nil {
		vec.Add(s.z, part.Z)
	}
	return part, err
}

// divide writes to s.fields where the values of each sample's fields begin.
func (m *Model) divide(s *room, b *data.Batch) {
	s.fields = vec.Resized(s.fields, b.N*len(m.fields)+1)
	at, first := 0, b.Row[0]
	for i := range b.N {
		k, end := b.Row[i], b.Row[i+1]
		for f := range m.fields {
			s.fields[at] = k - first
			at++
			for k < end && (f+1 == len(m.fields) || int(b.Col[k]) < m.fields[f+1]) {
				k++
			}
		}
	}
	s.fields[at] = b.Row[b.N] - first
}

// Grad implements model.Sparse.
func (m *Model) Grad(ctx context.Context, x, g []float32, b *data.Batch, p *model.Picked, done func(model.Segment)) (model.Loss, error) {
	at, grad := m.cut(x, p), m.cut(g, p)
	if err := m.check(b, p, true); err != nil {
		return model.Loss{}, err
	}
	if b.N == 0 {
		clear(g)
		for _, s := range slices.Backward(m.layout) {
			if done != nil {
				done(s)
			}
		}
		return model.Loss{}, nil
	}
	s := m.pool.Get().(*room)
	defer m.pool.Put(s)
	part, err := m.through(ctx, s, at, b, p, true)
	if err != nil {
		return model.Loss{}, err
	}
	s.dz = vec.Resized(s.dz, b.N)
	loss := nn.Logistic{}.Loss(s.dz, s.z, b)
	vec.SumRows(grad.bias, s.dz, b.N, false)
	if done != nil {
		done(m.layout[len(m.layout)-1])
	}
	val := b.Val[b.Row[0]:b.Row[b.N]]
	clear(grad.wide)
	vec.CSRTMatMul(grad.wide, s.row, p.Place, val, s.dz, 1)
	if m.net != nil {
		defer part.Close()
		s.din = vec.Resized(s.din, len(s.in))
		err := part.Back(ctx, s.dz, s.din, grad.net, func(inner model.Segment) {
			if done != nil {
				done(m.layout[m.net.Layout().Index(inner)])
			}
		})
		if err != nil {
			return model.Loss{}, err
		}
		clear(grad.deep)
		vec.CSRTMatMul(grad.deep, s.fields, p.Place, val, s.din, m.tables[1].Width)
	}
	return model.Loss{Sum: loss, N: b.N}, nil
}

// logits calls f with the logits of b's samples.
func (m *Model) logits(ctx context.Context, x []float32, b *data.Batch, p *model.Picked, f func(z []float32)) error {
	s := m.pool.Get().(*room)
	defer m.pool.Put(s)
	part, err := m.through(ctx, s, m.cut(x, p), b, p, false)
	if err != nil {
		return err
	}
	if m.net != nil {
		defer part.Close()
	}
	f(s.z)
	return nil
}

// Eval implements model.Sparse. The loss of a sample is the log-loss, in nats.
func (m *Model) Eval(ctx context.Context, x []float32, b *data.Batch, p *model.Picked) (model.Metrics, error) {
	if err := m.check(b, p, true); err != nil || b.N == 0 {
		return model.Metrics{}, err
	}
	e := model.Metrics{N: b.N}
	err := m.logits(ctx, x, b, p, func(z []float32) {
		e.Loss = float64(nn.Logistic{}.Loss(nil, z, b))
		e.Correct, _ = nn.Logistic{}.Score(z, b)
	})
	return e, err
}

// Predict implements model.Sparse. b needs no labels.
func (m *Model) Predict(ctx context.Context, x []float32, b *data.Batch, p *model.Picked, out []float32) error {
	if err := m.check(b, p, false); err != nil || b.N == 0 {
		return err
	}
	return m.logits(ctx, x, b, p, func(z []float32) { nn.Logistic{}.Predict(out[:2*b.N], z, b.N) })
}
