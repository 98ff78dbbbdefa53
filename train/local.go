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
	for i, g := range groups {
		c := c
		c.sameData = true
		if i > 0 {
			c.Dir, c.Events, c.Stop, c.Resume = "", Events{}, nil, ""
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
	for _, err := range errs {
		var peer *comm.PeerError
		if err != nil && !errors.As(err, &peer) {
			return reports[0], err
		}
	}
	return reports[0], errs[0]
}
