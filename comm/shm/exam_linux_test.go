package shm

import (
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/commtest"
)

// TestExam sits the exam of all transports, with rings of the usual size and with the smallest, through which nearly
// everything streams. Every size from 1 to 17 is asked of inproc, where it costs least: what the collectives send does
// not depend on the transport.
func TestExam(t *testing.T) {
	for _, c := range []struct {
		name  string
		o     Options
		sizes []int
	}{{"default", Options{}, []int{1, 2, 3, 4, 5, 7, 8, 12, 17}}, {"tiny rings, no arenas", Options{Ring: minRing, Arena: -1}, []int{1, 2, 3, 5}}} {
		t.Run(c.name, func(t *testing.T) {
			commtest.Run(t, func(t *testing.T, n int, timeout time.Duration) []comm.Group {
				return attachAll(t, n, c.o, timeout)
			}, commtest.Options{Sizes: c.sizes, Shared: true, Kill: func(_ *testing.T, groups []comm.Group, r comm.Rank) { vanish(groups[r].(*group)) }})
		})
	}
}

// vanish lets go of everything as the death of a process does: nothing is said, and the kernel drops the lock.
func vanish(g *group) {
	g.once.Do(func() {
		g.e.mu.Lock()
		g.e.mute = true
		g.e.mu.Unlock()
		close(g.e.closing)
		g.err = g.Mesh.Close()
		g.e.shutdown()
	})
}
