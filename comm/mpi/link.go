//go:build mpi && cgo

package mpi

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/covey-ml/covey/comm"
)

// undecided is how long a peer may take to answer that leave is not wanted any more. It is a few instructions; a peer that
// takes longer is not running.
const undecided = time.Second

// link implements comm.Link: frames to and from one peer. The engine's mu guards all but the channels, and what cannot
// change.
type link struct {
	e       *engine
	mesh    *comm.Mesh
	peer    comm.Rank
	to, out int // the MPI rank and tag that frames go to
	from    address
	id      uint64

	token chan struct{} // holds a token while somebody sends
	woken chan struct{} // holds a token when something has changed for who holds the other
	cause error         // why the link is gone; nil while it is whole
	mute  bool          // nothing is said to the peer any more

	under     int    // frames that the library still holds
	sent      uint64 // cost of what went without leave
	taken     uint64 // of that, what the peer says that it has taken
	asked     uint32 // the number of the newest ask
	granted   uint32 // the newest that got leave
	withdrawn uint32 // the newest that will not get it
	aborted   bool

	took, told uint64  // cost of what the mesh took of the peer's, and what the peer knows of that
	held       []frame // what the mesh did not take, oldest first
	waiting    uint64  // cost of the messages among them
	in         *incoming
}

// frame is one that waits.
type frame struct {
	header
	payload []byte
}

// incoming is a message that comes in parts.
type incoming struct {
	msg    *comm.Message
	p      []byte // nil when nobody wants it any more
	n, got int
}

var _ comm.Link = (*link)(nil)

func (l *link) wake() {
	select {
	case l.woken <- struct{}{}:
	default:
	}
}

// say sends a frame. The engine's mu is held. A failure loses the link.
func (l *link) say(h header, payload []byte) {
	if l.mute {
		return
	}
	if l.told, h.taken = l.took, l.took; h.kind != frameAsk {
		h.size = len(payload)
	}
	err := l.e.send(l.to, l.out, HeaderBytes+len(payload), l.id, func(b []byte) {
		h.put(b)
		copy(b[HeaderBytes:], payload)
	})
	if err != nil {
		l.lose(fmt.Errorf("%w: %w", comm.ErrLost, err))
		return
	}
	l.under++
}

// Send implements comm.Link.
func (l *link) Send(ctx context.Context, tag comm.Tag, p []byte) error {
	if int64(len(p)) > maxMessage {
		return fmt.Errorf("mpi: a message of %d bytes; the most is %d", len(p), int64(maxMessage))
	}
	if err := l.acquire(ctx); err != nil {
		return err
	}
	defer func() { <-l.token }()
	if len(p) > comm.EagerBytes {
		return l.long(ctx, tag, p)
	}
	c := cost(len(p))
	return l.when(ctx, l.mesh.Timeout(), func() bool { return l.sent-l.taken+c <= creditBytes }, func() {
		l.sent += c
		l.say(header{kind: frameMessage, tag: tag}, p)
	})
}

// acquire takes the token.
func (l *link) acquire(ctx context.Context) error {
	select {
	case l.token <- struct{}{}:
		return nil
	default:
	}
	for timer := time.NewTimer(l.mesh.Timeout()); ; {
		select {
		case l.token <- struct{}{}:
			timer.Stop()
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
			return comm.ErrTimeout
		}
	}
}

// when waits until ready says so and then calls act, both with the engine's mu held. It returns why the link is gone, the
// context's cause, or ErrTimeout. The caller holds the token.
func (l *link) when(ctx context.Context, patience time.Duration, ready func() bool, act func()) error {
	try := func() (over bool, err error) {
		l.e.mu.Lock()
		defer l.e.mu.Unlock()
		if l.cause == nil && ready() {
			if act != nil {
				act()
			}
			return true, l.cause
		}
		return l.cause != nil, l.cause
	}
	if over, err := try(); over {
		return err
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		l.e.drive(func() bool { return len(l.woken) > 0 })
		if over, err := try(); over {
			return err
		}
		select {
		case <-l.woken:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
			return comm.ErrTimeout
		}
	}
}

