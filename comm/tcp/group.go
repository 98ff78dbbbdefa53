package tcp

import (
	"sync"

	"github.com/covey-ml/covey/comm"
)

// group is a Mesh over links.
type group struct {
	*comm.Mesh
	links []*link // by rank; nil at the rank itself
	// engine reads the raw sockets; nil where there are none. Goroutines read the others.
	engine *engine

	wg   sync.WaitGroup // readers, aborts and farewells
	once sync.Once
	err  error
}

func newGroup(rank comm.Rank, cfg Config, sockets []*socket) *group {
	g := &group{Mesh: comm.NewMesh(rank, len(sockets), comm.RealClock(), cfg.Timeout), links: make([]*link, len(sockets))}
	g.engine = newEngine(g)
	for r, s := range sockets {
		if s == nil {
			continue
		}
		l := newLink(s, g.Mesh, comm.Rank(r), cfg.Generation, &g.wg)
		if g.engine != nil {
			g.engine.take(s)
		}
		if l.engine = g.engine; s.raw != nil {
			s.raw.wait = l.stuck
		}
		g.links[r] = l
		g.Connect(comm.Rank(r), l)
	}
	for _, l := range g.links { // none before all are connected
		if l != nil && l.raw == nil {
			g.wg.Go(l.receive)
		}
	}
	if g.engine != nil {
		g.engine.start()
	}
	return g
}

// Close implements comm.Group. It says goodbye to all peers at once and returns when nothing is left running, after
// about a second when a peer does not take its goodbye.
func (g *group) Close() error {
	g.once.Do(func() {
		g.err = g.Mesh.Close()
		for _, l := range g.links {
			if l != nil && l.raw != nil { // all are parting: who was about to start a goroutine has, and nobody will any more
				l.in.mu.Lock()
				l.in.mu.Unlock()
			}
		}
		g.wg.Wait()
		if g.engine != nil {
			g.engine.close()
		}
	})
	return g.err
}

// Overhead implements comm.Framer.
func (g *group) Overhead(n int) int { return Overhead(n) }

// Wired implements comm.Wire.
func (g *group) Wired() (sent, received, encrypted int64) {
	for _, l := range g.links {
		if l != nil {
			sent += l.socket.sent.Load()
			received += l.received.Load()
			encrypted += l.encrypted.Load()
		}
	}
	return
}

// Controlled implements comm.Wire.
func (g *group) Controlled() (n int64) {
	for _, l := range g.links {
		if l != nil {
			l.mu.Lock()
			n += l.said
			l.mu.Unlock()
		}
	}
	return n
}

var (
	_ comm.Group    = (*group)(nil)
	_ comm.Poster   = (*group)(nil)
	_ comm.Poisoner = (*group)(nil)
	_ comm.Framer   = (*group)(nil)
	_ comm.Wire     = (*group)(nil)
	_ comm.Link     = (*link)(nil)
)
