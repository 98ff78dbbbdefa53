package comm

import (
	"context"
	"time"
)

// receipt implements Receipt.
type receipt struct {
	m     *Mesh
	from  Rank
	tag   Tag
	p     []byte
	in    *Message // the message that is coming in for it
	msg   Message  // in, when it is written straight to p
	cause error    // why the caller gave up; nil while it waits
	got   Rank
	n     int
	err   error
	done  chan struct{} // holds one token when the receive has ended
	timer *time.Timer
}

// Wait implements Receipt.
func (r *receipt) Wait(ctx context.Context) (Rank, int, error) {
	select { // what has come wins over an ended context
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
	r.timer.Reset(r.m.timeout)
	var cause error
	for cause == nil {
		select {
		case <-r.done:
			r.timer.Stop()
			return r.release()
		case <-r.timer.C:
			if left := r.m.patience(r); left > 0 {
				r.timer.Reset(left)
			} else {
				cause = ErrTimeout
			}
		case <-ctx.Done():
			r.timer.Stop()
			cause = context.Cause(ctx)
		}
	}
	r.m.cancel(r, cause)
	<-r.done // at once, or as soon as the broken link's reader lets go of p
	return r.release()
}

// patience is how much longer to wait for a message that is coming in: until a timeout after its last bytes.
func (m *Mesh) patience(r *receipt) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r.in == nil || r.in.moved == 0 {
		return 0
	}
	return m.timeout - (m.clock.Now() - r.in.moved)
}

// cancel ends a receive that its caller gives up. When part of the message is already in p, its link is broken: the
// rest could not be told from the next message's bytes.
func (m *Mesh) cancel(r *receipt, cause error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(r.done) > 0 { // it ended meanwhile
		return
	}
	r.cause = cause
	msg := r.in
	switch {
	case msg == nil:
		if r.from == AnyRank {
			m.any[r.tag] = remove(m.any[r.tag], r)
		} else {
			q := m.box(r.from, r.tag)
			q.posts = remove(q.posts, r)
		}
		r.finish(r.from, 0, m.peerError(r.from, r.tag, len(r.p), cause))
	case msg.kind == stored: // p is untouched, and the message may still be asked for
		msg.to = nil
		m.putBack(msg)
		r.finish(msg.from, 0, m.peerError(msg.from, r.tag, len(msg.buf)-msg.got, cause))
	case msg.local: // a goroutine of this process is copying it and ends by itself
	default:
		if l := m.links[msg.from]; l != nil {
			m.mu.Unlock()
			l.Break(CutOff(cause))
			m.mu.Lock()
		}
	}
}

// putBack queues a message that was claimed and is free again, in the order of arrival.
func (m *Mesh) putBack(msg *Message) {
	if m.closed || m.poison != nil && msg.tag.Collective() {
		msg.kind = dropped
		return
	}
	q := m.box(msg.from, msg.tag)
	i := len(q.came)
	for i > 0 && q.came[i-1].seq > msg.seq {
		i--
	}
	q.came = append(q.came, nil)
	copy(q.came[i+1:], q.came[i:])
	q.came[i] = msg
	for len(q.came) > 0 { // those who asked while it was taken
		r := m.claim(q, msg.tag)
		if r == nil {
			break
		}
		m.match(r, msg.from)
	}
}

// finish ends a receive, once. The mesh is locked. Nothing may touch r afterwards.
func (r *receipt) finish(from Rank, n int, err error) {
	r.in, r.got, r.n, r.err = nil, from, n, err
	r.done <- struct{}{}
}

func (r *receipt) release() (Rank, int, error) {
	m, from, n, err := r.m, r.got, r.n, r.err
	r.m, r.p, r.in, r.cause, r.err, r.msg = nil, nil, nil, nil, nil, Message{}
	m.receipts.Put(r)
	return from, n, err
}
