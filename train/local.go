package train

import (
	"context"
	"errors"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/inproc"
)

// Local trains on n workers that are goroutines of this process and returns rank 0's report. Only rank 0 hears events,
// writes files and is asked to stop. timeout bounds each wait of a worker for another. When workers fail, it returns
// the error that says most: a worker's own before that of a peer that saw it go.
func Local(ctx context.Context, n int, timeout time.Duration, c Config) (*Report, error) {
	groups := inproc.New(n, timeout)
	reports := make([]*Report, n)
	errs := make([]error, n)
	ended := make(chan struct{})
	c.shared = new(shared)
	for i, g := range groups {
		c := c.here(i)
		if c.Around != nil {
			g = c.Around(g)
		}
		g.Clock().Go(func() {
			reports[i], errs[i] = Run(ctx, g, c)
			g.Close()
			ended <- struct{}{}
		})
	}
	for range groups {
		<-ended
	}
	return reports[0], saysMost(errs)
}

// here is the configuration of one of several workers of this process.
func (c Config) here(rank int) Config {
	c.sameData = true
	if rank > 0 {
		c.Dir, c.Events, c.Stop, c.Resume = "", Events{}, nil, ""
	}
	return c
}

// saysMost returns the error of several workers that says most: a worker's own before that of a peer that saw it go.
func saysMost(errs []error) error {
	for _, err := range errs {
		var peer *comm.PeerError
		if err != nil && !errors.As(err, &peer) {
			return err
		}
	}
	return errs[0]
}
