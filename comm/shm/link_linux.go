package shm

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/covey-ml/covey/comm"
)

// pieceBytes is how much of a long message is written or read before the other side is told, so that the two overlap.
const pieceBytes = 32 << 10

// link implements comm.Link: the two rings that this rank shares with one peer.
type link struct {
	e    *engine
	peer comm.Rank
	slot *slot
	dead atomic.Bool   // the link is of no use any more
	gone chan struct{} // closed when it dies, after cause is set
	// cause is why.
	cause error

	// The writing side. Who holds the token in writing owns tail and free.
	writing chan struct{}
	out     *control
	obuf    []byte
	tail    uint64
	seen    uint64 // the last head read

	// Room for a writer that sleeps; guarded by the engine's mu.
	waiting bool
	wanted  uint64
	room    chan struct{} // holds a token when head has come to wanted

	// The reading side, guarded by the engine's mu.
	in    *control
	ibuf  []byte
	head  uint64
	heard uint32          // what of in.said was dealt with
	msg   *comm.Message   // the message that is half read
	p     []byte          // its buffer
	got   int             // how much of p is here
	stall <-chan struct{} // not nil: the next message waits until this is closed
}

var _ comm.Link = (*link)(nil)

// errRing is in the cause of a peer that was lost because its ring made no sense.
var errRing = errors.New("its ring in shared memory makes no sense")

func corrupt(err error) error { return fmt.Errorf("%w: %w: %v", comm.ErrLost, errRing, err) }

func newLink(e *engine, peer comm.Rank) *link {
	me, r := int(e.mesh.Rank()), int(peer)
	return &link{e: e, peer: peer, slot: e.layout.slot(e.mem, r), gone: make(chan struct{}), writing: make(chan struct{}, 1),
		room: make(chan struct{}, 1),
		out:  e.control(e.mem, me, r), obuf: e.ring(e.mem, me, r),
		in: e.control(e.mem, r, me), ibuf: e.ring(e.mem, r, me)}
}

// Send implements comm.Link.
func (l *link) Send(ctx context.Context, tag comm.Tag, p []byte) error {
	select {
	case l.writing <- struct{}{}:
	default:
		if err := l.queue(ctx); err != nil {
			return err
		}
	}
	err := l.send(ctx, tag, p)
	<-l.writing
	return err
}

