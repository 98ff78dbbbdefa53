// Package nn is layered networks with an explicit backward pass.
//
// A network is data before it is action: a Config lists layers and a head, New checks that they fit each other
// and lays their parameters out in one flat vector, and the Network that it returns is a model.Model:
//
//	net, err := nn.New(nn.Config{
//		In:     784,
//		Layers: []nn.Layer{nn.Dense{Out: 128}, nn.ReLU{}, nn.Dense{Out: 10}},
//		Head:   nn.CrossEntropy{},
//	})
//	x := make([]float32, net.Layout().Len())
//	net.Init(x, 1)
//	loss, err := net.Grad(ctx, x, g, batch, nil)
//
// Parameters are named as torch.nn.Sequential names them: the layer's position in the list, counting the layers
// without parameters, then weight or bias. The network above has 0.weight [128,784], 0.bias [128],
// 2.weight [10,128] and 2.bias [10], so load_state_dict of
// Sequential(Linear(784,128), ReLU(), Linear(128,10)) takes its checkpoint as it is.
//
// # Order and bits
//
// Grad walks the layers backwards and calls done for a layer's bias, then its weight, as soon as each is final and
// not needed any more, so that its reduction and its update overlap the rest of the pass. The gradient with
// respect to the first layer's input is not computed.
//
// A sample's outputs have the same bits whoever its neighbours in the batch are, and dropout masks are keyed by
// sample number. The parameters' gradients are sums over samples in the order that the kernels of package vec fix:
// the same batch gives the same bits on every machine, and a batch cut in two gives the same sum up to rounding.
// Dense and sparse (CSR) batches of the same finite samples give the same bits as long as neither features nor samples
// exceed vec.BlockK, where dense products start a new chain of sums; beyond that they agree up to rounding.
//
// # Memory
//
// Activations live in pooled workspaces, one a call, so that Grad, Eval and Predict may run concurrently and
// allocate nothing once the pool has seen the batch size.
package nn

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/rng"
)

// Config is a network as data.
type Config struct {
	In     int     // features a sample; at least 1
	Layers []Layer // in forward order; at least one with parameters
	Head   Head    // turns the last layer's output into a loss
	// Bare names the parameters of the only layer that has any "weight" and "bias", without its number.
	Bare bool
}

// Network is a wired network. It holds no parameters and is safe for concurrent use.
type Network struct {
	conf    Config
	width   []int   // width[i] goes into layer i, width[i+1] comes out
	segs    [][]int // numbers in layout of the segments of layer i
	bound   []float64
	layout  model.Layout
	lowest  int // first layer with parameters: backward stops there
	widest  int
	outputs int
	ahead   int64     // FLOPs of forward for a sample
	back    []int64   // those of backward, by segment of the layout
	pool    sync.Pool // of *workspace
}

var (
	_ model.Model     = (*Network)(nil)
	_ model.Predictor = (*Network)(nil)
	_ model.Costed    = (*Network)(nil)
)

// Layer is one step of a network. A Layer is a value that says what it is (Dense{Out: 128}); the widths and the
// parameters that it works on arrive in a pass.
type Layer interface {
	// String prints the layer for people: "dense 128", "dropout 0.1".
	String() string
	// wire returns the width that comes out when in goes in, and the parameters needed for it.
	wire(in int) (out int, params []param, err error)
	// forward writes p.y from p.x.
	forward(p *pass)
	// backward writes the parameters' gradients from p.dy, says final for each, and then writes p.dx unless nil.
	backward(p *pass)
	// flops is the cost of forward for one sample, and of backward: up to where each parameter is final, or, of a layer
	// without any, all of it as that of parameter 0. lowest layers have no p.dx.
	flops(in, out int, lowest bool) (forward int64, backward [maxParams]int64)
}

// param is a parameter that a layer needs: Init draws it uniformly from [-bound, bound).
type param struct {
	name  string
	shape []int
	bound float64
}

// maxParameters bounds a network, far beyond any memory, so that sizes in bytes do not overflow.
const maxParameters = 1 << 48

// New checks that the layers fit each other and returns the network.
func New(c Config) (*Network, error) {
	if c.In < 1 {
		return nil, fmt.Errorf("nn: samples of %d features: at least 1 is needed", c.In)
	}
	if c.Head == nil {
		return nil, errors.New("nn: no head: choose CrossEntropy, Logistic, MeanSquared or HalfSquared")
	}
	n := &Network{conf: c, width: []int{c.In}, segs: make([][]int, len(c.Layers)), lowest: -1, widest: c.In}
	in := c.In
	for i, l := range c.Layers {
		out, params, err := l.wire(in)
		if err != nil {
			return nil, fmt.Errorf("nn: layer %d (%v): %w", i, l, err)
		}
		if len(params) > 0 && n.lowest < 0 {
			n.lowest = i
		} else if len(params) > 0 && c.Bare {
			return nil, fmt.Errorf("nn: layer %d (%v): a bare network has one layer with parameters, and layer %d is it", i, l, n.lowest)
		}
		for _, p := range params {
			name := fmt.Sprintf("%d.%s", i, p.name)
			if c.Bare {
				name = p.name
			}
			size := 1.0
			for _, d := range p.shape {
				size *= float64(d)
			}
			if size += float64(n.layout.Len()); size > maxParameters {
				return nil, fmt.Errorf("nn: layer %d (%v): %.3g parameters up to here: at most %.3g are possible", i, l, size, float64(maxParameters))
			}
			n.segs[i] = append(n.segs[i], len(n.layout))
			n.layout = n.layout.Add(name, p.shape...)
			n.bound = append(n.bound, p.bound)
		}
		in = out
		n.width = append(n.width, out)
		n.widest = max(n.widest, out)
	}
	if n.lowest < 0 {
		return nil, errors.New("nn: no layer has parameters: add a Dense")
	}
	var err error
	if n.outputs, err = c.Head.outputs(in); err != nil {
		return nil, fmt.Errorf("nn: head %v: %w", c.Head, err)
	}
	n.pool.New = func() any { return newWorkspace(n) }
	n.price()
	return n, nil
}

