package reduce_test

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/inproc"
	"github.com/covey-ml/covey/reduce"
)

// Three workers with one microshard each sum a vector of two elements; every one is left with the sum.
func ExampleExact() {
	groups := inproc.New(3, time.Minute)
	tree := comm.NewTree(3, len(groups))
	sums := make([][]float32, len(groups))
	var wg sync.WaitGroup
	for r, g := range groups {
		wg.Go(func() {
			defer g.Close()
			part := []float32{float32(r), 10}
			exact := &reduce.Exact{Group: g, Tree: tree}
			if err := exact.Sum(context.Background(), reduce.Vector{Parts: [][]float32{part}}); err != nil {
				fmt.Println(err)
			}
			sums[r] = part
		})
	}
	wg.Wait()
	fmt.Println(sums)
	// Output: [[3 30] [3 30] [3 30]]
}
