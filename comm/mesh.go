package comm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Link carries messages to one peer. A transport makes one for each peer and gives it to the Mesh; what the peer
// sends, the transport brings to the Mesh with Begin, Progress, End, Fail and Lose.
type Link interface {
	// Send returns when p may be reused. Concurrent calls are allowed. It must return soon after ctx ends, Break or
	// Close, and return ErrTimeout when nothing has moved for the Mesh's Timeout. When it gives up with part of the
	// message on the wire it must Break the link and return what CutOff makes of the reason, and when it gives up with
	// none of it there it must do neither.
	Send(ctx context.Context, tag Tag, p []byte) error
	// Abort tells the peer, best effort and without waiting, that this rank gave up a collective because of e (see
	// AppendPeerError). If it reaches the peer at all, it does so before the goodbye of a later Close.
	Abort(e *PeerError)
	// Break cuts the link at once: a Send under way and the peer's next read fail, every message that this side was
	// receiving gets its Fail, and Lose follows.
	Break(cause error)
	// Close says goodbye in order, within its own short deadline. What Send took before still arrives. The peer's
	// transport answers the goodbye with Lose(rank, ErrLeft).
	Close() error
}

// Mesh is the Group that transports share: it matches what arrives with what is asked for, so that ordering,
// deadlines, lost peers and poison mean the same on all of them. A transport adds its Links and delivers to it.
// This file and receipt.go are the side that programs see, deliver.go is the side that transports see, and poison.go
// is how it all ends.
//
// Invariant, whenever the lock is free: a queue has no unclaimed message while somebody has asked for it.
type Mesh struct {
	rank    Rank
	size    int
	clock   Clock
	timeout time.Duration
	links   []Link                     // by rank; nil at rank itself
	idle    func(done <-chan struct{}) // see Idle; may be nil

	mu     sync.Mutex
	boxes  map[box]*queue
	any    map[Tag][]*receipt // receives from AnyRank, oldest first
	peers  []peer
	poison *PeerError
	told   bool // the peers were told of it
	closed bool
	seq    uint64 // of the last message that arrived unasked
	store  store
	sweep  int // drop the empty queues when there are this many

	troubled atomic.Bool // closed, poisoned, or a peer lost: for those who must not take the lock to know
	alarm    func()      // called when that becomes so, with the lock held; may be nil

	receipts, waiters sync.Pool
}

type box struct {
	from Rank
	tag  Tag
}

type queue struct {
	came  []*Message // arrived and not asked for, oldest first
	posts []*receipt // asked for and not arrived, oldest first
}

type peer struct {
	lost     error         // why the peer is gone; nil while it is there
	buffered int           // bytes of its messages that nobody has asked for, each at least MinMessage
	full     bool          // Begin found no room since the last change
	room     chan struct{} // closed when there may be room; nil until somebody asks for it
	waiters  []*waiter     // those who wait in Admit
}

// NewMesh returns the view of one rank. timeout bounds every wait that its context does not bound sooner; it must
// be positive. Connect every other rank before use.
func NewMesh(rank Rank, size int, clock Clock, timeout time.Duration) *Mesh {
	if size < 1 || rank < 0 || int(rank) >= size || timeout <= 0 {
		panic(fmt.Sprintf("comm.NewMesh(%d, %d, timeout %v)", rank, size, timeout))
	}
	m := &Mesh{rank: rank, size: size, clock: clock, timeout: timeout, links: make([]Link, size),
		boxes: map[box]*queue{}, any: map[Tag][]*receipt{}, peers: make([]peer, size), sweep: minSweep}
	m.receipts.New = func() any { return &receipt{done: make(chan struct{}, 1), timer: stoppedTimer()} }
	m.waiters.New = func() any { return &waiter{room: make(chan struct{}, 1), timer: stoppedTimer()} }
	return m
}

func stoppedTimer() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

// Connect sets the link to a peer.
func (m *Mesh) Connect(to Rank, l Link) { m.links[to] = l }

// Idle gives the mesh a function that each Wait calls, without locks, before it goes to sleep. It may work on the
// transport's behalf. It must return at once when it sees that done holds a token (len(done) > 0; it must not take the
// token), and in any case within some milliseconds of having nothing to do: the group's timeout and the context that
// Wait was given are looked at afterwards. Set it before use.
func (m *Mesh) Idle(f func(done <-chan struct{})) { m.idle = f }

// trouble says that something has come about that ends waits. The mesh is locked.
func (m *Mesh) trouble() {
	m.troubled.Store(true)
	if m.alarm != nil {
		m.alarm()
	}
}

// Rank implements Group.
func (m *Mesh) Rank() Rank { return m.rank }

// Size implements Group.
func (m *Mesh) Size() int { return m.size }

// Clock implements Group.
func (m *Mesh) Clock() Clock { return m.clock }

// Timeout is the bound of every wait.
func (m *Mesh) Timeout() time.Duration { return m.timeout }

// Send implements Group.
func (m *Mesh) Send(ctx context.Context, to Rank, tag Tag, p []byte) error {
	if to < 0 || int(to) >= m.size {
		return fmt.Errorf("comm: send to rank %d of a group of %d", to, m.size)
	}
	if ctx.Err() != nil {
		return m.peerError(to, tag, len(p), context.Cause(ctx))
	}
	if err := m.barred(to, tag); err != nil {
		return m.peerError(to, tag, len(p), err)
	}
	var err error
	if to == m.rank {
		err = m.Deliver(ctx, m.rank, tag, p)
	} else {
		err = m.links[to].Send(ctx, tag, p)
	}
	if err == nil {
		return nil
	}
	var pe *PeerError
	if errors.As(err, &pe) {
		return err
	}
	if cause := m.barred(to, tag); cause != nil {
		err = cause
	}
	return m.peerError(to, tag, len(p), err)
}

