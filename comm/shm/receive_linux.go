package shm

import (
	"encoding/binary"
	"fmt"

	"github.com/covey-ml/covey/comm"
)

// reader is the reading side of a link.
type reader struct {
	buf   []byte
	head  uint64
	heard uint32 // what of in.said was dealt with
	taken uint64 // cost of the messages that came without leave and that the mesh took

	// The frame that is half read.
	amid bool
	f    frame
	p    []byte           // where its payload goes; nil for nowhere
	got  int              // how much of the payload was read
	msg  *comm.Message    // for a frameMessage that the mesh takes
	at   [thereBytes]byte // of a frameThere

	incoming [maxAsks]*incoming // messages that got leave, by number

	held  []held
	tags  map[comm.Tag]int // how many are held, by tag
	bytes uint64           // cost of those that are here
	skip  map[comm.Tag]bool
	// stall, when not nil, is closed when the mesh may take more; watched is the last for which somebody waits.
	stall, watched <-chan struct{}
}

// incoming is a message that comes in parts, or is being copied.
type incoming struct {
	msg *comm.Message
	p   []byte // nil when nobody wants it any more
	n   int
	got int
}

// held is a message that waits until the mesh takes it: its bytes, or an ask for leave.
type held struct {
	tag    comm.Tag
	n      int
	number int    // of the ask, -1 when the message is here
	p      []byte // the message; of an ask, where it lies in the peer's arena, or nil
}

func (r *reader) init(buf []byte) {
	r.buf, r.tags, r.skip = buf, map[comm.Tag]int{}, map[comm.Tag]bool{}
}

// read takes what the ring holds up to tail. The engine's mu is held.
func (l *link) read(tail uint64) error {
	if raceEnabled {
		l.e.order.Load()
	}
	r := &l.r
	size := uint64(len(r.buf))
	if n := tail - r.head; n > size {
		return corrupt("positions %d and %d in a ring of %d bytes", r.head, tail, size)
	}
	for r.head != tail {
		if !r.amid {
			if tail-r.head < frameBytes {
				return corrupt("%d bytes where a frame should begin", tail-r.head)
			}
			f, err := parseFrame(r.buf[r.head&(size-1):])
			if err == nil {
				err = l.begin(f)
			}
			if err != nil {
				return corrupt("%v", err)
			}
			r.head += frameBytes
		}
		k := int(min(tail-r.head, uint64(r.f.payload()-r.got), pieceBytes))
		if r.p != nil {
			c := copy(r.p[r.got:r.got+k], r.buf[r.head&(size-1):])
			copy(r.p[r.got+c:r.got+k], r.buf)
		}
		r.got += k
		r.head += uint64(k)
		if r.got == r.f.payload() {
			end := pad(r.head)
			if end-r.head > tail-r.head {
				return corrupt("a frame that ends at %d in a ring written to %d", end, tail)
			}
			r.head = end
			if err := l.end(); err != nil {
				return err
			}
		}
		l.in.head.Store(r.head)
		if w := l.in.want.Load(); w != 0 && int64(r.head-w) >= 0 {
			ring(l.slot)
		}
	}
	if r.amid {
		l.progress()
	}
	return nil
}

// begin finds the place for a frame's payload.
func (l *link) begin(f frame) error {
	r := &l.r
	r.f, r.p, r.got, r.msg = f, nil, 0, nil
	switch f.kind {
	case frameMessage:
		if r.tags[f.tag] == 0 {
			if p, msg, ok := l.e.mesh.Begin(l.peer, f.tag, f.n); ok {
				r.p, r.msg = p, msg
				break
			}
		}
		if r.bytes+cost(f.n) > comm.EagerBytes {
			return corrupt("a message of %d bytes without leave, beyond %d that wait", f.n, r.bytes)
		}
		r.p = make([]byte, f.n)
	case frameAsk, frameThere:
		busy := r.incoming[f.number] != nil
		for _, h := range r.held {
			busy = busy || h.number == f.number
		}
		if busy {
			return corrupt("ask %d made twice", f.number)
		}
		if f.kind == frameThere {
			r.p = r.at[:]
		}
	case framePart:
		in := r.incoming[f.number]
		if in == nil || f.n > in.n-in.got {
			return corrupt("%d bytes for ask %d, which expects fewer", f.n, f.number)
		}
		if in.p != nil {
			r.p = in.p[in.got : in.got+f.n]
		}
	}
	r.amid = true
	return nil
}

// end does what the frame, which is whole, is for.
func (l *link) end() error {
	r := &l.r
	r.amid = false
	switch r.f.kind {
	case frameMessage:
		if r.msg != nil {
			l.e.mesh.End(r.msg)
			r.msg = nil
			l.take(r.f.n)
		} else {
			r.bytes += cost(r.f.n)
			l.hold(held{r.f.tag, r.f.n, -1, r.p})
		}
	case frameAsk:
		l.hold(held{r.f.tag, r.f.n, r.f.number, nil})
	case frameThere:
		at := binary.LittleEndian.Uint64(r.at[:])
		p := l.e.shared.at(l.peer, at, r.f.n)
		if p == nil {
			return corrupt("%d bytes at %d of an arena of %d", r.f.n, at, l.e.Arena)
		}
		l.hold(held{r.f.tag, r.f.n, r.f.number, p})
	case framePart:
		in := r.incoming[r.f.number]
		in.got += r.f.n
		l.more(r.f.number)
	}
	r.p = nil
	return nil
}

