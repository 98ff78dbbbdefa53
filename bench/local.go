package bench

import (
	"errors"
	"fmt"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/inproc"
)

// MaxWorkers bounds the workers of a measurement: up to there all sums that are checked are whole numbers that a
// float32 holds.
const MaxWorkers = 256

// Local calls f on every rank of a group of n goroutines and returns rank 0's result. timeout bounds each wait of a
// rank for another. When ranks fail, the error is the one that says most: a rank's own before that of a peer that saw
// it go.
func Local[T any](n int, timeout time.Duration, f func(g comm.Group) (T, error)) (T, error) {
	var none T
	if n < 1 || n > MaxWorkers {
		return none, fmt.Errorf("bench: %d workers, expected 1 to %d", n, MaxWorkers)
	}
	results, errs, ended := make([]T, n), make([]error, n), make(chan struct{})
	for i, g := range inproc.New(n, timeout) {
		g.Clock().Go(func() {
			results[i], errs[i] = f(g)
			g.Close()
			ended <- struct{}{}
		})
	}
	for range n {
		<-ended
	}
	worst := errs[0]
	for _, err := range errs {
		var peer *comm.PeerError
		if err != nil && (worst == nil || !errors.As(err, &peer)) {
			worst = err
			if !errors.As(err, &peer) {
				break
			}
		}
	}
	if worst != nil {
		return none, worst
	}
	return results[0], nil
}
