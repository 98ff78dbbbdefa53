package strategy_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/commtest"
	"github.com/covey-ml/covey/comm/inproc"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/model/nn"
	"github.com/covey-ml/covey/optim"
	"github.com/covey-ml/covey/reduce"
	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/strategy/allreduce"
	"github.com/covey-ml/covey/strategy/local"
)

// priced is a commtest.Priced that is hollow when it is told to be.
type priced struct {
	*commtest.Priced
	hollow bool
}

func (g *priced) Hollow() bool { return g.hollow }

func price(g comm.Group) *priced { return &priced{Priced: commtest.Price(g)} }

const (
	in, hidden, out = 12, 8, 3
	parameters      = in*hidden + hidden + hidden*out + out
	// y, dW and dx of both layers but the first one's dx, biases added and summed, relu there and back.
	flops = 4*in*hidden + 2*hidden + 2*hidden + 6*hidden*out + 2*out
)

func network(t *testing.T) *nn.Network {
	t.Helper()
	net, err := nn.New(nn.Config{In: in, Layers: []nn.Layer{nn.Dense{Out: hidden}, nn.ReLU{}, nn.Dense{Out: out}}, Head: nn.CrossEntropy{}})
	if err != nil {
		t.Fatal(err)
	}
	return net
}

func batch(n int) *data.Batch {
	b := &data.Batch{N: n, Dim: in, X: make([]float32, n*in), Class: make([]int32, n)}
	for i := range b.X {
		b.X[i] = float32(i%7) / 7
	}
	return b
}

// bare hides what a model knows of its cost.
type bare struct{ model.Model }

// A segment's cost is told before it is reported as final, with the forward pass before the first, and all of it once; that
// of a model that does not know is six operations a parameter and sample.
func TestGradSpends(t *testing.T) {
	net := network(t)
	g := price(inproc.New(1, time.Minute)[0])
	const n = 5
	var ordered []string
	for _, hollow := range []bool{false, true} {
		g.hollow = hollow
		for _, m := range []model.Model{net, bare{net}} {
			w := &strategy.Worker{Group: g, Model: m}
			x, grad := make([]float32, parameters), make([]float32, parameters)
			net.Init(x, 1)
			want := int64(n * flops)
			costed, ok := m.(model.Costed)
			if !ok {
				want = 6 * n * parameters
			}
			for _, reports := range []bool{true, false} {
				g.Tally.FLOPs.Store(0)
				var order []string
				due := strategy.ForwardFLOPs(m, n)
				done := func(s model.Segment) {
					order = append(order, s.Name)
					if i := net.Layout().Index(s); ok {
						due += costed.Backward(n, i)
					} else {
						due += 4 * n * int64(s.Len)
					}
					if got := g.Tally.FLOPs.Load(); got != due {
						t.Errorf("%T: %d FLOPs when %s is final, expected %d", m, got, s.Name, due)
					}
				}
				if !reports {
					done = nil
				}
				if loss, err := w.Grad(t.Context(), x, grad, batch(n), done); err != nil || loss.N != n || hollow != (loss.Sum == 0) {
					t.Fatalf("%+v, %v", loss, err)
				}
				if got := g.Tally.FLOPs.Load(); got != want {
					t.Errorf("%T: %d FLOPs, expected %d", m, got, want)
				}
				if reports && len(ordered) == 0 {
					ordered = order
				} else if reports && !slices.Equal(order, ordered) && !hollow {
					t.Errorf("%T reports %v, and %v before", m, order, ordered)
				}
				if reports && len(order) != len(net.Layout()) {
					t.Errorf("hollow %v: reported %v", hollow, order)
				}
			}
		}
	}
	if g.Tally.Bytes.Load() != 0 {
		t.Errorf("%d bytes", g.Tally.Bytes.Load())
	}
}

// What a step spends, to the operation and the byte.
func TestStepsSpend(t *testing.T) {
	const n, k = parameters, 2 // samples of a microshard
	frame := int64(4 * (strategy.Head + n))
	for name, c := range map[string]struct {
		make    func() strategy.Strategy
		workers int
		flops   int64
		bytes   []int64
	}{
		// Four microshards: three additions of gradients, and an update by momentum, which passes over 20 bytes a parameter.
		"allreduce, 1": {func() strategy.Strategy { return allreduce.New() }, 1, 4 * k * flops, []int64{3*3*frame + 20*n}},
		// One addition each, and one of rank 0, to which the other sends its sum.
		"allreduce, 2": {func() strategy.Strategy { return allreduce.New() }, 2, 2 * k * flops, []int64{2*3*frame + 20*n, 3*frame + 20*n}},
		// For each of four replicas a copy of the common parameters, an update, its move, which is weighted, and a copy of the
		// new ones; three additions; and the mean move added.
		"local, 1": {func() strategy.Strategy { return localSGD(t) }, 1, 4 * k * flops, []int64{4*(8+20+12+8+8)*n + 3*3*frame + 12*n}},
	} {
		for _, hollow := range []bool{false, true} {
			if hollow && c.workers > 1 {
				continue // what is sent would have to be dropped
			}
			groups := inproc.New(c.workers, time.Minute)
			errs := make(chan error, c.workers)
			for r, g := range groups {
				p := price(g)
				p.hollow = hollow
				w := newWorker(t, p, 4, k)
				go func() {
					_, err := c.make().Step(context.Background(), w)
					if f := p.Tally.FLOPs.Load(); err == nil && f != c.flops {
						err = fmt.Errorf("%s, rank %d, hollow %v: %d FLOPs, expected %d", name, r, hollow, f, c.flops)
					}
					if b := p.Tally.Bytes.Load(); err == nil && b != c.bytes[r] {
						err = fmt.Errorf("%s, rank %d, hollow %v: %d bytes, expected %d", name, r, hollow, b, c.bytes[r])
					}
					errs <- err
				}()
			}
			var all []error
			for range groups {
				all = append(all, <-errs)
			}
			if err := errors.Join(all...); err != nil {
				t.Error(err)
			}
		}
	}
}

func localSGD(t *testing.T) strategy.Strategy {
	t.Helper()
	s, err := spec.Parse("local:K=1")
	if err != nil {
		t.Fatal(err)
	}
	c, err := local.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return local.New(c)
}

func newWorker(t *testing.T, g comm.Group, leaves, samples int) *strategy.Worker {
	t.Helper()
	net := network(t)
	rule := func() (optim.Optimizer, error) {
		s, err := spec.Parse("momentum")
		if err != nil {
			return nil, err
		}
		return optim.New(s, net.Layout())
	}
	o, err := rule()
	if err != nil {
		t.Fatal(err)
	}
	tree := comm.NewTree(leaves, g.Size())
	frame, x := strategy.Frame(g, parameters)
	if !comm.IsHollow(g) {
		net.Init(x, 1)
	}
	return &strategy.Worker{Group: g, Tree: tree, Model: net, Frame: frame, X: x, Optimizer: o, NewOptimizer: rule,
		Reducer: &reduce.Exact{Group: g, Tree: tree, Algorithm: comm.Binomial}, Rate: 0.1, Samples: leaves * samples, Total: leaves * samples,
		Microshard: func(int) (*data.Batch, error) { return batch(samples), nil }}
}
