package shm

import (
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/commtest"
)

// TestExam sits the exam of all transports, with rings of the usual size and with the smallest, through which nearly
// everything streams.
func TestExam(t *testing.T) {
	for name, o := range map[string]Options{"default": {}, "tiny rings": {Ring: minRing}} {
		t.Run(name, func(t *testing.T) {
			commtest.Run(t, func(t *testing.T, n int, timeout time.Duration) []comm.Group {
				return attachAll(t, n, o, timeout)
			}, commtest.Options{Kill: func(_ *testing.T, groups []comm.Group, r comm.Rank) { vanish(groups[r].(*group)) }})
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
