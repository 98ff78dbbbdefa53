package sim

import (
	"context"
	"errors"
	"fmt"

	"github.com/covey-ml/covey/comm"
)

// Group is a worker's comm.Group. It is also a comm.Poster, comm.Poisoner, comm.Framer, comm.Costed and, in a hollow
// world, comm.Allocator and comm.Hollow.
type Group struct {
	n     *node
	clock clock
}

// view is the group with the abilities that are true of it.
func (g *Group) view() comm.Group {
	if g.n.w.c.Hollow {
		return hollow{g}
	}
	return g
}

// HeaderBytes is what carries a message, besides its payload: those of a frame of transport tcp.
const HeaderBytes = 36

// Rank implements comm.Group.
func (g *Group) Rank() comm.Rank { return g.n.rank }

// Size implements comm.Group.
func (g *Group) Size() int { return len(g.n.w.nodes) }

// Clock implements comm.Group.
func (g *Group) Clock() comm.Clock { return g.clock }

// Overhead implements comm.Framer.
func (g *Group) Overhead(int) int { return HeaderBytes }

// Send implements comm.Group.
func (g *Group) Send(ctx context.Context, to comm.Rank, tag comm.Tag, p []byte) error {
	n := g.n
	n.lock()
	defer n.unlock()
	if to < 0 || int(to) >= len(n.w.nodes) {
		return fmt.Errorf("sim: send to rank %d of a group of %d", to, len(n.w.nodes))
	}
	if ctx.Err() != nil {
		return peerError(to, tag, len(p), context.Cause(ctx))
	}
	peer := n.w.nodes[to]
	if err := n.barred(peer, tag); err != nil {
		return peerError(to, tag, len(p), err)
	}
	m := n.w.newMessage(n, peer, tag, p)
	m.p = n.me()
	m.gen = m.p.gen
	n.hold(m.p, ctx, m)
	n.ask(action{kind: actSend, m: m, p: m.p, gen: m.gen, cost: n.takeDebt(m.p)})
	if err := n.park(m.p); err != nil {
		return peerError(to, tag, len(p), public(err))
	}
	return nil
}

// barred says why nothing can be sent there.
func (n *node) barred(to *node, tag comm.Tag) error {
	switch {
	case n.closed || n.dead:
		return comm.ErrClosed
	case n.poison != nil && tag.Collective():
		return n.poison
	}
	return n.lost(to)
}

// Recv implements comm.Group.
func (g *Group) Recv(ctx context.Context, from comm.Rank, tag comm.Tag, p []byte) (comm.Rank, int, error) {
	return g.Post(from, tag, p).Wait(ctx)
}

// Post implements comm.Poster.
func (g *Group) Post(from comm.Rank, tag comm.Tag, p []byte) comm.Receipt {
	n := g.n
	n.lock()
	defer n.unlock()
	r := &receipt{n: n, from: from, tag: tag, p: p}
	switch {
	case from < comm.AnyRank || int(from) >= len(n.w.nodes):
		r.finish(from, 0, fmt.Errorf("sim: receive from rank %d of a group of %d", from, len(n.w.nodes)))
	case n.closed || n.dead:
		r.finish(from, 0, comm.ErrClosed)
	case n.poison != nil && tag.Collective():
		r.finish(from, 0, n.poison)
	case from == comm.AnyRank:
		n.postAny(r)
	default:
		n.post(r)
	}
	return r
}

// Wait implements comm.Receipt.
func (r *receipt) Wait(ctx context.Context) (comm.Rank, int, error) {
	n := r.n
	n.lock()
	defer n.unlock()
	if !r.done && ctx.Err() != nil {
		n.cancel(r, context.Cause(ctx))
	}
	if !r.done {
		p := n.me()
		r.waiter = p
		n.hold(p, ctx, r)
		if k := n.takeDebt(p); p.owing {
			n.ask(action{kind: actSpend, p: p, gen: p.gen, cost: k})
		} else if !n.w.c.Endless {
			n.limit(p, n.w.c.Timeout)
		}
		n.park(p)
	}
	if !r.done { // only a worker that is gone is woken before
		r.err = comm.ErrClosed
	}
	return r.got, r.size, r.err
}

// Poison implements comm.Poisoner.
func (g *Group) Poison(e *comm.PeerError) *comm.PeerError {
	n := g.n
	n.lock()
	defer n.unlock()
	n.settle()
	if n.poison != nil {
		e = n.poison
	} else if !n.closed {
		n.condemn(e)
	}
	if !n.told && !n.closed {
		n.told = true
		n.ask(action{kind: actPoison, n: n})
	}
	return e
}

// Poisoned implements comm.Poisoner.
func (g *Group) Poisoned() *comm.PeerError {
	g.n.lock()
	defer g.n.unlock()
	return g.n.poison
}

// Close implements comm.Group. What was sent still arrives.
func (g *Group) Close() error {
	n := g.n
	n.lock()
	defer n.unlock()
	n.settle()
	if n.closed {
		return nil
	}
	n.shut()
	n.ask(action{kind: actClose, n: n})
	return nil
}

// Costs implements comm.Costed: those of the network's messages between the first two hosts, or inside of one.
func (g *Group) Costs() comm.Costs { return g.n.w.costs() }

// hollow is a group of a hollow world.
type hollow struct{ *Group }

// Hollow implements comm.Hollow.
func (hollow) Hollow() bool { return true }

// Alloc implements comm.Allocator: all vectors share their memory.
func (h hollow) Alloc(n int) []float32 { return comm.Vector(h, n) }

// peerError names the peer unless the cause is this rank's own Close or names one already.
func peerError(r comm.Rank, tag comm.Tag, missing int, cause error) error {
	var pe *comm.PeerError
	if cause == comm.ErrClosed || errors.As(cause, &pe) {
		return cause
	}
	return &comm.PeerError{Rank: r, Op: tag.Op(), Step: -1, Missing: int64(missing), Cause: cause}
}

var (
	_ comm.Group     = (*Group)(nil)
	_ comm.Poster    = (*Group)(nil)
	_ comm.Poisoner  = (*Group)(nil)
	_ comm.Framer    = (*Group)(nil)
	_ comm.Costed    = (*Group)(nil)
	_ comm.Allocator = hollow{}
)
