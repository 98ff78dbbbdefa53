package tcp

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/covey-ml/covey/comm"
)

const (
	// linger is how long Close waits for a peer to take the goodbye, so that what was sent before is not lost.
	linger = time.Second
	// aftermath is how long a Send whose write failed waits for the reader to find out why.
	aftermath = 200 * time.Millisecond
)

// errCut says that a Send was cut before its next write began.
var errCut = errors.New("cut")

// past is a deadline that has gone by.
var past = time.Unix(1, 0)

// link is the connection to one peer. It implements comm.Link.
type link struct {
	*socket
	mesh       *comm.Mesh
	peer       comm.Rank
	generation uint64
	wg         *sync.WaitGroup // the group's goroutines

	engine *engine // reads the socket, if that is raw
	in     intake
	broken chan struct{} // closed when cause is set
	read   chan struct{} // closed when the reader has ended
	writer chan struct{} // holds a token while somebody writes; it guards what follows up to mu, too
	head   [HeaderBytes]byte
	rest   remainder
	// The context that would cut a Send is watched from one Send to the next, for as long as it is the same one.
	watched <-chan struct{}
	unwatch func() bool
	// Of a raw socket, nobody but the writer itself sees that it must stop.
	until time.Time
	ctx   context.Context // nil when nothing but until bounds the write
	full  time.Time       // since when nothing went; zero while something does
	adieu bool            // the write is the farewell, which Close does not cut

	// For the engine: the socket is not to be looked at, because its next message has no room, it has ended, or Close was
	// called.
	paused, deaf, parting atomic.Bool
	leaving               chan struct{} // closed by Close

	mu       sync.Mutex
	cause    error           // why the link is gone; nil while it is whole
	closing  bool            // Close was called
	sending  <-chan struct{} // the Done channel of the Send under way
	busy     bool            // a Send is under way
	ended    bool            // its context has ended
	abort    []byte          // an abort that waits to be written, nil when there is none
	aborted  bool
	said     int64 // bytes of control frames written
	draining bool  // the reader only waits for the peer's end
}

func newLink(s *socket, m *comm.Mesh, peer comm.Rank, generation uint64, wg *sync.WaitGroup) *link {
	// All that was sent so far was the handshake.
	l := &link{socket: s, mesh: m, peer: peer, generation: generation, wg: wg, broken: make(chan struct{}),
		read: make(chan struct{}), leaving: make(chan struct{}), writer: make(chan struct{}, 1), said: s.sent.Load()}
	return l
}

// Send implements comm.Link.
func (l *link) Send(ctx context.Context, tag comm.Tag, p []byte) error {
	if int64(len(p)) > maxMessage {
		return fmt.Errorf("tcp: a message of %d bytes; the most is %d", len(p), int64(maxMessage))
	}
	deadline, err := l.acquire(ctx)
	if err != nil {
		return err
	}
	defer l.release()
	if err := l.begin(ctx); err != nil {
		return err
	}
	n, err := l.message(tag, p, deadline)
	return l.finish(ctx, n, err)
}

// acquire takes the writer's token, waiting no longer than the group's timeout, and returns when a Send that begins
// now must have made progress.
func (l *link) acquire(ctx context.Context) (time.Time, error) {
	deadline := time.Now().Add(l.mesh.Timeout())
	select {
	case l.writer <- struct{}{}:
		return deadline, nil
	default:
	}
	timer := time.NewTimer(l.mesh.Timeout())
	defer timer.Stop()
	select {
	case l.writer <- struct{}{}:
		return deadline, nil
	case <-l.broken:
		return deadline, l.why()
	case <-ctx.Done():
		return deadline, context.Cause(ctx)
	case <-timer.C:
		return deadline, comm.ErrTimeout
	}
}

func (l *link) release() {
	l.ctx = nil
	<-l.writer
}

// begin makes this the Send under way: from here on ctx, Break and Close cut it.
func (l *link) begin(ctx context.Context) error {
	done := ctx.Done()
	if l.raw != nil {
		l.ctx, l.full = ctx, time.Time{}
	} else if done != nil && done != l.watched {
		if l.unwatch != nil {
			l.unwatch()
		}
		l.watched, l.unwatch = done, context.AfterFunc(ctx, func() { l.contextEnded(done) })
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.cause != nil:
		return l.cause
	case l.closing:
		return comm.ErrClosed
	case ctx.Err() != nil: // it may have ended before sending was set
		return context.Cause(ctx)
	}
	l.sending, l.busy, l.ended = done, true, false
	return nil
}

// contextEnded cuts the Send under way if it is that context's.
func (l *link) contextEnded(done <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy && l.sending == done {
		l.ended = true
		l.tcp.SetWriteDeadline(past)
	}
}

// message writes a message's frames and returns how many bytes went. Each frame has the group's timeout.
func (l *link) message(tag comm.Tag, p []byte, deadline time.Time) (n int, err error) {
	h := header{kind: kindData, generation: l.generation, from: l.mesh.Rank(), tag: tag}
	for {
		h.length = min(len(p), FrameBytes)
		h.rest = int64(len(p) - h.length)
		h.sum = update(0, p[:h.length], &l.rest)
		h.put(&l.head)
		if err := l.arm(deadline); err != nil {
			return n, err
		}
		k, err := l.write(l.head[:], p[:h.length])
		n += k
		if err != nil {
			return n, err
		}
		if h.rest == 0 {
			return n, l.writeAbort()
		}
		if err := l.writeAbort(); err != nil {
			return n, err
		}
		p, h.kind, deadline = p[h.length:], kindMore, time.Now().Add(l.mesh.Timeout())
	}
}

