package shm_test

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/shm"
)

// Three ranks sum a number each. They are goroutines here; processes get the file through exec.Cmd.ExtraFiles and
// attach to os.NewFile(3, "shm").
func Example() {
	const ranks = 3
	f, err := shm.Create(ranks, shm.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer f.Close()
	sums := make([]float32, ranks)
	var wg sync.WaitGroup
	for rank := range comm.Rank(ranks) {
		wg.Go(func() {
			g, err := shm.Attach(f, rank, time.Minute, time.Minute)
			if err != nil {
				fmt.Println(err)
				return
			}
			defer g.Close()
			x := []float32{float32(rank + 1)}
			if err := comm.AllReduce(context.Background(), g, comm.NewTree(ranks, ranks), [][]float32{x}); err != nil {
				fmt.Println(err)
			}
			sums[rank] = x[0]
		})
	}
	wg.Wait()
	fmt.Println(sums)
	// Output: [6 6 6]
}
