package comm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Link carries messages to one peer. A transport makes one for each peer and gives it to the Mesh; what the peer
// sends, the transport brings to the Mesh with Begin, End and Lose.
type Link interface {
	// Send returns when p may be reused. Concurrent calls are allowed. It must return soon after ctx ends or Break.
	Send(ctx context.Context, tag Tag, p []byte) error
	// Abort tells the peer, best effort and without waiting, that this rank gave up a collective because of e.
	Abort(e *PeerError)
	// Break cuts the link at once: a Send under way and the peer's next read fail.
	Break(cause error)
	// Close says goodbye in order, within its own short deadline.
	Close() error
}

// Mesh is the Group that transports share: it matches what arrives with what is asked for, so that ordering,
// deadlines, lost peers and poison mean the same on all of them. A transport adds its Links and delivers to it.
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
	closed bool
	free   [][]byte // buffers of messages that came before they were asked for
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
	buffered int           // bytes of its messages that nobody has asked for
	room     chan struct{} // non-nil while somebody waits for room; closed when there may be some
}

// Message is one on its way into this rank.
type Message struct {
	from Rank
	tag  Tag
	buf  []byte
	own  bool     // buf is the mesh's, not the receiver's
	to   *receipt // who gets it, nil while nobody has asked
	full bool
}

// receipt implements Receipt.
type receipt struct {
	m       *Mesh
	from    Rank
	tag     Tag
	p       []byte
	msg     Message // the message that is written straight to p
	filling bool    // part of the message may be here
	got     Rank
	n       int
	err     error
	done    chan struct{} // holds one token when the receive has ended
	timer   *time.Timer
}

var receipts = sync.Pool{New: func() any { return &receipt{done: make(chan struct{}, 1)} }}

// NewMesh returns the view of one rank. timeout bounds every wait that its context does not bound sooner; it must
// be positive. Connect every other rank before use.
func NewMesh(rank Rank, size int, clock Clock, timeout time.Duration) *Mesh {
	if size < 1 || rank < 0 || int(rank) >= size || timeout <= 0 {
		panic(fmt.Sprintf("comm.NewMesh(%d, %d, timeout %v)", rank, size, timeout))
	}
	m := &Mesh{rank: rank, size: size, clock: clock, timeout: timeout, links: make([]Link, size),
		boxes: map[box]*queue{}, any: map[Tag][]*receipt{}, peers: make([]peer, size)}
	return m
}

// Connect sets the link to a peer.
func (m *Mesh) Connect(to Rank, l Link) { m.links[to] = l }

// Idle gives the mesh a function that each Wait calls, without locks, before it goes to sleep. It may work on the
// transport's behalf, and must return soon after done holds a token (len(done) > 0; it must not take the token), and
// in any case within some microseconds of having nothing to do. Set it before use.
func (m *Mesh) Idle(f func(done <-chan struct{})) { m.idle = f }

// Rank, Size and Clock implement Group.
func (m *Mesh) Rank() Rank   { return m.rank }
func (m *Mesh) Size() int    { return m.size }
func (m *Mesh) Clock() Clock { return m.clock }

// Timeout is the bound of every wait.
func (m *Mesh) Timeout() time.Duration { return m.timeout }

// Send implements Group.
func (m *Mesh) Send(ctx context.Context, to Rank, tag Tag, p []byte) error {
	if to < 0 || int(to) >= m.size {
		return fmt.Errorf("comm: send to rank %d of a group of %d", to, m.size)
	}
	if to == m.rank {
		return m.Deliver(ctx, m.rank, tag, p)
	}
	if err := m.gone(to); err != nil {
		return m.peerError(to, tag, len(p), err)
	}
	if err := m.links[to].Send(ctx, tag, p); err != nil {
		if cause := m.gone(to); cause != nil {
			err = cause
		}
		return m.peerError(to, tag, len(p), err)
	}
	return nil
}

// Recv implements Group.
func (m *Mesh) Recv(ctx context.Context, from Rank, tag Tag, p []byte) (Rank, int, error) {
	return m.Post(from, tag, p).Wait(ctx)
}

