package tcp

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"time"

	"github.com/covey-ml/covey/comm"
)

// errAgain says that nothing more has come so far; errFull that a message has, for which there is no room until
// somebody asks.
var (
	errAgain = errors.New("nothing has come")
	errFull  = errors.New("no room for an unasked message")
)

// intake is the reading side of a link: how far the frame and the message that are coming in have come. mu guards it,
// and the link's reading.
type intake struct {
	mu    sync.Mutex
	state place
	head  header        // of the frame
	msg   *comm.Message // nil between messages
	p     []byte        // where the rest of the message goes; nil to throw it away
	size  int           // bytes of the message
	left  int           // of these have not come
	due   int           // bytes of the frame that have not come
	sum   uint32        // of what came of the frame
	rest  remainder     // of sum
	waste []byte        // where what nobody wants goes
	moved bool          // something came since somebody last looked
	over  bool          // the link has ended, and the mesh knows

	awaited bool // a goroutine waits for room
	leader  bool // who reads is the engine's leader, who stops for nobody
}

// place is where in the stream the reader stands.
type place uint8

const (
	atHeader  place = iota // before a frame
	atRoom                 // before a message that has no room yet
	atPayload              // in a frame
)

// receive is the reader of a link that blocks in its connection: it brings what the peer sends to the mesh until the
// link ends, and then says so.
func (l *link) receive() {
	l.in.mu.Lock()
	defer l.in.mu.Unlock()
	for {
		err := l.pump()
		if err != errFull {
			l.end(err)
			break
		}
		select {
		case <-l.mesh.Room(l.peer):
		case <-l.broken:
		}
	}
	l.mu.Lock()
	closing := l.draining
	l.mu.Unlock()
	if closing { // the mesh is closed; take what is still coming until the peer has our goodbye
		io.Copy(io.Discard, struct{ io.Reader }{l.tcp})
	}
	close(l.read)
}

// end tells the mesh why nothing more will come. in.mu is held.
func (l *link) end(err error) {
	in := &l.in
	if in.msg != nil {
		cause := l.why()
		if cause == nil {
			cause = lost(err)
		}
		l.mesh.Fail(in.msg, in.left, cause)
		in.msg, in.p = nil, nil
	}
	in.over = true
	l.mu.Lock()
	l.draining = (l.closing || l.mesh.Closed()) && l.cause == nil
	closing := l.draining
	if closing && l.raw == nil {
		l.tcp.SetReadDeadline(time.Now().Add(linger))
	}
	l.mu.Unlock()
	if !closing {
		l.mesh.Lose(l.peer, l.fail(lost(err)))
	}
}

// lost words the end of a stream as a reason that the peer is gone.
func lost(err error) error {
	switch {
	case errors.Is(err, comm.ErrLost):
		return err
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		return fmt.Errorf("%w: the peer's end closed without a goodbye", comm.ErrLost)
	}
	return fmt.Errorf("%w: %w", comm.ErrLost, err)
}

// pump brings to the mesh what has come, and returns errAgain when there is no more (where reading does not block),
// errFull when the next message must wait for room, and else why there will be no more. in.mu is held.
func (l *link) pump() error {
	in := &l.in
	for {
		if err := l.cut(); err != nil {
			return err
		}
		if l.raw != nil && !in.leader && l.engine.led() {
			return errAgain
		}
		var err error
		switch in.state {
		case atHeader:
			err = l.frame()
		case atRoom:
			p, msg, ok := l.mesh.Begin(l.peer, in.head.tag, in.size)
			if !ok {
				return errFull
			}
			in.p, in.msg, in.state = p, msg, atPayload
		case atPayload:
			err = l.pour()
		}
		if err != nil {
			return err
		}
	}
}

// cut returns why the link was cut, if it was.
func (l *link) cut() error {
	select {
	case <-l.broken:
		return l.why()
	default:
		return nil
	}
}

// frame reads a header, holds it to this link and to what came before, and heeds what is not payload.
func (l *link) frame() error {
	in := &l.in
	b, err := l.buf.Peek(HeaderBytes)
	if err != nil {
		return err
	}
	var h header
	if err := h.parse((*[HeaderBytes]byte)(b)); err != nil {
		return err
	}
	switch {
	case h.generation != l.generation:
		return &FrameError{"generation", h.generation, l.generation}
	case h.from != l.peer:
		return &FrameError{"sender's rank", uint64(h.from), uint64(l.peer)}
	case h.kind == kindHello:
		return &FrameError{"kind", uint64(h.kind), uint64(kindData)}
	case h.kind == kindAbort && h.length > comm.PeerErrorSize:
		return &FrameError{"length of an abort", uint64(h.length), comm.PeerErrorSize}
	case h.kind == kindGoodbye && h.length != 0:
		return &FrameError{"length of a goodbye", uint64(h.length), 0}
	case h.kind == kindAbort:
		return l.heed(&h)
	}
	if in.msg != nil {
		switch {
		case h.kind != kindMore:
			return &FrameError{"kind in the middle of a message", uint64(h.kind), uint64(kindMore)}
		case h.tag != in.head.tag:
			return &FrameError{"tag in the middle of a message", uint64(h.tag), uint64(in.head.tag)}
		case h.rest+int64(h.length) != in.head.rest:
			return &FrameError{"rest of the message", uint64(h.rest) + uint64(h.length), uint64(in.head.rest)}
		}
		in.state = atPayload
	} else {
		switch h.kind {
		case kindGoodbye:
			return comm.ErrLeft
		case kindMore:
			return &FrameError{"kind of a frame that continues nothing", uint64(h.kind), uint64(kindData)}
		}
		in.size = h.length + int(h.rest)
		in.left, in.state = in.size, atRoom
	}
	l.buf.Discard(HeaderBytes)
	in.head, in.due, in.sum, in.moved = h, h.length, 0, true
	return nil
}

// heed does what an abort says, once all of it is here.
func (l *link) heed(h *header) error {
	p, err := l.buf.Peek(HeaderBytes + h.length)
	if err != nil {
		return err
	}
	p = p[HeaderBytes:]
	if sum := crc32.Checksum(p, castagnoli); sum != h.sum {
		return &FrameError{"payload checksum", uint64(h.sum), uint64(sum)}
	}
	e, err := comm.ParsePeerError(p)
	if err != nil {
		return err
	}
	l.buf.Discard(HeaderBytes + h.length)
	l.mesh.Aborted(e)
	return nil
}

// pour reads what has come of a frame's payload to where the message goes, and takes its checksum while it is still in
// the cache.
func (l *link) pour() error {
	in := &l.in
	for in.due > 0 {
		q := in.p
		if q == nil {
			if in.waste == nil {
				in.waste = make([]byte, 32<<10)
			}
			q = in.waste
		}
		k, err := l.buf.Read(q[:min(in.due, len(q))])
		if k > 0 {
			in.sum = update(in.sum, q[:k], &in.rest)
			in.due, in.left, in.moved = in.due-k, in.left-k, true
			if in.p != nil {
				in.p = in.p[k:]
			}
		}
		if err != nil && in.due > 0 {
			return err
		}
	}
	if in.sum != in.head.sum {
		in.left += in.head.length // none of it is believed
		return &FrameError{"payload checksum", uint64(in.head.sum), uint64(in.sum)}
	}
	in.state = atHeader
	if in.head.rest > 0 {
		l.mesh.Progress(in.msg, in.size-in.left)
		return nil
	}
	msg := in.msg
	in.msg, in.p = nil, nil
	l.mesh.End(msg)
	return nil
}