// barred says why nothing can be sent there: this group is closed or poisoned, or the peer gone.
func (m *Mesh) barred(to Rank, tag Tag) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closed:
		return ErrClosed
	case m.poison != nil && tag.Collective():
		return m.poison
	}
	return m.peers[to].lost
}

// Recv implements Group.
func (m *Mesh) Recv(ctx context.Context, from Rank, tag Tag, p []byte) (Rank, int, error) {
	return m.Post(from, tag, p).Wait(ctx)
}

// Post implements Poster.
func (m *Mesh) Post(from Rank, tag Tag, p []byte) Receipt {
	r := m.receipts.Get().(*receipt)
	r.m, r.from, r.tag, r.p, r.in, r.cause, r.got, r.n, r.err = m, from, tag, p, nil, nil, from, 0, nil
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case from < AnyRank || int(from) >= m.size:
		r.finish(from, 0, fmt.Errorf("comm: receive from rank %d of a group of %d", from, m.size))
	case m.closed:
		r.finish(from, 0, ErrClosed)
	case m.poison != nil && tag.Collective():
		r.finish(from, 0, m.poison)
	case from == AnyRank:
		m.postAny(r, false)
	default:
		m.post(r)
	}
	return r
}

func (m *Mesh) post(r *receipt) {
	if m.match(r, r.from) {
		return
	}
	if cause := m.peers[r.from].lost; cause != nil {
		r.finish(r.from, 0, m.peerError(r.from, r.tag, len(r.p), cause))
		return
	}
	q := m.box(r.from, r.tag)
	q.posts = append(q.posts, r)
	m.signalRoom(r.from)
}

// postAny gives r the message that came first from anybody, or queues it: before the others when it waited already.
func (m *Mesh) postAny(r *receipt, again bool) {
	first, seq := AnyRank, uint64(0)
	for i := range m.peers {
		q := m.boxes[box{Rank(i), r.tag}]
		if q != nil && len(q.came) > 0 && (first == AnyRank || q.came[0].seq < seq) {
			first, seq = Rank(i), q.came[0].seq
		}
	}
	if first != AnyRank {
		m.match(r, first)
		return
	}
	if gone, cause := m.alone(); cause != nil {
		r.finish(gone, 0, m.peerError(gone, r.tag, len(r.p), cause))
		return
	}
	w, ok := m.any[r.tag]
	if !ok && len(m.any) >= minSweep {
		for tag, w := range m.any {
			if len(w) == 0 {
				delete(m.any, tag)
			}
		}
	}
	w = append(w, r)
	if again {
		copy(w[1:], w)
		w[0] = r
	}
	m.any[r.tag] = w
	for i := range m.peers {
		m.signalRoom(Rank(i))
	}
}

// alone tells whether every peer is gone, which one and why; the cause is nil while one is there.
func (m *Mesh) alone() (Rank, error) {
	gone := AnyRank
	for i := range m.peers {
		if Rank(i) == m.rank {
			continue
		}
		if m.peers[i].lost == nil {
			return AnyRank, nil
		}
		if gone == AnyRank {
			gone = Rank(i)
		}
	}
	if gone == AnyRank {
		return AnyRank, nil // a group of one: it may still send to itself
	}
	return gone, m.peers[gone].lost
}

// match gives r the oldest message of that rank that nobody has, and tells whether there was one. A message too
// long for r stays where it is.
func (m *Mesh) match(r *receipt, from Rank) bool {
	q := m.boxes[box{from, r.tag}]
	if q == nil || len(q.came) == 0 {
		return false
	}
	msg := q.came[0]
	n := len(msg.buf)
	if n > len(r.p) {
		r.finish(from, 0, &SizeError{From: from, Need: n, Have: len(r.p)})
		return true
	}
	q.came = pop(q.came)
	if !msg.full {
		msg.to, r.in = r, msg
		return true
	}
	copy(r.p, msg.buf)
	m.give(msg)
	r.finish(from, n, nil)
	return true
}

// peerError names the peer unless the cause is this rank's own Close or names one already.
func (m *Mesh) peerError(r Rank, tag Tag, missing int, cause error) error {
	var pe *PeerError
	if cause == ErrClosed || errors.As(cause, &pe) {
		return cause
	}
	return &PeerError{Rank: r, Op: tag.Op(), Step: -1, Missing: int64(missing), Cause: cause}
}

// minSweep is how many queues a mesh keeps before it looks for empty ones to drop.
const minSweep = 128

func (m *Mesh) box(from Rank, tag Tag) *queue {
	q := m.boxes[box{from, tag}]
	if q != nil {
		return q
	}
	if len(m.boxes) >= m.sweep {
		for b, q := range m.boxes {
			if len(q.came)+len(q.posts) == 0 {
				delete(m.boxes, b)
			}
		}
		m.sweep = max(minSweep, 2*len(m.boxes))
	}
	q = &queue{}
	m.boxes[box{from, tag}] = q
	return q
}

// pop removes the first element and keeps the array, so that a queue in steady use does not allocate.
func pop[T any](s []T) []T {
	var zero T
	copy(s, s[1:])
	s[len(s)-1] = zero
	return s[:len(s)-1]
}

func remove[T comparable](s []T, x T) []T {
	for i := range s {
		if s[i] == x {
			copy(s[i:], s[i+1:])
			var zero T
			s[len(s)-1] = zero
			return s[:len(s)-1]
		}
	}
	return s
}

var (
	_ Group    = (*Mesh)(nil)
	_ Poster   = (*Mesh)(nil)
	_ Poisoner = (*Mesh)(nil)
)