// queue waits until no other message is being written.
func (l *link) queue(ctx context.Context) error {
	t := time.NewTimer(l.e.mesh.Timeout())
	defer t.Stop()
	select {
	case l.writing <- struct{}{}:
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

// send writes one message. The caller holds the token.
func (l *link) send(ctx context.Context, tag comm.Tag, p []byte) error {
	if len(p) > maxPayload {
		return fmt.Errorf("shm: a message of %d bytes", len(p))
	}
	size := uint64(len(l.obuf))
	left := frameBytes + pad(uint64(len(p))) // of the frame, to be written
	begun := false
	for left > 0 {
		// A frame of up to a quarter of the ring is written whole, a longer one in pieces of at least that.
		free, err := l.makeRoom(ctx, min(left, size/4))
		if err != nil {
			if err != comm.ErrClosed && (begun || errors.Is(err, errRing)) { // what comes next could not be told from the rest
				l.Break(err)
				return l.why()
			}
			return err
		}
		if !begun {
			putFrame(l.obuf[l.tail&(size-1):], tag, len(p))
			l.tail += frameBytes
			left -= frameBytes
			free -= frameBytes
			begun = true
		}
		for free > 0 && left > 0 {
			n := min(free, left, pieceBytes)
			k := min(int(n), len(p))
			at := l.tail & (size - 1)
			c := copy(l.obuf[at:], p[:k])
			copy(l.obuf, p[c:k])
			p = p[k:]
			l.tail += n
			left -= n
			free -= n
			if left > 0 {
				l.publish()
			}
		}
		l.publish()
	}
	return nil
}

func (l *link) publish() {
	l.out.tail.Store(l.tail)
	ring(l.slot)
}

// free returns the room in the ring as far as known; fresh looks at the reader's position anew.
func (l *link) free(fresh bool) (uint64, error) {
	if fresh {
		h := l.out.head.Load()
		if h-l.seen > l.tail-l.seen {
			return 0, corrupt(fmt.Errorf("a reader at %d, which was at %d and may come to %d", h, l.seen, l.tail))
		}
		l.seen = h
	}
	return uint64(len(l.obuf)) - (l.tail - l.seen), nil
}

// makeRoom waits until need bytes can be written and returns how many can.
func (l *link) makeRoom(ctx context.Context, need uint64) (uint64, error) {
	if l.dead.Load() {
		return 0, l.why()
	}
	if free, _ := l.free(false); free >= need {
		return free, nil
	}
	free, err := l.free(true)
	if err != nil || free >= need {
		return free, err
	}
	l.e.drive(func() bool {
		free, err = l.free(true)
		return err != nil || free >= need || l.dead.Load()
	})
	if err != nil || free >= need {
		return free, err
	}
	// It is worth waking up for half a ring: a reader that leaves so much unread has EagerBytes of this rank's or waits
	// for no Recv.
	size := uint64(len(l.obuf))
	if err := l.sleep(ctx, l.tail+max(need, size/2)-size); err != nil {
		return 0, err
	}
	return l.free(true)
}

// sleep waits until the reader has come to head.
func (l *link) sleep(ctx context.Context, head uint64) error {
	t := time.NewTimer(l.e.mesh.Timeout())
	defer t.Stop()
	l.e.mu.Lock()
	if l.dead.Load() {
		l.e.mu.Unlock()
		return l.cause
	}
	l.waiting, l.wanted = true, head
	l.out.want.Store(head)
	l.awake()
	l.e.mu.Unlock()
	var err error
	select {
	case <-l.room:
		return nil
	case <-l.gone:
		err = l.cause
	case <-l.e.closing:
		err = comm.ErrClosed
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-t.C:
		err = comm.ErrTimeout
	}
	l.e.mu.Lock()
	defer l.e.mu.Unlock()
	if l.waiting {
		l.waiting = false
		l.out.want.Store(0)
	} else {
		<-l.room
	}
	return err
}

// awake wakes the writer when there is the room that it wants. The engine's mu is held.
func (l *link) awake() bool {
	if !l.waiting || int64(l.out.head.Load()-l.wanted) < 0 {
		return false
	}
	l.waiting = false
	l.out.want.Store(0)
	l.room <- struct{}{}
	return true
}

// look does what there is to do on this link and tells whether there was anything. The engine's mu is held.
func (l *link) look() bool {
	busy := l.awake()
	said := l.in.said.Load() // before tail: what was written before it was said is then in the ring
	tail := l.in.tail.Load()
	if tail == l.head && said == l.heard {
		return busy
	}
	if l.stall != nil {
		select {
		case <-l.stall:
			l.stall = nil
		default:
		}
	}
	if tail != l.head && l.stall == nil {
		if err := l.read(tail); err != nil {
			l.lose(corrupt(err))
			return true
		}
		busy = true
	}
	if said != l.heard && (l.head == tail || l.stall != nil) {
		busy = l.hear(said) || busy
	}
	return busy
}

// hear deals with what the peer said besides its messages, once those are read.
func (l *link) hear(said uint32) bool {
	heard := l.heard
	if said&^l.heard&saidAborted != 0 {
		l.heard |= saidAborted
		e, err := parseAbort(append([]byte(nil), l.slot.abort[:]...), l.e.Size)
		if err != nil {
			l.lose(corrupt(err))
			return true
		}
		l.e.mesh.Aborted(e)
	}
	switch {
	case said&saidBroken != 0:
		l.lose(fmt.Errorf("%w: the peer cut the link", comm.ErrLost))
		return true
	case said&saidClosed != 0 && l.stall == nil:
		l.lose(comm.ErrLeft)
		return true
	}
	return l.heard != heard
}

// read takes what the ring holds up to tail.
func (l *link) read(tail uint64) error {
	size := uint64(len(l.ibuf))
	for l.head != tail {
		avail, err := inRing(l.head, tail, len(l.ibuf))
		if err != nil {
			return err
		}
		if l.msg == nil {
			if avail < frameBytes {
				return fmt.Errorf("%d bytes where a frame should begin", avail)
			}
			tag, n, err := parseFrame(l.ibuf[l.head&(size-1):])
			if err != nil {
				return err
			}
			if !l.begin(tag, n) {
				return nil
			}
			l.head += frameBytes
			avail -= frameBytes
		}
		k := min(avail, uint64(len(l.p)-l.got), pieceBytes)
		at := l.head & (size - 1)
		c := copy(l.p[l.got:l.got+int(k)], l.ibuf[at:])
		copy(l.p[l.got+c:l.got+int(k)], l.ibuf)
		l.got += int(k)
		l.head += k
		if l.got == len(l.p) {
			end := pad(l.head)
			if end-l.head > tail-l.head {
				return fmt.Errorf("a message that ends at %d with the ring written to %d", l.head, tail)
			}
			l.head = end
			l.e.mesh.End(l.msg)
			l.msg, l.p = nil, nil
		} else {
			l.e.mesh.Progress(l.msg, l.got)
		}
		l.in.head.Store(l.head)
		if w := l.in.want.Load(); w != 0 && int64(l.head-w) >= 0 {
			ring(l.slot)
		}
	}
	return nil
}

// begin asks the mesh where a message goes. When there is no room, it stays in the ring until there is.
func (l *link) begin(tag comm.Tag, n int) bool {
	p, msg, ok := l.e.mesh.Begin(l.peer, tag, n)
	if !ok {
		room := l.e.mesh.Room(l.peer)
		if p, msg, ok = l.e.mesh.Begin(l.peer, tag, n); !ok {
			l.stall = room
			go func() {
				select {
				case <-room:
					l.e.nudge()
				case <-l.e.closing:
				}
			}()
			return false
		}
	}
	l.msg, l.p, l.got = msg, p, 0
	return true
}

// lose gives the link up and tells the peer so. The engine's mu is held.
func (l *link) lose(cause error) {
	if l.dead.Load() || l.e.closed {
		return
	}
	l.cause = cause
	l.dead.Store(true)
	if l.out.said.Load()&saidClosed == 0 {
		l.out.said.Or(saidBroken)
		ring(l.slot)
	}
	if l.msg != nil {
		l.e.mesh.Fail(l.msg, len(l.p)-l.got, cause)
		l.msg, l.p = nil, nil
	}
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
	l.out.said.Or(saidAborted)
	ring(l.slot)
}

// Break implements comm.Link.
func (l *link) Break(cause error) {
	if !errors.Is(cause, comm.ErrLost) {
		cause = fmt.Errorf("%w: cut in the middle of a message: %w", comm.ErrLost, cause)
	}
	l.e.mu.Lock()
	defer l.e.mu.Unlock()
	l.lose(cause)
}

// Close implements comm.Link.
func (l *link) Close() error {
	l.e.mu.Lock()
	defer l.e.mu.Unlock()
	if l.e.closed {
		return nil
	}
	l.out.said.Or(saidClosed)
	ring(l.slot)
	l.lose(comm.ErrClosed)
	return nil
}