// Deliver copies a whole message from a rank of the same process into m, waiting for room when there is none.
func (m *Mesh) Deliver(ctx context.Context, from Rank, tag Tag, p []byte) error {
	buf, msg, err := m.Admit(ctx, from, tag, len(p))
	if err != nil {
		return err
	}
	copy(buf, p)
	m.End(msg)
	return nil
}

// Begin announces a message of n bytes that a transport is about to read, and returns where to put it. When there
// is no room (nobody has asked for it, and more than EagerBytes of that peer's messages wait unasked) ok is false:
// leave the message where it is and call again after Room, or later. After Begin, call End or Fail.
func (m *Mesh) Begin(from Rank, tag Tag, n int) (p []byte, msg *Message, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.begin(from, tag, n)
}

func (m *Mesh) begin(from Rank, tag Tag, n int) ([]byte, *Message, bool) {
	q := m.box(from, tag)
	if len(q.came) == 0 {
		for {
			r := m.claim(q, tag)
			if r == nil {
				break
			}
			if len(r.p) < n {
				r.finish(from, 0, &SizeError{From: from, Need: n, Have: len(r.p)})
				continue
			}
			msg := &r.msg
			*msg = Message{from: from, tag: tag, buf: r.p[:n], to: r}
			r.filling, r.got = true, from
			return msg.buf, msg, true
		}
	}
	if b := m.peers[from].buffered; b > 0 && b+n > EagerBytes || n > EagerBytes {
		return nil, nil, false
	}
	m.peers[from].buffered += n
	msg := &Message{from: from, tag: tag, buf: m.take(n), own: true}
	q.came = append(q.came, msg)
	return msg.buf, msg, true
}

// claim takes the oldest receive that a message with this tag satisfies.
func (m *Mesh) claim(q *queue, tag Tag) *receipt {
	if len(q.posts) > 0 {
		r := q.posts[0]
		q.posts = pop(q.posts)
		return r
	}
	if w := m.any[tag]; len(w) > 0 {
		r := w[0]
		m.any[tag] = pop(w)
		return r
	}
	return nil
}

// Admit is Begin that waits for room, until ctx ends, the group's timeout passes or the group closes.
func (m *Mesh) Admit(ctx context.Context, from Rank, tag Tag, n int) ([]byte, *Message, error) {
	var timer *time.Timer
	for {
		m.mu.Lock()
		if m.closed {
			m.mu.Unlock()
			return nil, nil, ErrClosed
		}
		p, msg, ok := m.begin(from, tag, n)
		var room chan struct{}
		if !ok {
			room = m.roomFor(from)
		}
		m.mu.Unlock()
		if ok {
			return p, msg, nil
		}
		if timer == nil {
			timer = time.NewTimer(m.timeout)
			defer timer.Stop()
		}
		select {
		case <-room:
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		case <-timer.C:
			return nil, nil, ErrTimeout
		}
	}
}

// Room returns a channel that is closed when Begin may succeed for that peer again, or the group closes.
func (m *Mesh) Room(from Rank) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.roomFor(from)
}

func (m *Mesh) roomFor(from Rank) chan struct{} {
	p := &m.peers[from]
	if p.room == nil {
		p.room = make(chan struct{})
		if m.closed {
			close(p.room)
		}
	}
	return p.room
}

func (m *Mesh) signalRoom(from Rank) {
	if p := &m.peers[from]; p.room != nil {
		close(p.room)
		p.room = nil
	}
}

// End says that the message is whole.
func (m *Mesh) End(msg *Message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	msg.full = true
	if msg.to == nil {
		return // it waits in its queue
	}
	if msg.own { // it came unasked and was asked for while it arrived
		copy(msg.to.p, msg.buf)
		m.give(msg)
	}
	msg.to.finish(msg.from, len(msg.buf), nil)
}

// Fail says that the message will never be whole: missing bytes of it did not come. The link it came on is lost.
func (m *Mesh) Fail(msg *Message, missing int, cause error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if msg.to != nil {
		e := m.peerError(msg.from, msg.tag, missing, cause)
		if msg.own {
			m.give(msg)
		}
		msg.to.finish(msg.from, 0, e)
		return
	}
	q := m.box(msg.from, msg.tag)
	for i, c := range q.came {
		if c == msg {
			q.came = append(q.came[:i], q.came[i+1:]...)
		}
	}
	m.give(msg)
}

