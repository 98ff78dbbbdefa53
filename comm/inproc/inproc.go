// Package inproc connects workers that are goroutines of one process.
//
// New makes the whole group at once, one comm.Group a worker. A message is copied once, by the sender's goroutine,
// straight into the receiver's buffer when it has asked for it; there are no headers, no sockets and no goroutines
// of the transport's own, so a group at rest costs nothing. Collectives that go by a comm.Board read and write the
// workers' vectors where they are, anywhere in the process, so vectors need no special place (comm.Alloc gives heap).
//
//	groups := inproc.New(4, time.Minute)
//	for _, g := range groups {
//		go worker(g)
//	}
package inproc

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/covey-ml/covey/comm"
)

// New returns the n views of a new group. timeout bounds every wait; it must be positive.
func New(n int, timeout time.Duration) []comm.Group {
	all := make([]*group, n)
	shared := newMemory(n)
	for r := range all {
		m := comm.NewMesh(comm.Rank(r), n, comm.RealClock(), timeout)
		all[r] = &group{Mesh: m, all: all}
		if n > 1 {
			all[r].board = comm.NewBoard(m, &view{shared, comm.Rank(r), stoppedTimer()}, patience(n))
		}
	}
	groups := make([]comm.Group, n)
	for r, g := range all {
		groups[r] = g
		for to, peer := range all {
			if to != r {
				g.Connect(comm.Rank(to), &link{from: g, to: peer})
			}
		}
	}
	return groups
}

// Kill makes a rank of a group that New made vanish as a killed process does: without goodbye. Its own calls return
// comm.ErrClosed; its peers find the connection lost.
func Kill(g comm.Group) {
	k, ok := g.(*group)
	if !ok {
		panic(fmt.Sprintf("inproc.Kill of a %T", g))
	}
	k.killed.Store(true)
	k.Vanish()
	for _, peer := range k.all {
		if peer != k {
			peer.Lose(k.Rank(), comm.ErrLost)
		}
	}
}

type group struct {
	*comm.Mesh
	board  *comm.Board // nil in a group of one
	all    []*group
	killed atomic.Bool
}

// Board implements comm.Boarder.
func (g *group) Board() *comm.Board { return g.board }

// Overhead implements comm.Framer: messages travel bare.
func (g *group) Overhead(int) int { return 0 }

// link carries messages from one rank to another by calling the other's mesh.
type link struct{ from, to *group }

func (l *link) Send(ctx context.Context, tag comm.Tag, p []byte) error {
	err := l.to.Deliver(ctx, l.from.Rank(), tag, p)
	if err == comm.ErrClosed { // the peer's doing, not this rank's
		if l.to.killed.Load() {
			return comm.ErrLost
		}
		return comm.ErrLeft
	}
	return err
}

func (l *link) Abort(e *comm.PeerError) { l.to.Aborted(e) }

func (l *link) Break(cause error) {
	l.from.Lose(l.to.Rank(), cause)
	l.to.Lose(l.from.Rank(), comm.ErrLost)
}

func (l *link) Close() error {
	l.to.Lose(l.from.Rank(), comm.ErrLeft)
	return nil
}

var (
	_ comm.Group    = (*group)(nil)
	_ comm.Poster   = (*group)(nil)
	_ comm.Poisoner = (*group)(nil)
	_ comm.Framer   = (*group)(nil)
	_ comm.Boarder  = (*group)(nil)
	_ comm.Link     = (*link)(nil)
)
