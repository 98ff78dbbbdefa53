package tcp

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/covey-ml/covey/comm"
)

// receive is the reader: it brings what the peer sends to the mesh until the link ends, and then says so.
func (l *link) receive() {
	defer close(l.read)
	err := l.deliver()
	l.mu.Lock()
	l.draining = (l.closing || l.mesh.Closed()) && l.cause == nil
	closing := l.draining
	if closing {
		l.tcp.SetReadDeadline(time.Now().Add(linger))
	}
	l.mu.Unlock()
	if closing { // the mesh is closed; take what is still coming until the peer has our goodbye
		io.Copy(io.Discard, struct{ io.Reader }{l.tcp})
		return
	}
	l.mesh.Lose(l.peer, l.fail(lost(err)))
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

// deliver reads frames until one is not right or the connection ends.
func (l *link) deliver() error {
	var b [HeaderBytes]byte
	var h header
	for {
		if err := l.frame(&b, &h); err != nil {
			return err
		}
		if h.kind != kindData {
			if err := l.heed(&h); err != nil {
				return err
			}
			continue
		}
		if err := l.accept(&b, &h, h.length+int(h.rest)); err != nil {
			return err
		}
	}
}

// accept brings a message of n bytes, whose first header is h, to the mesh.
func (l *link) accept(b *[HeaderBytes]byte, h *header, n int) error {
	p, msg, err := l.admit(h.tag, n)
	if err != nil {
		return err
	}
	if left, err := l.fill(b, h, p, n, msg); err != nil {
		cause := l.why()
		if cause == nil {
			cause = lost(err)
		}
		l.mesh.Fail(msg, left, cause)
		return err
	}
	l.mesh.End(msg)
	return nil
}

// frame reads a header and holds it to this link.
func (l *link) frame(b *[HeaderBytes]byte, h *header) error {
	if err := l.next(b, h); err != nil {
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
	}
	return nil
}

// heed does what a control frame says.
func (l *link) heed(h *header) error {
	switch h.kind {
	case kindAbort:
		p := make([]byte, h.length)
		if _, err := io.ReadFull(l.in, p); err != nil {
			return err
		}
		if sum := crc32.Checksum(p, castagnoli); sum != h.sum {
			return &FrameError{"payload checksum", uint64(h.sum), uint64(sum)}
		}
		e, err := comm.ParsePeerError(p)
		if err != nil {
			return err
		}
		l.mesh.Aborted(e)
		return nil
	case kindGoodbye:
		return comm.ErrLeft
	}
	return &FrameError{"kind of a frame that continues nothing", uint64(h.kind), uint64(kindData)}
}

// admit returns where a message of n bytes goes, waiting for room as long as the link lives: what waits with it are
// the peer's later messages, and its Send, which has a deadline of its own.
func (l *link) admit(tag comm.Tag, n int) ([]byte, *comm.Message, error) {
	for {
		if p, msg, ok := l.mesh.Begin(l.peer, tag, n); ok {
			return p, msg, nil
		}
		select {
		case <-l.mesh.Room(l.peer):
		case <-l.broken:
			return nil, nil, l.why()
		}
	}
}

// fill reads a message's n bytes into p, over as many frames as it has, and returns how many did not come. A nil p is
// a message to throw away.
func (l *link) fill(b *[HeaderBytes]byte, h *header, p []byte, n int, msg *comm.Message) (left int, err error) {
	for left = n; ; {
		to := p
		if p != nil {
			to = p[n-left:]
		}
		sum, short, err := l.pour(to, h.length)
		if err != nil {
			return left - h.length + short, err
		}
		if sum != h.sum {
			return left, &FrameError{"payload checksum", uint64(h.sum), uint64(sum)}
		}
		left -= h.length
		if h.rest == 0 {
			return 0, nil
		}
		l.mesh.Progress(msg, n-left)
		tag, rest := h.tag, h.rest
		if err := l.more(b, h); err != nil {
			return left, err
		}
		if h.tag != tag {
			return left, &FrameError{"tag in the middle of a message", uint64(h.tag), uint64(tag)}
		}
		if h.rest+int64(h.length) != rest {
			return left, &FrameError{"rest of the message", uint64(h.rest) + uint64(h.length), uint64(rest)}
		}
	}
}

// more reads the header of the next frame of a message, and heeds the abort that may come before it.
func (l *link) more(b *[HeaderBytes]byte, h *header) error {
	for {
		if err := l.frame(b, h); err != nil {
			return err
		}
		switch h.kind {
		case kindMore:
			return nil
		case kindAbort:
			if err := l.heed(h); err != nil {
				return err
			}
		default:
			return &FrameError{"kind in the middle of a message", uint64(h.kind), uint64(kindMore)}
		}
	}
}

// pour reads n bytes into p, or away when p is nil, and returns their checksum, taken while they are still in the
// cache, and how many did not come.
func (l *link) pour(p []byte, n int) (sum uint32, short int, err error) {
	for n > 0 {
		q := p
		if q == nil {
			if l.waste == nil {
				l.waste = make([]byte, 32<<10)
			}
			q = l.waste
		}
		k, err := l.in.Read(q[:min(n, len(q))])
		sum = crc32.Update(sum, castagnoli, q[:k])
		if n -= k; err != nil && n > 0 {
			return sum, n, err
		}
		if p != nil {
			p = p[k:]
		}
	}
	return sum, 0, nil
}
