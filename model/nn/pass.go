package nn

import (
	"context"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model"
)

// pass is what one layer sees of one batch: n rows of in values go in, n rows of out values come out.
type pass struct {
	b       *data.Batch
	n       int
	in, out int
	index   int  // the layer's number
	train   bool // Grad, as opposed to Eval and Predict
	relu    bool // Dense: y goes through the ReLU that follows; ReLU: x has gone through it already

	x, y   []float32 // input n*in (nil: the sparse batch b) and output n*out
	dx, dy []float32 // the loss's gradient with respect to them; dx is nil when nobody needs it

	w [maxParams][]float32 // parameters, in the order of wire
	g [maxParams][]float32 // their gradients

	ws   *workspace
	segs []int
	done func(model.Segment)
}

const maxParams = 2

// final reports the gradient of parameter k.
func (p *pass) final(k int) {
	if p.done != nil {
		p.done(p.ws.net.layout[p.segs[k]])
	}
}

// workspace is the memory of one call.
type workspace struct {
	net   *Network
	pass  []pass
	y     [][]float32  // y[i] is layer i's output
	d     [2][]float32 // gradients: each layer reads one and writes the other
	table []float32    // first layer's weight or its gradient, transposed, for sparse batches
}

func newWorkspace(n *Network) *workspace {
	layers := len(n.conf.Layers)
	return &workspace{net: n, pass: make([]pass, layers), y: make([][]float32, layers)}
}

// resize returns s with n elements of unspecified contents, allocating only when it is too short.
func resize(s []float32, n int) []float32 {
	if cap(s) < n {
		return make([]float32, n)
	}
	return s[:n]
}

// forward runs the layers and returns the last one's output.
func (ws *workspace) forward(ctx context.Context, x []float32, b *data.Batch, train bool) ([]float32, error) {
	n := ws.net
	in := b.X
	if len(b.Row) > 0 {
		in = nil
	}
	for i, l := range n.conf.Layers {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		ws.y[i] = resize(ws.y[i], b.N*n.width[i+1])
		p := &ws.pass[i]
		*p = pass{b: b, n: b.N, in: n.width[i], out: n.width[i+1], index: i, train: train, x: in, y: ws.y[i], ws: ws, segs: n.segs[i]}
		for k, s := range n.segs[i] {
			seg := &n.layout[s]
			p.w[k] = x[seg.Off : seg.Off+seg.Len]
		}
		switch l.(type) {
		case Dense:
			if i+1 < len(n.conf.Layers) {
				_, p.relu = n.conf.Layers[i+1].(ReLU)
			}
		case ReLU:
			p.relu = i > 0 && ws.pass[i-1].relu
		}
		l.forward(p)
		in = p.y
	}
	return in, nil
}

// backward runs the layers the other way, from the gradient in d[0] of the last output, and writes that of the input to dx
// unless it is nil.
func (ws *workspace) backward(ctx context.Context, g, dx []float32, done func(model.Segment)) error {
	n := ws.net
	cur := 0
	for i := len(n.conf.Layers) - 1; i >= n.lowest; i-- {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := &ws.pass[i]
		p.done = done
		p.dy = ws.d[cur][:p.n*p.out]
		if p.dx = dx; i > n.lowest {
			p.dx = ws.d[1-cur][:p.n*p.in]
		}
		for k, s := range n.segs[i] {
			seg := &n.layout[s]
			p.g[k] = g[seg.Off : seg.Off+seg.Len]
		}
		n.conf.Layers[i].backward(p)
		cur = 1 - cur
	}
	return nil
}

// release forgets what belongs to the caller and returns the memory to the pool.
func (ws *workspace) release() {
	clear(ws.pass)
	ws.net.pool.Put(ws)
}

// Grad implements model.Model. A context that ends is noticed between layers; g is then unspecified.
func (n *Network) Grad(ctx context.Context, x, g []float32, b *data.Batch, done func(model.Segment)) (model.Loss, error) {
	n.mustFit("x", x)
	n.mustFit("g", g)
	if err := n.check(b, true); err != nil {
		return model.Loss{}, err
	}
	if err := ctx.Err(); err != nil {
		return model.Loss{}, err
	}
	if b.N == 0 {
		clear(g)
		for i := len(n.layout) - 1; i >= 0 && done != nil; i-- {
			done(n.layout[i])
		}
		return model.Loss{}, nil
	}
	ws := n.pool.Get().(*workspace)
	defer ws.release()
	z, err := ws.forward(ctx, x, b, true)
	if err != nil {
		return model.Loss{}, err
	}
	for i := range ws.d {
		ws.d[i] = resize(ws.d[i], b.N*n.widest)
	}
	loss := n.conf.Head.Loss(ws.d[0][:len(z)], z, b)
	if err := ws.backward(ctx, g, nil, done); err != nil {
		return model.Loss{}, err
	}
	return model.Loss{Sum: loss, N: b.N}, nil
}

// Eval implements model.Model. Dropout is off.
func (n *Network) Eval(ctx context.Context, x []float32, b *data.Batch) (model.Metrics, error) {
	n.mustFit("x", x)
	if err := n.check(b, true); err != nil || b.N == 0 {
		return model.Metrics{}, err
	}
	ws := n.pool.Get().(*workspace)
	defer ws.release()
	z, err := ws.forward(ctx, x, b, false)
	if err != nil {
		return model.Metrics{}, err
	}
	m := model.Metrics{N: b.N, Loss: float64(n.conf.Head.Loss(nil, z, b))}
	m.Correct, m.SqErr = n.conf.Head.Score(z, b)
	return m, nil
}

// Predict implements model.Predictor. Dropout is off, and b needs no labels.
func (n *Network) Predict(ctx context.Context, x []float32, b *data.Batch, out []float32) error {
	n.mustFit("x", x)
	if err := n.check(b, false); err != nil || b.N == 0 {
		return err
	}
	ws := n.pool.Get().(*workspace)
	defer ws.release()
	z, err := ws.forward(ctx, x, b, false)
	if err != nil {
		return err
	}
	n.conf.Head.Predict(out[:b.N*n.outputs], z, b.N)
	return nil
}