// Lose says that a peer is gone. Messages that arrived whole can still be received.
func (m *Mesh) Lose(from Rank, cause error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.peers[from].lost != nil || m.closed {
		return
	}
	m.peers[from].lost = cause
	for b, q := range m.boxes {
		if b.from != from {
			continue
		}
		for _, r := range q.posts {
			r.finish(from, 0, m.peerError(from, b.tag, len(r.p), cause))
		}
		q.posts = q.posts[:0]
	}
	if m.alone() {
		for tag, w := range m.any {
			for _, r := range w {
				r.finish(from, 0, m.peerError(from, tag, len(r.p), cause))
			}
		}
		clear(m.any)
	}
	m.signalRoom(from)
}

// alone tells whether every peer is gone.
func (m *Mesh) alone() bool {
	for i := range m.peers {
		if Rank(i) != m.rank && m.peers[i].lost == nil {
			return false
		}
	}
	return true
}

// Post implements Poster.
func (m *Mesh) Post(from Rank, tag Tag, p []byte) Receipt {
	r := receipts.Get().(*receipt)
	r.m, r.from, r.tag, r.p, r.filling, r.got, r.n, r.err = m, from, tag, p, false, from, 0, nil
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case from < AnyRank || int(from) >= m.size:
		r.finish(from, 0, fmt.Errorf("comm: receive from rank %d of a group of %d", from, m.size))
		return r
	case m.closed:
		r.finish(from, 0, ErrClosed)
		return r
	}
	if from != AnyRank {
		if m.match(r, from) {
			return r
		}
		if cause := m.peers[from].lost; cause != nil {
			r.finish(from, 0, m.peerError(from, tag, len(p), cause))
			return r
		}
		q := m.box(from, tag)
		q.posts = append(q.posts, r)
		m.signalRoom(from)
		return r
	}
	for i := range m.peers {
		if m.match(r, Rank(i)) {
			return r
		}
	}
	if m.size > 1 && m.alone() {
		r.finish(from, 0, m.peerError(m.lastLost(), tag, len(p), ErrLost))
		return r
	}
	m.any[tag] = append(m.any[tag], r)
	for i := range m.peers {
		m.signalRoom(Rank(i))
	}
	return r
}

func (m *Mesh) lastLost() Rank {
	for i := range m.peers {
		if m.peers[i].lost != nil {
			return Rank(i)
		}
	}
	return m.rank
}

// match gives r the oldest message of that rank that nobody has, and tells whether there was one.
func (m *Mesh) match(r *receipt, from Rank) bool {
	q := m.boxes[box{from, r.tag}]
	if q == nil || len(q.came) == 0 {
		return false
	}
	msg := q.came[0]
	if len(msg.buf) > len(r.p) {
		r.finish(from, 0, &SizeError{From: from, Need: len(msg.buf), Have: len(r.p)})
		return true
	}
	q.came = pop(q.came)
	msg.to = r
	if !msg.full {
		r.filling, r.got = true, from
		return true
	}
	copy(r.p, msg.buf)
	n := len(msg.buf)
	m.give(msg)
	r.finish(from, n, nil)
	return true
}

// Wait implements Receipt.
func (r *receipt) Wait(ctx context.Context) (Rank, int, error) {
	select {
	case <-r.done:
		return r.release()
	default:
	}
	if r.m.idle != nil {
		r.m.idle(r.done)
		select {
		case <-r.done:
			return r.release()
		default:
		}
	}
	if r.timer == nil {
		r.timer = time.NewTimer(r.m.timeout)
	} else {
		r.timer.Reset(r.m.timeout)
	}
	var cause error
	select {
	case <-r.done:
		r.timer.Stop()
		return r.release()
	case <-r.timer.C:
		cause = ErrTimeout
	case <-ctx.Done():
		r.timer.Stop()
		cause = context.Cause(ctx)
	}
	r.m.cancel(r, cause)
	<-r.done // at once, or as soon as the broken link's reader lets go of p
	return r.release()
}

