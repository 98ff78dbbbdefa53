//go:build mpi && cgo

package mpi

import (
	"sync"
	"time"

	"github.com/covey-ml/covey/comm"
)

// linger is how long Close waits until the library has let go of what was sent.
const linger = time.Second

// group is a Mesh over links.
type group struct {
	*comm.Mesh
	e     *engine
	links []*link // by rank; nil at this one
	world bool    // its ranks are all processes, by their MPI ranks

	once sync.Once
	err  error
}

var (
	_ comm.Group    = (*group)(nil)
	_ comm.Poster   = (*group)(nil)
	_ comm.Poisoner = (*group)(nil)
	_ comm.Framer   = (*group)(nil)
	_ comm.Costed   = (*group)(nil)
)

// route is how a rank's frames go to a peer and come from it.
type route struct{ to, out, from, in int }

// open makes the view of one rank. The peers have theirs before anybody sends.
func (e *engine) open(rank comm.Rank, size int, timeout time.Duration, to func(comm.Rank) route) *group {
	g := &group{Mesh: comm.NewMesh(rank, size, comm.RealClock(), timeout), e: e, links: make([]*link, size)}
	e.mu.Lock()
	defer e.mu.Unlock()
	for r := range comm.Rank(size) {
		if r == rank {
			continue
		}
		way := to(r)
		l := &link{e: e, mesh: g.Mesh, peer: r, to: way.to, out: way.out, from: address{way.from, way.in},
			token: make(chan struct{}, 1), woken: make(chan struct{}, 1)}
		l.id = e.next
		e.next++
		g.links[r], e.links[l.from], e.owners[l.id] = l, l, l
		g.Connect(r, l)
	}
	g.Idle(func(done <-chan struct{}) { e.drive(func() bool { return len(done) > 0 }) })
	return g
}

// Overhead implements comm.Framer.
func (g *group) Overhead(n int) int { return overhead(n) }

// Costs implements comm.Costed.
func (g *group) Costs() comm.Costs { return costs }

// Close implements comm.Group. It says goodbye and returns when the library has let go of everything that was sent, or
// after a second; Finalize waits for the rest.
func (g *group) Close() error {
	g.once.Do(func() {
		g.err = g.Mesh.Close()
		g.settle()
	})
	return g.err
}

// settle waits until the library has let go of what the links sent, and forgets them.
func (g *group) settle() {
	gone := func() bool {
		g.e.mu.Lock()
		defer g.e.mu.Unlock()
		under := 0
		for _, l := range g.links {
			if l != nil {
				under += l.under
			}
		}
		return under == 0 || g.e.broken != nil
	}
	for end := time.Now().Add(linger); !gone() && time.Now().Before(end); {
		g.e.drive(gone)
	}
	g.e.mu.Lock()
	defer g.e.mu.Unlock()
	for _, l := range g.links {
		if l != nil {
			delete(g.e.links, l.from)
			delete(g.e.owners, l.id)
		}
	}
}
