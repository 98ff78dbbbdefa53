package comm_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/inproc"
)

// What a rank refuses fails the gathering everywhere, in the name of who sent it. Rank 6 is heard by rank 4, which is
// heard by rank 0.
func TestGatherBytesRefused(t *testing.T) {
	planted := errors.New("planted")
	groups := inproc.New(8, time.Minute)
	errs := make([]error, len(groups))
	var wg sync.WaitGroup
	for r, g := range groups {
		wg.Go(func() {
			_, errs[r] = comm.GatherBytes(bg, g, []byte{byte(r)}, func(held, came []byte) ([]byte, error) {
				if came[0] == 6 {
					return nil, planted
				}
				return append(held, came...), nil
			})
			if errs[r] == nil { // a leaf has said its own and hears of it with the next
				errs[r] = comm.Barrier(bg, g)
			}
		})
	}
	wg.Wait()
	for r, err := range errs {
		var pe *comm.PeerError
		if !errors.As(err, &pe) || pe.Rank != 6 || pe.Op != comm.OpGather || r == 4 && !errors.Is(err, planted) {
			t.Errorf("rank %d: %v, expected rank 6's bytes to be refused", r, err)
		}
		groups[r].Close()
	}
}

func ExampleGatherBytes() {
	groups := inproc.New(5, time.Minute)
	var wg sync.WaitGroup
	for r, g := range groups {
		wg.Go(func() {
			all, err := comm.GatherBytes(bg, g, fmt.Appendf(nil, "%d ", r), func(held, came []byte) ([]byte, error) {
				return append(held, came...), nil
			})
			if r == 0 {
				fmt.Println(string(all), err)
			}
		})
	}
	wg.Wait()
	// Output: 0 1 2 3 4  <nil>
}
