package nn_test

import (
	"context"
	"fmt"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model/nn"
)

// A network that learns exclusive or by plain gradient descent.
func ExampleNew() {
	net, err := nn.New(nn.Config{
		In:     2,
		Layers: []nn.Layer{nn.Dense{Out: 8}, nn.Tanh{}, nn.Dense{Out: 2}},
		Head:   nn.CrossEntropy{},
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(net)
	for _, s := range net.Layout() {
		fmt.Println(s.Name, s.Shape)
	}
	batch := &data.Batch{N: 4, Dim: 2, ID: []int{0, 1, 2, 3}, X: []float32{0, 0, 0, 1, 1, 0, 1, 1}, Class: []int32{0, 1, 1, 0}}
	x, g := make([]float32, net.Layout().Len()), make([]float32, net.Layout().Len())
	net.Init(x, 1)
	ctx := context.Background()
	for range 500 {
		if _, err := net.Grad(ctx, x, g, batch, nil); err != nil {
			panic(err)
		}
		for i := range x {
			x[i] -= 0.2 * g[i]
		}
	}
	m, err := net.Eval(ctx, x, batch)
	fmt.Println(m.Correct, "of", m.N, err)
	// Output:
	// 2, dense 8, tanh, dense 2, cross-entropy
	// 0.weight [8 2]
	// 0.bias [8]
	// 2.weight [2 8]
	// 2.bias [2]
	// 4 of 4 <nil>
}
