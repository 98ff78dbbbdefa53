package comm

import (
	"context"
	"math/bits"
	"time"
)

// Message is one on its way into this rank.
type Message struct {
	from  Rank
	tag   Tag
	buf   []byte
	seq   uint64
	to    *receipt // who gets it, nil while nobody has asked
	got   int      // bytes that are here, as far as Progress told
	moved time.Duration
	kind  kind
	local bool // copied by a goroutine of this process, which ends by itself
	full  bool
}

// kind says whose a message's buffer is.
type kind uint8

const (
	direct  kind = iota // the receiver's
	stored              // the mesh's, counted against EagerBytes
	dropped             // stored, and nobody may ask for it any more
	waste               // there is none: the group is closed or poisoned, or the peer gone
)

// Begin announces a message of n bytes that a transport is about to read, and returns where to put it. When there
// is no room (nobody has asked for it, and more than EagerBytes of that peer's messages would wait unasked) ok is
// false: leave the message where it is and call again after Room, or later. After Begin, call End or Fail, and
// Progress in between if the message comes in pieces; after those, forget msg. A nil p, of a message of whatever
// length, means that nobody can ask for it any more (the group is closed, the peer lost, or it is a collective's and
// the group poisoned): read it away. So memory is bounded whatever n says: a receiver's own, or EagerBytes a peer.
//
// For each peer one goroutine at a time calls Begin and Room.
func (m *Mesh) Begin(from Rank, tag Tag, n int) (p []byte, msg *Message, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || m.peers[from].lost != nil || m.poison != nil && tag.Collective() {
		return nil, &Message{from: from, tag: tag, kind: waste}, true
	}
	p, msg, ok = m.begin(from, tag, n)
	if !ok {
		s := &m.peers[from]
		if s.full = true; s.room != nil {
			select {
			case <-s.room:
				s.room = nil
			default:
			}
		}
	}
	return p, msg, ok
}

func (m *Mesh) begin(from Rank, tag Tag, n int) ([]byte, *Message, bool) {
	q := m.box(from, tag)
	if len(q.came) == 0 {
		for r := m.claim(q, tag); r != nil; r = m.claim(q, tag) {
			if len(r.p) < n {
				r.finish(from, 0, &SizeError{From: from, Need: n, Have: len(r.p)})
				continue
			}
			r.msg = Message{from: from, tag: tag, buf: r.p[:n], to: r, kind: direct}
			r.in = &r.msg
			return r.msg.buf, r.in, true
		}
	}
	c := max(n, MinMessage)
	if m.peers[from].buffered+c > EagerBytes {
		return nil, nil, false
	}
	msg := m.stow(q, from, tag, n)
	return msg.buf, msg, true
}

// stow queues a message that nobody has asked for.
func (m *Mesh) stow(q *queue, from Rank, tag Tag, n int) *Message {
	m.peers[from].buffered += max(n, MinMessage)
	m.seq++
	msg := m.store.message()
	*msg = Message{from: from, tag: tag, buf: m.store.take(n), seq: m.seq, kind: stored}
	q.came = append(q.came, msg)
	return msg
}

// Keep takes a whole message of at most EagerBytes whether or not there is room: for what a transport itself still
// holds of a peer that is gone. Call it before Lose.
func (m *Mesh) Keep(from Rank, tag Tag, p []byte) {
	m.mu.Lock()
	if m.closed || m.peers[from].lost != nil || m.poison != nil && tag.Collective() {
		m.mu.Unlock()
		return
	}
	buf, msg, ok := m.begin(from, tag, len(p))
	if !ok {
		msg = m.stow(m.box(from, tag), from, tag, len(p))
		buf = msg.buf
	}
	m.mu.Unlock()
	copy(buf, p)
	m.End(msg)
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

// Room returns a channel that is closed when Begin, which found no room for that peer, may find some.
func (m *Mesh) Room(from Rank) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &m.peers[from]
	if s.room == nil {
		s.room = make(chan struct{})
		if !s.full {
			close(s.room)
		}
	}
	return s.room
}

