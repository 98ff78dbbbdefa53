package nn

import (
	"context"
	"fmt"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model"
)

// Part is a network on its way through one dense batch, as a part of a larger model, which makes the batch's X and turns Z
// into a loss itself. It is for one goroutine, which must Close it.
type Part struct {
	Z  []float32 // the last layer's output; valid until Close
	ws *workspace
	n  int
}

// Part sends b, whose labels it ignores, through the layers. train says that Back will be called.
func (n *Network) Part(ctx context.Context, x []float32, b *data.Batch, train bool) (Part, error) {
	n.mustFit("x", x)
	if n.lowest > 0 || len(b.Row) > 0 {
		return Part{}, fmt.Errorf("nn: as a part of a model a network needs a dense layer first and a dense batch")
	}
	if err := n.check(b, false); err != nil {
		return Part{}, err
	}
	ws := n.pool.Get().(*workspace)
	z, err := ws.forward(ctx, x, b, train)
	if err != nil {
		ws.release()
		return Part{}, err
	}
	return Part{z, ws, b.N}, nil
}

// Back writes the gradients of the parameters to g and of the batch's X to dx, from dz, that of Z. done is Grad's.
func (p Part) Back(ctx context.Context, dz, dx, g []float32, done func(model.Segment)) error {
	p.ws.net.mustFit("g", g)
	for i := range p.ws.d {
		p.ws.d[i] = resize(p.ws.d[i], p.n*p.ws.net.widest)
	}
	copy(p.ws.d[0], dz[:len(p.Z)])
	return p.ws.backward(ctx, g, dx[:p.n*p.ws.net.conf.In], done)
}

// Close gives the memory back.
func (p Part) Close() { p.ws.release() }