// long sends a message that needs leave. The caller holds the token.
func (l *link) long(ctx context.Context, tag comm.Tag, p []byte) error {
	var number uint32
	err := l.when(ctx, l.mesh.Timeout(), func() bool { return true }, func() {
		l.asked++
		number = l.asked
		l.say(header{kind: frameAsk, number: number, tag: tag, size: len(p)}, nil)
	})
	if err != nil {
		return err
	}
	granted := func() bool { return l.granted == number }
	if err := l.when(ctx, l.mesh.Timeout(), granted, nil); err != nil {
		if gone := l.why(); gone != nil {
			return gone
		}
		if granted, err := l.withdraw(number, err); !granted {
			return err
		}
		ctx = context.WithoutCancel(ctx) // leave came in the same moment, and somebody waits for the rest
	}
	for len(p) > 0 {
		n := min(len(p), partBytes)
		err := l.when(ctx, l.mesh.Timeout(), func() bool { return l.under < partsUnderWay }, func() {
			l.say(header{kind: framePart, number: number, tag: tag}, p[:n])
		})
		if err == comm.ErrClosed {
			return err
		}
		if err != nil {
			l.Break(err) // the peer waits for a message that will never be whole
			return l.why()
		}
		p = p[n:]
	}
	return nil
}

// withdraw takes an ask back and tells whether leave was given meanwhile; if not, it returns the error of Send.
func (l *link) withdraw(number uint32, cause error) (granted bool, err error) {
	l.e.mu.Lock()
	l.say(header{kind: frameWithdraw, number: number}, nil)
	l.e.mu.Unlock()
	err = l.when(context.Background(), undecided, func() bool { return l.granted == number || l.withdrawn == number },
		func() { granted = l.granted == number })
	switch {
	case err == comm.ErrTimeout:
		l.Break(cause)
		return false, l.why()
	case err != nil:
		return false, err
	}
	return granted, cause
}

// why returns why the link is gone, or nil.
func (l *link) why() error {
	l.e.mu.Lock()
	defer l.e.mu.Unlock()
	return l.cause
}

// read deals with a frame that has come. The engine's mu is held, as in all that follows but what implements comm.Link.
// The frame is read only until it returns.
func (l *link) read(b []byte) {
	if l.cause != nil {
		return
	}
	h, payload, err := parse(b)
	if err == nil {
		err = l.deal(h, payload)
	}
	if err != nil {
		l.lose(fmt.Errorf("%w: %w: %w", comm.ErrLost, errFrame, err))
	}
}

func (l *link) deal(h header, payload []byte) error {
	if h.taken-l.taken > l.sent-l.taken {
		return fmt.Errorf("it has taken %d of %d", h.taken, l.sent)
	}
	if h.taken != l.taken {
		l.taken = h.taken
		l.wake()
	}
	switch h.kind {
	case frameMessage, frameAsk:
		if len(l.held) == 0 && l.accept(h, payload) {
			return nil
		}
		if h.kind == frameMessage {
			if l.waiting += cost(h.size); l.waiting > creditBytes {
				return fmt.Errorf("%d bytes without leave that nobody has taken; the most is %d", l.waiting, creditBytes)
			}
		} else if slices.ContainsFunc(l.held, func(f frame) bool { return f.kind == frameAsk }) {
			return fmt.Errorf("leave is asked twice at a time")
		}
		l.held = append(l.held, frame{h, slices.Clone(payload)})
		l.e.held[l] = true
	case frameGrant:
		l.granted = h.number
		l.wake()
	case frameWithdrawn:
		l.withdrawn = h.number
		l.wake()
	case framePart:
		in := l.in
		if in == nil || h.size > in.n-in.got || h.size == 0 {
			return fmt.Errorf("%d bytes of a long message that is not awaited", h.size)
		}
		if in.p != nil {
			copy(in.p[in.got:], payload)
		}
		if in.got += h.size; in.got < in.n {
			l.mesh.Progress(in.msg, in.got)
			return nil
		}
		l.in = nil
		l.mesh.End(in.msg)
	case frameWithdraw:
		i := slices.IndexFunc(l.held, func(f frame) bool { return f.kind == frameAsk && f.number == h.number })
		if i >= 0 { // else leave is on its way
			l.held = slices.Delete(l.held, i, i+1)
			l.say(header{kind: frameWithdrawn, number: h.number}, nil)
			l.offer()
		}
	case frameAbort:
		pe, err := comm.ParsePeerError(payload)
		if err != nil {
			return err
		}
		l.mesh.Aborted(pe)
	case frameBroken:
		l.lose(fmt.Errorf("%w: the peer cut the link", comm.ErrLost))
	case frameGoodbye:
		l.lose(comm.ErrLeft)
	}
	return nil
}

