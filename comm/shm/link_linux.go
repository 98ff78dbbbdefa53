package shm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/covey-ml/covey/comm"
)

// link implements comm.Link: the two rings that this rank shares with one peer. send_linux.go is its writing side,
// receive_linux.go its reading side.
//
// A message of at most EagerBytes goes into the ring at once as long as the peer's mesh has no more than EagerBytes of
// this rank's that it did not take; the peer holds what its mesh does not take. All other messages ask for leave
// first, and their payload follows when somebody over there wants it. So the reader never leaves anything in the
// ring, and no message waits behind one that nobody has asked for.
type link struct {
	e    *engine
	peer comm.Rank
	slot *slot
	dead atomic.Bool   // the link is of no use any more
	gone chan struct{} // closed when it dies, after cause is set
	// cause is why.
	cause error

	out *control // of the ring that this rank writes
	in  *control // of the ring that the peer writes
	w   writer
	r   reader // guarded by the engine's mu

	waits []*wait // guarded by the engine's mu
}

// wait is a goroutine of this process that sleeps until something is so that the peer makes so.
type wait struct {
	ready func() bool
	woken chan struct{} // holds a token when ready said yes
}

var _ comm.Link = (*link)(nil)

// errRing is in the cause of a peer that was lost because its ring made no sense.
var errRing = errors.New("its ring in shared memory makes no sense")

// errCell is in the cause of a peer whose cell made none.
var errCell = errors.New("its cell in shared memory makes no sense")

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %w: %v", comm.ErrLost, errRing, fmt.Errorf(format, args...))
}

func newLink(e *engine, peer comm.Rank) *link {
	me, r := int(e.mesh.Rank()), int(peer)
	l := &link{e: e, peer: peer, slot: e.layout.slot(e.mem, r), gone: make(chan struct{}),
		out: e.control(e.mem, me, r), in: e.control(e.mem, r, me)}
	l.w.init(e.ring(e.mem, me, r))
	l.r.init(e.ring(e.mem, r, me))
	return l
}

// sleep waits until ready is so, the link dies, the group closes, ctx ends or the group's timeout passes. The first
// makers of passes call ready.
func (l *link) sleep(ctx context.Context, ready func() bool) error {
	w := &wait{ready, make(chan struct{}, 1)}
	l.e.mu.Lock()
	switch {
	case l.dead.Load():
		l.e.mu.Unlock()
		return l.cause
	case ready():
		l.e.mu.Unlock()
		return nil
	}
	l.waits = append(l.waits, w)
	l.e.mu.Unlock()
	err := l.until(ctx, w.woken)
	if err == nil {
		return nil
	}
	l.e.mu.Lock()
	defer l.e.mu.Unlock()
	if i := slices.Index(l.waits, w); i >= 0 {
		l.waits = slices.Delete(l.waits, i, i+1)
	}
	return err
}

// until waits for a token.
func (l *link) until(ctx context.Context, token <-chan struct{}) error {
	t := time.NewTimer(l.e.mesh.Timeout())
	defer t.Stop()
	select {
	case <-token:
		return nil
	case <-l.gone:
		return l.cause
	case <-l.e.closing:
		return comm.ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return comm.ErrTimeout
	}
}

// look does what there is to do on this link and tells whether there was anything. The engine's mu is held.
func (l *link) look() (busy bool) {
	if l.dead.Load() {
		return false
	}
	for i := 0; i < len(l.waits); i++ {
		if w := l.waits[i]; w.ready() {
			w.woken <- struct{}{}
			l.waits = slices.Delete(l.waits, i, i+1)
			i--
			busy = true
		}
	}
	if len(l.w.withdrawn) > 0 {
		l.w.reap(l.out)
	}
	said := l.in.said.Load() // before tail: what was written before it was said is then in the ring
	if tail := l.in.tail.Load(); tail != l.r.head {
		if err := l.read(tail); err != nil {
			l.lose(err)
			return true
		}
		busy = true
	}
	if len(l.r.held) > 0 {
		offered, err := l.offer()
		if err != nil {
			l.lose(err)
			return true
		}
		busy = busy || offered
	}
	if said != l.r.heard {
		l.hear(said)
		busy = true
	}
	return busy
}

// hear deals with what the peer said besides its messages, which have been read. The engine's mu is held.
func (l *link) hear(said uint32) {
	fresh := said &^ l.r.heard
	l.r.heard = said
	if fresh&saidAborted != 0 {
		e, err := parseAbort(slices.Clone(l.slot.abort[:]))
		if err != nil {
			l.lose(corrupt("%v", err))
			return
		}
		l.e.mesh.Aborted(e)
	}
	switch {
	case fresh&saidClosed != 0:
		l.lose(comm.ErrLeft)
	case fresh&saidBroken != 0:
		l.lose(fmt.Errorf("%w: the peer cut the link", comm.ErrLost))
	}
}

// lose gives the link up and tells the peer so. Whole messages that the mesh has not taken it gets now. The engine's mu
// is held.
func (l *link) lose(cause error) {
	if l.dead.Load() || l.e.closed {
		return
	}
	l.cause = cause
	l.dead.Store(true)
	l.tell(saidBroken)
	l.settle(cause)
	l.e.mesh.Lose(l.peer, cause)
	close(l.gone)
}

// why returns the cause of a dead link.
func (l *link) why() error {
	<-l.gone
	return l.cause
}

// Abort implements comm.Link. A rank has one reason to give up, so it has one record, written before any ring says so.
func (l *link) Abort(pe *comm.PeerError) {
	l.e.mu.Lock()
	defer l.e.mu.Unlock()
	if l.e.closed {
		return
	}
	if !l.e.spoken {
		l.e.spoken = true
		putAbort(l.e.self.abort[:], pe)
	}
	l.tell(saidAborted)
}

// tell says something to the peer besides messages. The engine's mu is held.
func (l *link) tell(what uint32) {
	if !l.e.mute && l.out.said.Load()&saidClosed == 0 {
		l.out.said.Or(what)
		ring(l.slot)
	}
}

// Break implements comm.Link.
func (l *link) Break(cause error) {
	l.e.mu.Lock()
	defer l.e.mu.Unlock()
	l.lose(comm.CutOff(cause))
}

// Close implements comm.Link.
func (l *link) Close() error {
	l.e.mu.Lock()
	defer l.e.mu.Unlock()
	if l.e.closed {
		return nil
	}
	l.tell(saidClosed)
	l.lose(comm.ErrClosed)
	return nil
}
