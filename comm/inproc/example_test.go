package inproc_test

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/inproc"
)

// Each of four goroutines passes its number to the next one.
func ExampleNew() {
	tag := comm.MakeTag(comm.OpSend, 1)
	heard := make([]byte, 4)
	var wg sync.WaitGroup
	for r, g := range inproc.New(4, time.Minute) {
		wg.Go(func() {
			defer g.Close()
			next, before := comm.Rank(r+1)%4, comm.Rank(r+3)%4
			if err := g.Send(context.Background(), next, tag, []byte{byte(r)}); err != nil {
				fmt.Println(err)
			}
			if _, _, err := g.Recv(context.Background(), before, tag, heard[r:r+1]); err != nil {
				fmt.Println(err)
			}
		})
	}
	wg.Wait()
	fmt.Println(heard)
	// Output: [3 0 1 2]
}