// signalRoom wakes those who wait for room. A closed channel stays in place, so that a Room that comes after it
// returns at once, until Begin fails again.
func (m *Mesh) signalRoom(from Rank) {
	s := &m.peers[from]
	if s.full {
		s.full = false
		if s.room != nil {
			close(s.room)
		}
	}
	for i, w := range s.waiters {
		w.room <- struct{}{}
		s.waiters[i] = nil
	}
	s.waiters = s.waiters[:0]
}

// Progress says that got bytes of the message are here: the receiver's patience starts anew, and its error counts
// what is missing.
func (m *Mesh) Progress(msg *Message, got int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	msg.got, msg.moved = got, m.clock.Now()
}

// End says that the message is whole.
func (m *Mesh) End(msg *Message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	msg.full, msg.got = true, len(msg.buf)
	r := msg.to
	switch {
	case msg.kind == waste:
	case msg.kind == dropped:
		m.give(msg)
	case r == nil: // it waits in its queue
	case msg.kind == stored: // it came unasked and was asked for while it arrived
		n := copy(r.p, msg.buf)
		from := msg.from
		m.give(msg)
		r.finish(from, n, nil)
	default:
		r.finish(msg.from, len(msg.buf), nil)
	}
}

// Fail says that the message will never be whole: missing bytes of it did not come. The link it came on is lost, and
// Lose must follow. A receive from AnyRank goes on with the rest.
func (m *Mesh) Fail(msg *Message, missing int, cause error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		cause = ErrClosed
	}
	from, tag, r := msg.from, msg.tag, msg.to
	if r == nil && msg.kind == stored {
		q := m.box(from, tag)
		q.came = remove(q.came, msg)
	}
	if msg.kind == stored || msg.kind == dropped {
		m.give(msg)
	}
	if r == nil {
		return
	}
	r.in = nil
	switch {
	case r.cause != nil:
		r.finish(from, 0, m.peerError(from, tag, missing, CutOff(r.cause)))
	case m.closed:
		r.finish(from, 0, ErrClosed)
	case m.poison != nil && tag.Collective():
		r.finish(from, 0, m.poison)
	case r.from == AnyRank:
		m.postAny(r, true)
	default:
		r.finish(from, 0, m.peerError(from, tag, missing, cause))
	}
}

// Lose says that a peer is gone and why: ErrLeft after its goodbye, else an error that wraps ErrLost. Only the
// first call for a peer counts. Messages that arrived whole can still be received.
func (m *Mesh) Lose(from Rank, cause error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.peers[from].lost != nil || m.closed {
		return
	}
	m.peers[from].lost = cause
	m.trouble()
	for b, q := range m.boxes {
		if b.from != from {
			continue
		}
		for i, r := range q.posts {
			q.posts[i] = nil
			r.finish(from, 0, m.peerError(from, b.tag, len(r.p), cause))
		}
		q.posts = q.posts[:0]
	}
	if gone, cause := m.alone(); cause != nil {
		for tag, w := range m.any {
			for _, r := range w {
				r.finish(gone, 0, m.peerError(gone, tag, len(r.p), cause))
			}
		}
		clear(m.any)
	}
	m.signalRoom(from)
}

// Aborted says that a peer gave up a collective because of e: this rank's collectives fail with the same cause, those
// under way included.
func (m *Mesh) Aborted(e *PeerError) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.poison == nil && !m.closed {
		m.condemn(e)
	}
}

// Deliver copies a whole message from a rank of the same process into m, waiting for room when there is none.
func (m *Mesh) Deliver(ctx context.Context, from Rank, tag Tag, p []byte) error {
	buf, msg, err := m.admit(ctx, from, tag, len(p), true)
	if err != nil {
		return err
	}
	copy(buf, p)
	m.End(msg)
	return nil
}

// Admit is Begin that waits for room, until ctx ends (it returns the cause), the group's timeout passes
// (ErrTimeout), the group closes (ErrClosed), the peer is lost (why) or, for a collective's message, the group is
// poisoned (its error). Any number of goroutines may call it.
func (m *Mesh) Admit(ctx context.Context, from Rank, tag Tag, n int) ([]byte, *Message, error) {
	return m.admit(ctx, from, tag, n, false)
}

