package shm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/covey-ml/covey/comm"
)

// pieceBytes is how much is written before the reader is told, so that the two overlap.
const pieceBytes = 32 << 10

// writer is the writing side of a link. Who holds the token owns it, but for the channels.
type writer struct {
	token chan struct{} // holds the token while nobody writes
	buf   []byte
	tail  uint64
	head  uint64 // the last that was seen
	sent  uint64 // cost of the messages sent without leave
	taken uint64 // the last that was seen
	place [thereBytes]byte
	// numbers holds those of asks that nobody uses.
	numbers chan int
	// withdrawn are those that the reader has yet to forget; guarded by the engine's mu.
	withdrawn []int
}

func (w *writer) init(buf []byte) {
	w.buf, w.token, w.numbers = buf, make(chan struct{}, 1), make(chan int, maxAsks)
	w.token <- struct{}{}
	for i := range maxAsks {
		w.numbers <- i
	}
}

// reap takes back the numbers of withdrawn asks that the reader has forgotten. The engine's mu is held.
func (w *writer) reap(out *control) {
	kept := w.withdrawn[:0]
	for _, i := range w.withdrawn {
		if out.asks[i].Load() == askFree {
			w.numbers <- i
		} else {
			kept = append(kept, i)
		}
	}
	w.withdrawn = kept
}

// Send implements comm.Link.
func (l *link) Send(ctx context.Context, tag comm.Tag, p []byte) error {
	if uint64(len(p)) > maxMessage {
		return fmt.Errorf("shm: a message of %d bytes; the most is %d", len(p), uint64(maxMessage))
	}
	l.e.sending.RLock()
	defer l.e.sending.RUnlock()
	if l.e.unmapped {
		return comm.ErrClosed
	}
	if len(p) > comm.EagerBytes {
		return l.ask(ctx, tag, p)
	}
	if err := l.acquire(ctx); err != nil {
		return err
	}
	ok, err := l.eager(cost(len(p)))
	if ok {
		if err = l.write(ctx, frame{frameMessage, 0, tag, len(p)}, p); err == nil {
			l.w.sent += cost(len(p))
		}
	}
	l.w.token <- struct{}{}
	if ok || err != nil {
		return err
	}
	return l.ask(ctx, tag, p)
}

// acquire takes the token.
func (l *link) acquire(ctx context.Context) error {
	select {
	case <-l.w.token:
		return nil
	default:
		return l.until(ctx, l.w.token)
	}
}

// eager tells whether a message of that cost can go without leave. The caller holds the token.
func (l *link) eager(cost uint64) (bool, error) {
	w := &l.w
	if w.sent-w.taken+cost <= comm.EagerBytes {
		return true, nil
	}
	if l.dead.Load() {
		return false, l.why()
	}
	taken := l.out.taken.Load()
	if taken-w.taken > w.sent-w.taken {
		l.Break(corrupt("a reader that took %d of %d", taken, w.sent))
		return false, l.why()
	}
	w.taken = taken
	return w.sent-w.taken+cost <= comm.EagerBytes, nil
}

// ask sends a message that needs leave. One that lies in this rank's arena the reader copies from there when it gives leave.
func (l *link) ask(ctx context.Context, tag comm.Tag, p []byte) error {
	number, err := l.number(ctx)
	if err != nil {
		return err
	}
	state := &l.out.asks[number]
	if err := l.acquire(ctx); err != nil {
		l.w.numbers <- number
		return err
	}
	state.Store(askMade)
	at, there := l.e.shared.offset(p)
	end := uint32(askGranted)
	if there {
		end = askTaken
		err = l.write(ctx, frame{frameThere, number, tag, len(p)}, binary.LittleEndian.AppendUint64(l.w.place[:0], at))
	} else {
		err = l.write(ctx, frame{frameAsk, number, tag, len(p)}, nil)
	}
	l.w.token <- struct{}{}
	if err != nil {
		state.Store(askFree)
		l.w.numbers <- number
		return err
	}
	ended := func() bool { return state.Load() == end }
	if !ended() {
		l.e.drive(func() bool { return ended() || l.dead.Load() })
	}
	if err := l.sleep(ctx, ended); err != nil {
		if ended, err := l.withdraw(number, end, err); !ended {
			return err
		}
		ctx = context.WithoutCancel(ctx) // leave came in the same moment, and somebody waits for the rest
	}
	if !there {
		err = l.parts(ctx, number, tag, p)
	}
	switch err {
	case nil:
		state.Store(askFree)
		l.w.numbers <- number
		return nil
	case comm.ErrClosed:
		return err
	}
	l.Break(err) // the peer waits for a message that will never be whole
	return l.why()
}