// price works out what a sample costs. What a layer without parameters computes on the way back is for the layer with some
// below it. Layers below the lowest one with parameters only go forward, over the input's width, which is not worth
// telling.
func (n *Network) price() {
	n.back = make([]int64, len(n.layout))
	above := int64(0)
	for i := len(n.conf.Layers) - 1; i >= n.lowest; i-- {
		forward, back := n.conf.Layers[i].flops(n.width[i], n.width[i+1], i == n.lowest)
		n.ahead += forward
		if len(n.segs[i]) == 0 {
			above += back[0]
			continue
		}
		for k, s := range n.segs[i] {
			n.back[s] = back[k]
		}
		n.back[n.segs[i][len(n.segs[i])-1]] += above // the last is final first
		above = 0
	}
}

// String prints the network on one line: "784, dense 128, relu, dense 10, cross-entropy".
func (n *Network) String() string {
	parts := []string{fmt.Sprint(n.conf.In)}
	for _, l := range n.conf.Layers {
		parts = append(parts, l.String())
	}
	return strings.Join(append(parts, n.conf.Head.String()), ", ")
}

// Layout names the parameters. It is shared: do not change it.
func (n *Network) Layout() model.Layout { return n.layout }

// Init draws weights and biases of a Dense layer uniformly from ±1/sqrt(inputs), torch.nn.Linear's default (its
// kaiming_uniform_ with a = sqrt 5 comes to the same bound). Parameter k of the layout has a stream of its own,
// keyed (seed, "init", k), so that no draw depends on another layer's size.
func (n *Network) Init(x []float32, seed uint64) {
	n.mustFit("x", x)
	for k, s := range n.layout {
		r := rng.New(seed, "init", uint64(k))
		for i := range x[s.Off : s.Off+s.Len] {
			// 2u-1 is exact for Float64's multiples of 2^-53, so that only the product rounds.
			x[s.Off+i] = float32((2*r.Float64() - 1) * n.bound[k])
		}
	}
}

// FLOPs counts Grad on dense samples: a product of m x k by k x n is 2mkn operations, an elementwise pass 1 an
// element (whatever the function). Sparse samples cost less in the first layer, which depends on the data.
func (n *Network) FLOPs(samples int) int64 {
	sum := n.ahead
	for _, f := range n.back {
		sum += f
	}
	return int64(samples) * sum
}

// Forward implements model.Costed.
func (n *Network) Forward(samples int) int64 { return int64(samples) * n.ahead }

// Backward implements model.Costed.
func (n *Network) Backward(samples, segment int) int64 { return int64(samples) * n.back[segment] }

// Outputs is the number of class probabilities or targets that Predict gives a sample.
func (n *Network) Outputs() int { return n.outputs }

// mustFit panics when v is not as long as the layout: no input can cause that, only a caller's bug.
func (n *Network) mustFit(name string, v []float32) {
	if len(v) != n.layout.Len() {
		panic(fmt.Sprintf("nn: %s has %d elements, the layout %d", name, len(v), n.layout.Len()))
	}
}

// check says what of b does not fit the network.
func (n *Network) check(b *data.Batch, labels bool) error {
	switch {
	case b.Dim != n.conf.In && b.N > 0:
		return fmt.Errorf("nn: samples have %d features, the model takes %d", b.Dim, n.conf.In)
	case len(b.Row) == 0 && len(b.X) != b.N*n.conf.In:
		return fmt.Errorf("nn: a dense batch of %d samples of %d features holds %d values", b.N, n.conf.In, len(b.X))
	case len(b.Row) > 0 && len(b.Row) != b.N+1:
		return fmt.Errorf("nn: a sparse batch of %d samples has %d row offsets, expected %d", b.N, len(b.Row), b.N+1)
	}
	if len(b.Row) > 0 && n.lowest > 0 {
		return fmt.Errorf("nn: sparse samples need a dense layer first, and layer 0 is %v", n.conf.Layers[0])
	}
	if labels {
		return n.conf.Head.Check(b, n.width[len(n.width)-1])
	}
	return nil
}
