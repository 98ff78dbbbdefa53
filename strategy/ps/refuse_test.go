package ps

import (
	"testing"
	"time"

	"github.com/covey-ml/covey/comm/inproc"
	"github.com/covey-ml/covey/strategy"
)

// Whether a request is refused is asked while other workers' goroutines move on how far all are and find that the run diverges:
// with -race.
func TestRefusesWhileOthersMoveOn(t *testing.T) {
	g := inproc.New(1, time.Minute)[0]
	defer g.Close()
	v := &server{w: strategy.Worker{Group: g}, clock: g.Clock(), peers: []*peer{{}}, prog: Progress{Done: make([]int, 1)}}
	moved := make(chan struct{})
	v.clock.Go(func() {
		v.mu.Lock()
		v.prog.Done[0], v.bad = 1, "the run diverges"
		v.mu.Unlock()
		close(moved)
	})
	r := request{kind: meet, step: 1}
	if why := v.refuses(0, &r); why == "" {
		t.Error("a request that skips a step is taken")
	}
	<-moved
	if why := v.refuses(0, &r); why != v.bad {
		t.Errorf("refused because %q, expected %q", why, v.bad)
	}
}