// parts writes a message that has leave.
func (l *link) parts(ctx context.Context, number int, tag comm.Tag, p []byte) error {
	for {
		n := min(len(p), partBytes)
		if err := l.acquire(ctx); err != nil {
			return err
		}
		err := l.write(ctx, frame{framePart, number, tag, n}, p[:n])
		l.w.token <- struct{}{}
		if p = p[n:]; err != nil || len(p) == 0 {
			return err
		}
	}
}

// number takes a number for an ask.
func (l *link) number(ctx context.Context) (int, error) {
	select {
	case n := <-l.w.numbers:
		return n, nil
	default:
	}
	t := time.NewTimer(l.e.mesh.Timeout())
	defer t.Stop()
	select {
	case n := <-l.w.numbers:
		return n, nil
	case <-l.gone:
		return 0, l.cause
	case <-l.e.closing:
		return 0, comm.ErrClosed
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-t.C:
		return 0, comm.ErrTimeout
	}
}

// undecided is how long a peer may take to decide about an ask that is to be withdrawn, or to copy what it has begun to copy: it is a
// few instructions, or bytes, but on a busy machine it may have lost its core in the middle of them. After that it was stopped there.
const undecided = time.Second

// withdraw takes an ask back and tells whether it has come to its end meanwhile; if not, it returns the error of Send.
func (l *link) withdraw(number int, end uint32, cause error) (ended bool, err error) {
	state := &l.out.asks[number]
	for limit := time.Now().Add(undecided); time.Now().Before(limit) && !l.dead.Load() && cause != comm.ErrClosed; runtime.Gosched() {
		if state.CompareAndSwap(askMade, askWithdrawn) {
			l.e.mu.Lock()
			defer l.e.mu.Unlock()
			l.w.withdrawn = append(l.w.withdrawn, number)
			ring(l.slot)
			return false, cause
		}
		if state.Load() == end {
			return true, nil
		}
		giveWay()
	}
	if state.Swap(askWithdrawn) == askTaken { // else the reader does not believe what it copies
		return true, nil
	}
	if cause == comm.ErrClosed { // which says the same
		return false, cause
	}
	l.Break(cause)
	return false, l.why()
}

// write writes one frame, waiting for room as needed. The caller holds the token. An error that comes amid the frame
// breaks the link, unless this group closes, which says the same.
func (l *link) write(ctx context.Context, f frame, p []byte) error {
	w := &l.w
	size := uint64(len(w.buf))
	left := frameBytes + pad(uint64(len(p))) // of the frame, to be written
	for begun := false; left > 0; l.publish() {
		// A frame of up to a quarter of the ring is written whole, a longer one in pieces of at least that.
		free, err := l.makeRoom(ctx, min(left, size/4))
		if err != nil {
			if err != comm.ErrClosed && (begun || errors.Is(err, errRing)) {
				l.Break(err)
				return l.why()
			}
			return err
		}
		if !begun {
			f.put(w.buf[w.tail&(size-1):])
			w.tail += frameBytes
			left -= frameBytes
			free -= frameBytes
			begun = true
		}
		for free > 0 && left > 0 {
			n := min(free, left, pieceBytes)
			k := min(int(n), len(p))
			c := copy(w.buf[w.tail&(size-1):], p[:k])
			copy(w.buf, p[c:k])
			p = p[k:]
			w.tail += n
			left -= n
			free -= n
			if free > 0 && left > 0 {
				l.publish()
			}
		}
	}
	return nil
}

func (l *link) publish() {
	if raceEnabled {
		l.e.order.Add(1)
	}
	l.out.tail.Store(l.w.tail)
	ring(l.slot)
}

// free returns the room in the ring after a look at the reader's position. The caller holds the token.
func (l *link) free() (uint64, error) {
	w := &l.w
	h := l.out.head.Load()
	if h-w.head > w.tail-w.head {
		return 0, corrupt("a reader at %d, which was at %d and may come to %d", h, w.head, w.tail)
	}
	w.head = h
	return uint64(len(w.buf)) - (w.tail - h), nil
}

// makeRoom waits until need bytes can be written and returns how many can.
func (l *link) makeRoom(ctx context.Context, need uint64) (free uint64, err error) {
	w := &l.w
	size := uint64(len(w.buf))
	if l.dead.Load() {
		return 0, l.why()
	}
	if free = size - (w.tail - w.head); free >= need {
		return free, nil
	}
	if free, err = l.free(); err != nil || free >= need {
		return free, err
	}
	l.e.drive(func() bool {
		free, err = l.free()
		return err != nil || free >= need || l.dead.Load()
	})
	if err != nil || free >= need {
		return free, err
	}
	head := w.tail + max(need, size/2) - size // it is worth sleeping until half the ring is free
	l.out.want.Store(head)
	err = l.sleep(ctx, func() bool { return int64(l.out.head.Load()-head) >= 0 })
	l.out.want.Store(0)
	if err != nil {
		return 0, err
	}
	return l.free()
}
