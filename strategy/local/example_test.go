package local_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/inproc"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model/linear"
	"github.com/covey-ml/covey/optim"
	"github.com/covey-ml/covey/reduce"
	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/strategy/local"
)

// A round of local SGD on y = x at x = 1 and 2, each replica's only point: two steps by themselves, and then the mean. With
// rate 1/4 the replica at 1 goes from 0 to 1/4 and 7/16, and that at 2 to 1, where it stays.
func ExampleStrategy_Step() {
	points := data.DenseTargets("points", 1, []float32{1, 2}, []float32{1, 2}, 1)
	m, err := linear.NewLinear(linear.Config{Dim: 1, Outputs: 1, N: 2, NoBias: true})
	if err != nil {
		log.Fatal(err)
	}
	method, err := local.Parse(&spec.Spec{Name: "local", Opts: map[string]string{"K": "2"}})
	if err != nil {
		log.Fatal(err)
	}
	g, tree := inproc.New(1, time.Minute)[0], comm.NewTree(2, 1)
	frame, x := strategy.Frame(g, m.Layout().Len())
	var b data.Batch
	w := &strategy.Worker{
		Group: g, Tree: tree, Model: m, Frame: frame, X: x, Reducer: &reduce.Exact{Group: g, Tree: tree},
		NewOptimizer: func() (optim.Optimizer, error) { return optim.New(&spec.Spec{Name: "sgd"}, m.Layout()) },
		Rate:         0.25, Samples: 2, Total: 2,
		Microshard: func(leaf int) (*data.Batch, error) {
			points.Gather(&b, []int{leaf})
			return &b, nil
		},
	}
	s := local.New(method)
	for ; w.Step < 2; w.Step++ {
		said, err := s.Step(context.Background(), w)
		fmt.Println("quiet:", said.Quiet, "weight:", w.X[0], err)
	}
	// Output:
	// quiet: true weight: 0 <nil>
	// quiet: false weight: 0.71875 <nil>
}