// accept tells whether the mesh takes a message, or one for which leave is asked, and if so gives it that, or the leave.
func (l *link) accept(h header, payload []byte) bool {
	if h.kind == frameAsk && l.in != nil {
		return false // a sender that gave up has been told yes
	}
	p, msg, ok := l.mesh.Begin(l.peer, h.tag, h.size)
	if !ok {
		return false
	}
	if h.kind == frameAsk {
		l.in = &incoming{msg: msg, p: p, n: h.size}
		l.say(header{kind: frameGrant, number: h.number}, nil)
		return true
	}
	copy(p, payload)
	l.mesh.End(msg)
	if l.took += cost(h.size); l.took-l.told >= comm.EagerBytes {
		l.say(header{kind: frameTaken}, nil)
	}
	return true
}

// offer offers the mesh what is held, in order, and tells whether it took any.
func (l *link) offer() (busy bool) {
	for len(l.held) > 0 {
		f := l.held[0]
		if !l.accept(f.header, f.payload) {
			break
		}
		busy = true
		if l.cause != nil {
			return // an answer could not be sent
		}
		if f.kind == frameMessage {
			l.waiting -= cost(f.size)
		}
		l.held = slices.Delete(l.held, 0, 1)
	}
	if len(l.held) == 0 {
		delete(l.e.held, l)
	}
	return busy
}

// lose gives the link up. Whole messages that the mesh has not taken it gets now.
func (l *link) lose(cause error) {
	if l.cause != nil {
		return
	}
	l.cause = cause
	if in := l.in; in != nil {
		l.mesh.Fail(in.msg, in.n-in.got, cause)
	}
	for _, f := range l.held {
		if f.kind == frameMessage {
			l.mesh.Keep(l.peer, f.tag, f.payload)
		}
	}
	l.in, l.held, l.mute = nil, nil, true
	delete(l.e.held, l)
	l.mesh.Lose(l.peer, cause)
	l.wake()
}

// Abort implements comm.Link. Only the first counts: a group has one error.
func (l *link) Abort(pe *comm.PeerError) {
	l.e.mu.Lock()
	defer l.e.mu.Unlock()
	if !l.aborted {
		l.aborted = true
		l.say(header{kind: frameAbort}, comm.AppendPeerError(nil, pe))
	}
}

// Break implements comm.Link.
func (l *link) Break(cause error) { l.end(frameBroken, comm.CutOff(cause)) }

// Close implements comm.Link.
func (l *link) Close() error {
	l.end(frameGoodbye, comm.ErrClosed)
	return nil
}

// end says a last word and loses the link.
func (l *link) end(word kind, cause error) {
	l.e.mu.Lock()
	defer l.e.mu.Unlock()
	if l.cause == nil {
		l.say(header{kind: word}, nil)
		l.lose(cause)
	}
}