// arm sets the deadline of the next write, unless the Send was cut.
func (l *link) arm(deadline time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || l.closing {
		return errCut
	}
	return l.expire(deadline)
}

// expire sets the deadline of the next write.
func (l *link) expire(deadline time.Time) error {
	if l.raw != nil {
		l.until = deadline
		return nil
	}
	return l.tcp.SetWriteDeadline(deadline)
}

// stuck is what the writer of a raw socket does when that is full: it says why to give up, or waits a little.
func (l *link) stuck() error {
	l.mu.Lock()
	if l.ctx != nil && l.ctx.Err() != nil {
		l.ended = true
	}
	cause, cut := l.cause, l.ended || l.closing && !l.adieu
	l.mu.Unlock()
	switch {
	case cause != nil:
		return cause
	case cut:
		return errCut
	case time.Now().After(l.until):
		return os.ErrDeadlineExceeded
	}
	l.engine.writable(l)
	return nil
}

// finish ends the Send under way. A write that failed says only that it did; why, others know.
func (l *link) finish(ctx context.Context, n int, err error) error {
	l.mu.Lock()
	ended, closing, cause := l.ended, l.closing, l.cause
	l.busy, l.sending, l.ended = false, nil, false
	l.mu.Unlock()
	if err == nil {
		return nil
	}
	whole := n == 0 && (err == errCut || l.tls == nil) // TLS forgets what it had begun to write
	switch {
	case cause != nil:
		return cause
	case closing:
		err = comm.ErrClosed
	case ended:
		err = context.Cause(ctx)
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = comm.ErrTimeout
	default: // the reader may hold a goodbye or an abort that came before the connection went
		timer := time.NewTimer(aftermath)
		defer timer.Stop()
		select {
		case <-l.read:
		case <-timer.C:
		}
		return l.fail(fmt.Errorf("%w: %w", comm.ErrLost, err))
	}
	if !whole {
		return l.fail(comm.CutOff(err))
	}
	return err
}

// fail makes cause the reason that the link is gone, unless it has one, closes the connection and returns the reason.
func (l *link) fail(cause error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause == nil {
		l.cause = cause
		close(l.broken)
		if l.raw != nil {
			l.raw.end()
		} else {
			l.tcp.Close()
		}
	}
	return l.cause
}

func (l *link) why() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cause
}

// Break implements comm.Link.
func (l *link) Break(cause error) { l.fail(comm.CutOff(cause)) }

// Abort implements comm.Link. Only the first counts: a group has one error.
func (l *link) Abort(e *comm.PeerError) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.aborted || l.closing || l.cause != nil {
		return
	}
	l.aborted, l.abort = true, comm.AppendPeerError(nil, e)
	l.wg.Go(func() {
		deadline, err := l.acquire(context.Background())
		if err != nil {
			return
		}
		defer l.release()
		if l.arm(deadline) == nil {
			if err := l.writeAbort(); err != nil {
				l.fail(fmt.Errorf("%w: %w", comm.ErrLost, err))
			}
		}
	})
}

// writeAbort writes the abort that waits, if one does. The caller holds the writer's token and stands between frames.
func (l *link) writeAbort() error {
	l.mu.Lock()
	p := l.abort
	l.abort = nil
	l.mu.Unlock()
	if p == nil {
		return nil
	}
	return l.say(kindAbort, p)
}

// say writes a control frame and books it.
func (l *link) say(k kind, p []byte) error {
	n, err := l.control(k, l.generation, l.mesh.Rank(), p)
	l.mu.Lock()
	l.said += int64(n)
	l.mu.Unlock()
	return err
}

// Close implements comm.Link. It starts the farewell and returns; the group waits for all of them together.
func (l *link) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		return nil
	}
	l.closing = true
	l.parting.Store(true)
	close(l.leaving)
	if l.raw == nil {
		if l.busy {
			l.tcp.SetWriteDeadline(past)
		} else {
			l.tcp.SetWriteDeadline(time.Now().Add(linger))
		}
		if !l.draining {
			l.tcp.SetReadDeadline(past)
		}
	}
	l.wg.Go(l.farewell)
	return nil
}

// farewell says goodbye when the stream is whole, and waits, within linger, until the peer has taken everything: closing
// a connection with unread bytes would reset it and could take what was sent with it.
func (l *link) farewell() {
	over := time.Now().Add(linger)
	timer := time.NewTimer(linger)
	defer timer.Stop()
	select {
	case l.writer <- struct{}{}:
		if l.why() == nil {
			l.adieu = true
			l.expire(over)
			if l.writeAbort() == nil && l.say(kindGoodbye, nil) == nil {
				if l.raw != nil {
					l.raw.endWriting()
				} else {
					l.tcp.CloseWrite()
				}
			}
		}
		if l.unwatch != nil {
			l.unwatch()
		}
		l.release()
	case <-timer.C:
	}
	if l.raw != nil {
		l.engine.drain(l, over)
		l.raw.end()
		return
	}
	select {
	case <-l.read:
	case <-timer.C:
	}
	l.tcp.Close()
}
