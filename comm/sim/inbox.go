package sim

import (
	"cmp"
	"maps"
	"slices"

	"github.com/covey-ml/covey/comm"
)

// inbox matches what comes with what is asked for. It is touched by its worker's goroutines, and by the kernel.
//
// A message is matched with a receive as soon as both are known, which may be before it has arrived: its bytes then go
// straight to where they are wanted, and the receive ends when the message would have come.
type inbox struct {
	boxes  map[box]*queue
	any    map[comm.Tag][]*receipt // receives from anybody, oldest first
	coming []*receipt              // those that messages are on their way to
	posted int                     // receives in the boxes
	sweep  int
}

type box struct {
	from comm.Rank
	tag  comm.Tag
}

type queue struct {
	msgs  []*message // sent and not asked for, in the order of sending
	posts []*receipt // asked for and not sent
}

// receipt is a receive that was asked for.
type receipt struct {
	n      *node
	from   comm.Rank
	tag    comm.Tag
	p      []byte
	m      *message // that is on its way to it
	place  int      // in coming, then
	done   bool
	got    comm.Rank
	size   int
	err    error
	waiter *proc
}

func (r *receipt) finish(from comm.Rank, size int, err error) {
	if r.done {
		return
	}
	if r.m != nil {
		r.n.unbind(r)
	}
	r.done, r.got, r.size, r.err = true, from, size, err
	if p := r.waiter; p != nil && !p.owing {
		r.waiter = nil
		r.n.wake(p, nil)
	}
}

// minSweep is how many queues an inbox keeps before it looks for empty ones to drop.
const minSweep = 64

func (n *node) box(from comm.Rank, tag comm.Tag) *queue {
	b := box{from, tag}
	q := n.boxes[b]
	if q != nil {
		return q
	}
	if len(n.boxes) >= max(minSweep, n.sweep) {
		for b, q := range n.boxes {
			if len(q.msgs)+len(q.posts) == 0 {
				delete(n.boxes, b)
			}
		}
		n.sweep = 2 * len(n.boxes)
	}
	q = &queue{}
	n.boxes[b] = q
	return q
}

// post gives r the oldest message of its sender that nobody has, or queues it.
func (n *node) post(r *receipt) {
	q := n.box(r.from, r.tag)
	if len(q.posts) == 0 && n.take(q, r) {
		return
	}
	peer := n.w.nodes[r.from]
	if cause := n.lost(peer); cause != nil {
		r.finish(r.from, 0, peerError(r.from, r.tag, len(r.p), cause))
		return
	}
	q.posts = append(q.posts, r)
	n.posted++
	if peer.left != nil {
		n.ask(action{kind: actNews, n: n, to: peer})
	}
}

// take gives r the first message of q, and tells whether there was one.
func (n *node) take(q *queue, r *receipt) bool {
	if len(q.msgs) == 0 {
		return false
	}
	m := q.msgs[0]
	if m.n > len(r.p) {
		r.finish(m.from.rank, 0, &comm.SizeError{From: m.from.rank, Need: m.n, Have: len(r.p)})
		return true
	}
	q.msgs = pop(q.msgs)
	n.claim(m, r)
	return true
}

// claim gives m to r.
func (n *node) claim(m *message, r *receipt) {
	copy(r.p, m.data)
	m.data = nil
	if m.state == pending {
		n.bind(m, r)
		n.ask(action{kind: actClaim, m: m})
		return
	}
	n.ask(action{kind: actRoom, n: m.from, to: n, bytes: m.counts()})
	if m.state == here {
		r.finish(m.from.rank, m.n, nil)
		return
	}
	n.bind(m, r)
}

// bind says that m is on its way to r.
func (n *node) bind(m *message, r *receipt) {
	m.rec, r.m, r.place = r, m, len(n.coming)
	n.coming = append(n.coming, r)
}

func (n *node) unbind(r *receipt) {
	last := n.coming[len(n.coming)-1]
	n.coming[r.place], last.place = last, r.place
	n.coming = n.coming[:len(n.coming)-1]
	r.m.rec, r.m = nil, nil
}

// postAny gives r the message that came first from anybody, or queues it.
func (n *node) postAny(r *receipt) {
	var first *message
	var where *queue
	for b, q := range n.boxes {
		if b.tag == r.tag && len(q.msgs) > 0 {
			if m := q.msgs[0]; m.state == here && (first == nil || m.arrival < first.arrival) {
				first, where = m, q
			}
		}
	}
	if first != nil {
		n.take(where, r)
		return
	}
	if gone, cause := n.alone(); cause != nil {
		r.finish(gone, 0, peerError(gone, r.tag, len(r.p), cause))
		return
	}
	if n.any == nil {
		n.any = map[comm.Tag][]*receipt{}
	}
	n.any[r.tag] = append(n.any[r.tag], r)
	// Large messages wait at their senders until they are asked for: whose turn it is has to be decided now.
	for _, q := range n.pendingFirst(r.tag) {
		if n.take(q, r); r.m != nil || r.done {
			n.any[r.tag] = remove(n.any[r.tag], r)
			return
		}
	}
}

// pendingFirst returns the queues of a tag whose first message waits at its sender, in the order of senders.
func (n *node) pendingFirst(tag comm.Tag) []*queue {
	var from []comm.Rank
	for b, q := range n.boxes {
		if b.tag == tag && len(q.msgs) > 0 && q.msgs[0].state == pending {
			from = append(from, b.from)
		}
	}
	slices.Sort(from)
	qs := make([]*queue, len(from))
	for i, r := range from {
		qs[i] = n.boxes[box{r, tag}]
	}
	return qs
}

