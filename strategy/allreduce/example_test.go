package allreduce_test

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
	"github.com/covey-ml/covey/strategy/allreduce"
)

// One step of SGD on y = x at x = 1 and 2, by a worker that owns both microshards: what train does for each step.
func ExampleStrategy_Step() {
	points := data.DenseTargets("points", 1, []float32{1, 2}, []float32{1, 2}, 1)
	m, err := linear.NewLinear(linear.Config{Dim: 1, Outputs: 1, N: 2, NoBias: true})
	if err != nil {
		log.Fatal(err)
	}
	sgd, err := optim.New(&spec.Spec{Name: "sgd"}, m.Layout())
	if err != nil {
		log.Fatal(err)
	}
	g, tree := inproc.New(1, time.Minute)[0], comm.NewTree(2, 1)
	frame, x := strategy.Frame(g, m.Layout().Len())
	var b data.Batch
	w := &strategy.Worker{
		Group: g, Tree: tree, Model: m, Frame: frame, X: x, Optimizer: sgd, Reducer: &reduce.Exact{Group: g, Tree: tree},
		Rate: 0.1, Samples: 2, Total: 2,
		Microshard: func(leaf int) (*data.Batch, error) {
			points.Gather(&b, []int{leaf})
			return &b, nil
		},
	}
	said, err := allreduce.New().Step(context.Background(), w)
	fmt.Println("mean loss before:", said.Loss, "weight after:", w.X[0], err)
	// Output: mean loss before: 1.25 weight after: 0.25 <nil>
}