// cancel ends a receive that its caller gives up. When part of the message is here, its link is broken: the rest
// could not be told from the next message's bytes.
func (m *Mesh) cancel(r *receipt, cause error) {
	m.mu.Lock()
	if len(r.done) > 0 { // it ended meanwhile
		m.mu.Unlock()
		return
	}
	if r.filling {
		from := r.got
		m.mu.Unlock()
		if l := m.links[from]; l != nil {
			l.Break(cause)
		}
		return
	}
	defer m.mu.Unlock()
	if r.from == AnyRank {
		m.any[r.tag] = remove(m.any[r.tag], r)
	} else {
		q := m.box(r.from, r.tag)
		q.posts = remove(q.posts, r)
	}
	r.finish(r.from, 0, m.peerError(r.from, r.tag, len(r.p), cause))
}

// finish ends a receive. The mesh is locked.
func (r *receipt) finish(from Rank, n int, err error) {
	r.got, r.n, r.err = from, n, err
	r.done <- struct{}{}
}

func (r *receipt) release() (Rank, int, error) {
	from, n, err := r.got, r.n, r.err
	r.m, r.p, r.err, r.msg = nil, nil, nil, Message{}
	receipts.Put(r)
	return from, n, err
}

// Poison implements Poisoner.
func (m *Mesh) Poison(e *PeerError) *PeerError {
	m.mu.Lock()
	if m.poison != nil || m.closed {
		defer m.mu.Unlock()
		if m.poison == nil {
			return e
		}
		return m.poison
	}
	m.poison = e
	m.mu.Unlock()
	for to, l := range m.links {
		if l != nil && Rank(to) != e.Rank {
			l.Abort(e)
		}
	}
	return e
}

// Poisoned implements Poisoner.
func (m *Mesh) Poisoned() *PeerError {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.poison
}

// Aborted says that a peer gave up a collective because of e: this rank's collectives fail with the same cause, those
// under way included.
func (m *Mesh) Aborted(e *PeerError) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.poison != nil || m.closed {
		return
	}
	m.poison = e
	for b, q := range m.boxes {
		if b.tag.Op() == OpSend {
			continue
		}
		for _, r := range q.posts {
			r.finish(b.from, 0, e)
		}
		q.posts = q.posts[:0]
	}
}

// Close implements Group.
func (m *Mesh) Close() error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil
	}
	m.closed = true
	for b, q := range m.boxes {
		for _, r := range q.posts {
			r.finish(b.from, 0, ErrClosed)
		}
		q.posts = nil
	}
	for _, w := range m.any {
		for _, r := range w {
			r.finish(AnyRank, 0, ErrClosed)
		}
	}
	clear(m.any)
	for i := range m.peers {
		m.signalRoom(Rank(i))
	}
	m.mu.Unlock()
	var first error
	for _, l := range m.links {
		if l == nil {
			continue
		}
		if err := l.Close(); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// Closed tells whether Close was called.
func (m *Mesh) Closed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.closed
}

func (m *Mesh) gone(r Rank) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	return m.peers[r].lost
}

// peerError names the peer unless the cause is this rank's own doing.
func (m *Mesh) peerError(r Rank, tag Tag, missing int, cause error) error {
	var pe *PeerError
	if cause == ErrClosed || errors.As(cause, &pe) {
		return cause
	}
	return &PeerError{Rank: r, Op: tag.Op(), Step: -1, Missing: int64(missing), Cause: cause}
}

func (m *Mesh) box(from Rank, tag Tag) *queue {
	q := m.boxes[box{from, tag}]
	if q == nil {
		q = &queue{}
		m.boxes[box{from, tag}] = q
	}
	return q
}

// take gives a buffer for an unasked message; give takes it back and makes room.
func (m *Mesh) take(n int) []byte {
	if k := len(m.free); k > 0 {
		b := m.free[k-1]
		m.free = m.free[:k-1]
		return b[:n]
	}
	return make([]byte, n, EagerBytes)
}

func (m *Mesh) give(msg *Message) {
	if len(m.free) < m.size {
		m.free = append(m.free, msg.buf[:0])
	}
	m.peers[msg.from].buffered -= len(msg.buf)
	m.signalRoom(msg.from)
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
			return append(s[:i], s[i+1:]...)
		}
	}
	return s
}

var (
	_ Group    = (*Mesh)(nil)
	_ Poster   = (*Mesh)(nil)
	_ Poisoner = (*Mesh)(nil)
)