// more tells the mesh that more of a message has come.
func (l *link) more(number int) {
	in := l.r.incoming[number]
	if in.got == in.n {
		l.r.incoming[number] = nil
		l.e.mesh.End(in.msg)
	} else {
		l.e.mesh.Progress(in.msg, in.got)
	}
}

// fetch copies a message from where it lies in the peer's arena. The mesh hears of each part, so that nobody's patience ends meanwhile.
func (l *link) fetch(number int, p []byte) error {
	in := l.r.incoming[number]
	for in.p != nil && in.n-in.got > partBytes {
		in.got += copy(in.p[in.got:in.got+partBytes], p[in.got:])
		l.more(number)
	}
	if in.p != nil {
		copy(in.p[in.got:], p[in.got:])
	}
	if !l.in.asks[number].CompareAndSwap(askGranted, askTaken) {
		return fmt.Errorf("%w: the peer cut the link", comm.ErrLost)
	}
	ring(l.slot)
	in.got = in.n
	l.more(number)
	return nil
}

// progress tells the mesh about a frame that is half here.
func (l *link) progress() {
	r := &l.r
	if r.msg != nil {
		l.e.mesh.Progress(r.msg, r.got)
	} else if in := r.incoming[r.f.number]; r.f.kind == framePart {
		l.e.mesh.Progress(in.msg, in.got+r.got)
	}
}

func (l *link) take(n int) {
	l.r.taken += cost(n)
	l.in.taken.Store(l.r.taken)
}

func (l *link) hold(h held) {
	r := &l.r
	r.held = append(r.held, h)
	r.tags[h.tag]++
	r.stall = nil // offer it
}

// offer offers the mesh what is held, in order, and tells whether that changed anything. The engine's mu is held.
func (l *link) offer() (bool, error) {
	r, busy := &l.r, false
	if r.stall != nil {
		select {
		case <-r.stall:
			r.stall = nil
		default:
		}
	}
	var room <-chan struct{} // as it was when the first was refused
	kept := r.held[:0]
	for i, h := range r.held {
		switch {
		case h.number >= 0 && l.in.asks[h.number].CompareAndSwap(askWithdrawn, askFree):
			ring(l.slot)
		case r.stall != nil || r.skip[h.tag]:
			kept = append(kept, h)
			continue
		default:
			ok, err := l.accept(h)
			if err != nil {
				r.held = append(kept, r.held[i+1:]...)
				return true, err
			}
			if ok {
				break
			}
			r.skip[h.tag] = true
			if room == nil {
				room = l.e.mesh.Room(l.peer)
			}
			kept = append(kept, h)
			continue
		}
		busy = true
		if r.tags[h.tag]--; r.tags[h.tag] == 0 {
			delete(r.tags, h.tag)
		}
	}
	clear(r.held[len(kept):])
	r.held = kept
	clear(r.skip)
	if room != nil {
		l.stall(room)
	}
	return busy, nil
}

// stall keeps the mesh from being offered more until room is closed, and has a pass made then.
func (l *link) stall(room <-chan struct{}) {
	l.r.stall = room
	if l.r.watched == room {
		return
	}
	l.r.watched = room
	go func() {
		select {
		case <-room:
			l.e.nudge()
		case <-l.e.closing:
		}
	}()
}

// accept tells whether the mesh takes h now, and if so gives it the message or the writer leave. An error loses the link.
func (l *link) accept(h held) (bool, error) {
	m := l.e.mesh
	if h.number < 0 {
		p, msg, ok := m.Begin(l.peer, h.tag, h.n)
		if ok {
			copy(p, h.p)
			m.End(msg)
			l.r.bytes -= cost(h.n)
			l.take(h.n)
		}
		return ok, nil
	}
	state := &l.in.asks[h.number]
	if !state.CompareAndSwap(askMade, askHeld) {
		return false, nil // withdrawn just now
	}
	p, msg, ok := m.Begin(l.peer, h.tag, h.n)
	if !ok {
		state.CompareAndSwap(askHeld, askMade)
		return false, nil
	}
	l.r.incoming[h.number] = &incoming{msg: msg, p: p, n: h.n}
	state.CompareAndSwap(askHeld, askGranted) // else the writer cuts the link
	if h.p != nil {
		return true, l.fetch(h.number, h.p)
	}
	ring(l.slot)
	return true, nil
}

// settle ends what is half here and gives the mesh what is whole; the link is dead. The engine's mu is held.
func (l *link) settle(cause error) {
	r := &l.r
	if r.msg != nil {
		l.e.mesh.Fail(r.msg, r.f.n-r.got, cause)
		r.msg = nil
	}
	for i, in := range r.incoming {
		if in == nil {
			continue
		}
		got := in.got
		if r.amid && r.f.kind == framePart && r.f.number == i {
			got += r.got
		}
		l.e.mesh.Fail(in.msg, in.n-got, cause)
	}
	for _, h := range r.held {
		if h.number < 0 {
			l.e.mesh.Keep(l.peer, h.tag, h.p)
		}
	}
	*r = reader{}
}
