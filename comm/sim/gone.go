package sim

import (
	"maps"
	"slices"

	"github.com/covey-ml/covey/comm"
)

// leave makes a worker gone for its peers: those that wait for it hear of it when the news has crossed the links.
func (w *World) leave(n *node, why error) {
	if n.left != nil {
		return
	}
	n.left, n.goneAt = why, w.now
	w.gone++
	for _, o := range w.nodes {
		if o != n && o.left == nil && o.waitsFor(n) {
			w.news(o, n)
		}
	}
}

// waitsFor tells whether a worker has a receive or a Send that the end of another ends.
func (n *node) waitsFor(gone *node) bool {
	switch p := n.pairs[gone.rank]; {
	case len(n.any) > 0, p != nil && len(p.pending) > 0:
		return true
	case n.posted == 0:
		return false
	}
	for b, q := range n.boxes {
		if b.from == gone.rank && len(q.posts) > 0 {
			return true
		}
	}
	return false
}

// news tells n that a peer is gone, as soon as it can know.
func (w *World) news(n, gone *node) {
	m := &note{to: n, gone: gone}
	m.e = newEvent(m)
	w.set(&m.e, gone.goneAt+gone.pairTo(n).latency)
}

// note is news under way: of a peer that is gone, or of poison.
type note struct {
	e        event
	to, gone *node
	poison   *comm.PeerError
}

func (m *note) happen(w *World) {
	n := m.to
	if m.poison != nil {
		if n.poison == nil && !n.closed && !n.dead {
			n.condemn(m.poison)
		}
		return
	}
	if n.closed || n.dead {
		return
	}
	cause := n.lost(m.gone)
	if cause == nil { // its last messages are still on their way
		if p := m.gone.pairTo(n); len(p.fifo) == 0 {
			w.set(&m.e, max(p.last, w.now+1))
		} else {
			w.set(&m.e, w.now+max(p.latency, 1000))
		}
		return
	}
	n.lose(m.gone, cause)
}

// lose ends what waits for a peer that is gone.
func (n *node) lose(gone *node, cause error) {
	for _, b := range n.sorted() {
		if b.from != gone.rank {
			continue
		}
		q := n.boxes[b]
		posts := q.posts
		q.posts = nil
		n.posted -= len(posts)
		for _, r := range posts {
			r.finish(b.from, 0, peerError(b.from, b.tag, len(r.p), cause))
		}
	}
	if p := n.pairs[gone.rank]; p != nil {
		for _, m := range slices.Clone(p.pending) {
			n.w.abandon(m, cause)
		}
	}
	if first, cause := n.alone(); cause != nil {
		for _, tag := range n.tags() {
			for _, r := range n.any[tag] {
				r.finish(first, 0, peerError(first, tag, len(r.p), cause))
			}
		}
		clear(n.any)
	}
}

// tellPoison tells the peers that n's collectives have failed.
func (w *World) tellPoison(n *node) {
	for _, o := range w.nodes {
		if o == n || o.poison != nil || o.closed || o.dead {
			continue
		}
		m := &note{to: o, poison: n.poison}
		m.e = newEvent(m)
		w.set(&m.e, w.now+n.pairTo(o).latency)
	}
}

// vanish ends a worker as the death of its process does: what it sent and has left its host still arrives.
func (n *node) vanish() {
	if n.dead {
		return
	}
	w := n.w
	n.closed, n.dead, n.frozen = true, true, false
	n.clearOut(func(comm.Tag) bool { return true }, comm.ErrClosed)
	for _, r := range n.peers() {
		p := n.pairs[r]
		if len(p.fifo) > 0 {
			w.finish(&p.flow)
		}
		for _, m := range p.fifo {
			p.to.forget(m)
		}
		for _, m := range p.pending {
			p.to.forget(m)
		}
		p.fifo, p.pending = nil, nil
	}
	w.leave(n, comm.ErrLost)
	for len(n.waiting) > 0 {
		n.wake(n.waiting[0], errGone)
	}
}

// peers returns the ranks that n has sent to, in order.
func (n *node) peers() []comm.Rank { return slices.Sorted(maps.Keys(n.pairs)) }

// forget undoes the sending of a message that will not arrive: whoever asked for it waits on.
func (n *node) forget(m *message) {
	if r := m.rec; r != nil {
		n.unbind(r)
		if r.from == comm.AnyRank {
			n.any[r.tag] = slices.Insert(n.any[r.tag], 0, r)
		} else {
			q := n.box(r.from, r.tag)
			q.posts = slices.Insert(q.posts, 0, r)
			n.posted++
		}
		return
	}
	if b := (box{m.from.rank, m.tag}); n.boxes[b] != nil {
		n.boxes[b].msgs = remove(n.boxes[b].msgs, m)
	}
}