func (m *Mesh) admit(ctx context.Context, from Rank, tag Tag, n int, local bool) ([]byte, *Message, error) {
	var w *waiter
	for {
		m.mu.Lock()
		var err error
		switch lost := m.peers[from].lost; {
		case m.closed:
			err = ErrClosed
		case m.poison != nil && tag.Collective():
			err = m.poison
		case lost != nil:
			err = lost
		}
		if err != nil {
			m.mu.Unlock()
			m.noWaiter(w)
			return nil, nil, err
		}
		p, msg, ok := m.begin(from, tag, n)
		if ok {
			msg.local = local
			m.mu.Unlock()
			m.noWaiter(w)
			return p, msg, nil
		}
		if w == nil {
			w = m.waiters.Get().(*waiter)
			w.timer.Reset(m.timeout)
		}
		m.peers[from].waiters = append(m.peers[from].waiters, w)
		m.mu.Unlock()
		select {
		case <-w.room:
			continue
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-w.timer.C:
			err = ErrTimeout
		}
		m.mu.Lock()
		m.peers[from].waiters = remove(m.peers[from].waiters, w)
		select { // it was signalled meanwhile
		case <-w.room:
		default:
		}
		m.mu.Unlock()
		m.noWaiter(w)
		return nil, nil, err
	}
}

// store keeps what unasked messages need, so that steady traffic does not allocate: buffers by size class (powers of
// two from MinMessage to EagerBytes, so memory is at most twice the bytes buffered) and Message structs.
type store struct {
	free  [bufClasses][][]byte
	bytes int
	msgs  []*Message
}

const (
	bufClasses = 11             // 64 bytes << 0 ... 10
	keepBytes  = 4 * EagerBytes // kept in free buffers
	keepMsgs   = 256
)

func bufClass(n int) int { return max(bits.Len(uint(n-1))-6, 0) }

// take gives a buffer for an unasked message of at most EagerBytes.
func (s *store) take(n int) []byte {
	if n == 0 {
		return nil
	}
	c := bufClass(n)
	if len(s.free[c]) > 0 {
		return s.last(c)[:n]
	}
	return make([]byte, n, MinMessage<<c)
}

// keep takes a buffer back. When there are too many bytes, the class that has most of them lets go of some: messages of another length
// may come from now on.
func (s *store) keep(b []byte) {
	c := bufClass(cap(b))
	s.free[c] = append(s.free[c], b[:0])
	s.bytes += cap(b)
	for s.bytes > keepBytes {
		most := 0
		for c, f := range s.free {
			if len(f)<<c > len(s.free[most])<<most {
				most = c
			}
		}
		s.last(most)
	}
}

// last takes a buffer of a class that has some.
func (s *store) last(class int) []byte {
	f := s.free[class]
	b := f[len(f)-1]
	f[len(f)-1] = nil
	s.free[class] = f[:len(f)-1]
	s.bytes -= cap(b)
	return b
}

func (s *store) message() *Message {
	if k := len(s.msgs); k > 0 {
		msg := s.msgs[k-1]
		s.msgs[k-1] = nil
		s.msgs = s.msgs[:k-1]
		return msg
	}
	return &Message{}
}

// give takes back the buffer of a stored or dropped message, and the message, and makes room.
func (m *Mesh) give(msg *Message) {
	s, from := &m.store, msg.from
	m.peers[from].buffered -= max(len(msg.buf), MinMessage)
	if cap(msg.buf) > 0 {
		s.keep(msg.buf)
	}
	if *msg = (Message{}); len(s.msgs) < keepMsgs {
		s.msgs = append(s.msgs, msg)
	}
	m.signalRoom(from)
}

// waiter is one who waits for room in Admit.
type waiter struct {
	room  chan struct{} // holds a token when there may be some
	timer *time.Timer
}

func (m *Mesh) noWaiter(w *waiter) {
	if w != nil {
		w.timer.Stop()
		m.waiters.Put(w)
	}
}