// alone tells whether every peer is known to be gone, which one and why; the cause is nil while one is there.
func (n *node) alone() (comm.Rank, error) {
	if n.w.gone < len(n.w.nodes)-1 || len(n.w.nodes) == 1 {
		return comm.AnyRank, nil
	}
	for _, o := range n.w.nodes {
		if o != n && n.lost(o) == nil {
			return comm.AnyRank, nil
		}
	}
	first := n.w.nodes[0]
	if first == n {
		first = n.w.nodes[1]
	}
	return first.rank, n.lost(first)
}

// deliver is the arrival of m.
func (n *node) deliver(m *message) {
	m.state = here
	n.w.arrived++
	m.arrival = n.w.arrived
	switch {
	case m.waste:
	case m.rec != nil:
		m.rec.finish(m.from.rank, m.n, nil)
	default:
		for len(n.any[m.tag]) > 0 {
			q := n.box(m.from.rank, m.tag)
			if q.msgs[0] != m {
				return // an older one of the same sender has not been asked for
			}
			r := n.any[m.tag][0]
			n.any[m.tag] = pop(n.any[m.tag])
			if n.take(q, r); r.err == nil {
				return
			}
		}
	}
}

// cancel ends a receive that its caller gives up. A message that was on its way to it is free again.
func (n *node) cancel(r *receipt, cause error) {
	if r.done {
		return
	}
	missing := len(r.p)
	from := r.from
	if m := r.m; m != nil {
		from, missing = m.from.rank, m.n
		n.release(m)
	} else if r.from == comm.AnyRank {
		n.any[r.tag] = remove(n.any[r.tag], r)
	} else {
		q := n.box(r.from, r.tag)
		n.posted -= len(q.posts)
		q.posts = remove(q.posts, r)
		n.posted += len(q.posts)
	}
	r.finish(from, 0, peerError(from, r.tag, missing, cause))
}

// release takes a message that is on its way from its receive, and gives it to the next one.
func (n *node) release(m *message) {
	if !n.w.c.Hollow {
		m.data = append([]byte(nil), m.rec.p[:m.n]...)
	}
	n.unbind(m.rec)
	q := n.box(m.from.rank, m.tag)
	i := len(q.msgs)
	for i > 0 && q.msgs[i-1].order > m.order {
		i--
	}
	q.msgs = slices.Insert(q.msgs, i, m)
	n.ask(action{kind: actRoom, n: m.from, to: n, bytes: -m.counts()})
	if len(q.posts) > 0 {
		r := q.posts[0]
		q.posts = pop(q.posts)
		n.posted--
		n.take(q, r)
	}
}

// condemn ends everything that belongs to collectives: receives fail with e, messages are thrown away.
func (n *node) condemn(e *comm.PeerError) {
	n.poison = e
	n.clearOut(comm.Tag.Collective, e)
}

// shut ends everything: receives fail with comm.ErrClosed.
func (n *node) shut() {
	n.closed = true
	n.clearOut(func(comm.Tag) bool { return true }, comm.ErrClosed)
	for _, p := range slices.Clone(n.waiting) {
		if m, ok := p.on.(*message); ok && p.waits {
			p.ctx = nil
			n.ask(action{kind: actAbandon, m: m, err: comm.ErrClosed})
		}
	}
}

// clearOut ends the receives of some tags with err and throws their messages away.
func (n *node) clearOut(which func(comm.Tag) bool, err error) {
	for _, b := range n.sorted() {
		if !which(b.tag) {
			continue
		}
		q := n.boxes[b]
		n.posted -= len(q.posts)
		for _, r := range q.posts {
			r.finish(b.from, 0, err)
		}
		for _, m := range q.msgs {
			m.waste, m.data = true, nil
			switch {
			case m.state == pending && n.closed: // its sender hears that this worker is gone
			case m.state == pending: // nobody will ask for it
				n.ask(action{kind: actClaim, m: m})
			default:
				n.ask(action{kind: actRoom, n: m.from, to: n, bytes: m.counts()})
			}
		}
		delete(n.boxes, b)
	}
	for _, tag := range n.tags() {
		if which(tag) {
			for _, r := range n.any[tag] {
				r.finish(comm.AnyRank, 0, err)
			}
			delete(n.any, tag)
		}
	}
	for _, r := range slices.Clone(n.coming) {
		if which(r.tag) {
			r.m.waste = true
			r.finish(r.m.from.rank, 0, err)
		}
	}
}

// sorted returns the inbox's boxes in an order that does not depend on the map.
func (n *node) sorted() []box {
	return slices.SortedFunc(maps.Keys(n.boxes), func(a, b box) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.tag, b.tag))
	})
}

// tags returns those that receives from anybody wait for, in order.
func (n *node) tags() []comm.Tag { return slices.Sorted(maps.Keys(n.any)) }

func remove[T comparable](s []T, x T) []T {
	if i := slices.Index(s, x); i >= 0 {
		return slices.Delete(s, i, i+1)
	}
	return s
}

// pop removes the first element and keeps the array.
func pop[T any](s []T) []T { return slices.Delete(s, 0, 1) }
