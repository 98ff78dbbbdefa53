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

// Two hosts of two workers each. Here all groups are goroutines'; in earnest near is shared memory and far a network.
func ExampleHierarchical() {
	tree := comm.NewTree(4, 4).On(comm.Hosts{0, 2})
	hosts := [][]comm.Group{inproc.New(2, time.Minute), inproc.New(2, time.Minute)}  // by host, then number in it
	across := [][]comm.Group{inproc.New(2, time.Minute), inproc.New(2, time.Minute)} // by number, then host
	sums := make([]float32, 4)
	var wg sync.WaitGroup
	for r := range sums {
		wg.Go(func() {
			near, far := hosts[r/2][r%2], across[r%2][r/2]
			defer near.Close()
			defer far.Close()
			levels, err := comm.NewLevels(tree, comm.Rank(r), near, far)
			if err != nil {
				fmt.Println(err)
				return
			}
			sum := &reduce.Hierarchical{Levels: levels}
			part := []float32{float32(r)}
			if err := sum.Sum(context.Background(), reduce.Vector{Parts: [][]float32{part}}); err != nil {
				fmt.Println(err)
			}
			sums[r] = part[0]
		})
	}
	wg.Wait()
	fmt.Println(sums)
	// Output: [6 6 6 6]
}
