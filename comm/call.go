package comm

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"sync"

	"github.com/covey-ml/covey/vec"
)

// call is one collective under way on one rank. All collectives have the same shape: ask for everything that will
// come, send, wait; and one way to fail: poison the group, so that everybody else fails with the same reason, and let
// go of every buffer before returning.
type call struct {
	ctx     context.Context
	g       Group
	poster  Poster // nil when g takes no posts
	clock   Clock
	hollow  bool   // nothing is computed
	board   *Board // not nil once the call has taken it
	op      Op
	rank    Rank
	size    int
	waits   []wait
	touched bool // a message of this call was sent or taken
	room    *room
	bytes   []byte
}

// room is scratch of a call.
type room struct {
	floats []float32
	class  int // bits of the length that it was first asked for
}

// rooms are the free ones by class: where many ranks share a process, one that needs little does not sit on the memory of
// one that needs much.
var rooms [bits.UintSize + 1]sync.Pool

// wait is a receive that was asked for.
type wait struct {
	rec  Receipt // nil once it has ended
	from Rank
	want int
	upTo bool // want is the most that may come
	got  int  // bytes that came
}

var calls = sync.Pool{New: func() any { return &call{} }}

// enter begins a collective; b is the board that it goes by, or nil.
func enter(ctx context.Context, g Group, op Op, b *Board) (*call, error) {
	if p, ok := g.(Poisoner); ok {
		if e := p.Poisoned(); e != nil {
			return nil, e
		}
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("comm: %v: %w", op, context.Cause(ctx))
	}
	if b != nil {
		if err := b.take(op); err != nil {
			return nil, err
		}
	}
	c := calls.Get().(*call)
	c.board = b
	c.ctx, c.g, c.op, c.rank, c.size, c.touched = ctx, g, op, g.Rank(), g.Size(), false
	c.poster, _ = g.(Poster)
	c.clock, c.hollow = g.Clock(), IsHollow(g)
	return c, nil
}

// announce tells the group's ledger what this rank is going to send, or, on a board, to read and write.
func (c *call) announce(bill Bill) {
	if c.board == nil {
		Announce(c.g, c.op, bill)
	} else if k, ok := c.g.(booker); ok {
		k.book(c.op, Entry{ExpectedMessages: bill.Messages(), Expected: bill.Payload()})
	}
}

// leave ends a collective: it returns nil, or the error that the group now has.
func (c *call) leave(err error) error {
	if b := c.board; b != nil {
		failed := err != nil && c.touched
		if failed {
			b.giveUp()
		}
		if err != nil {
			err = c.fail(err)
		}
		if failed {
			b.settle()
		}
		b.release(c.g, c.op)
	} else if err != nil {
		err = c.fail(err)
	}
	if c.room != nil {
		rooms[c.room.class].Put(c.room)
		c.room = nil
	}
	c.ctx, c.g, c.poster, c.clock, c.board = nil, nil, nil, nil, nil
	clear(c.waits)
	c.waits = c.waits[:0]
	calls.Put(c)
	return err
}

// scratch returns n floats that belong to the call until it leaves. It is asked once a call, and bytes too.
func (c *call) scratch(n int) []float32 {
	if c.hollow {
		return sharedFloats(n)
	}
	if n == 0 {
		return nil
	}
	class := bits.Len(uint(n))
	if c.room, _ = rooms[class].Get().(*room); c.room == nil {
		c.room = &room{class: class}
	}
	c.room.floats = vec.Resized(c.room.floats, n)
	return c.room.floats
}

func (c *call) scratchBytes(n int) []byte {
	if cap(c.bytes) < n {
		c.bytes = make([]byte, n)
	}
	return c.bytes[:n]
}

// post asks for a message that will fill p and returns the number to wait for it by. Within one call, n tells the
// messages of one sender apart.
func (c *call) post(from Rank, n uint32, p []byte) int {
	var r Receipt
	if c.poster != nil {
		r = c.poster.Post(from, MakeTag(c.op, n), p)
	} else {
		r = Post(c.g, from, MakeTag(c.op, n), p)
	}
	c.waits = append(c.waits, wait{rec: r, from: from, want: len(p)})
	return len(c.waits) - 1
}

func (c *call) send(to Rank, n uint32, p []byte) error {
	err := c.g.Send(c.ctx, to, MakeTag(c.op, n), p)
	if err == nil {
		c.touched = true
	}
	return err
}

// wait waits for a receive; for one that has ended it returns at once.
func (c *call) wait(i int) error {
	w := &c.waits[i]
	if w.rec == nil {
		return nil
	}
	_, n, err := w.rec.Wait(c.ctx)
	w.rec = nil
	if err != nil {
		var se *SizeError
		if !errors.As(err, &se) {
			return err
		}
		n = se.Need
	}
	c.touched, w.got = true, n
	switch {
	case n == w.want, w.upTo && n < w.want:
		return nil
	case w.upTo:
		err = fmt.Errorf("it sent %d bytes where at most %d belong", n, w.want)
	default:
		err = fmt.Errorf("it sent %d bytes where %d belong: the ranks disagree about the lengths", n, w.want)
	}
	return &PeerError{Rank: outermost(c.g, w.from), Op: c.op, Step: -1, Cause: err}
}

// all waits for the receives from number i on.
func (c *call) all(i int) error {
	for ; i < len(c.waits); i++ {
		if err := c.wait(i); err != nil {
			return err
		}
	}
	return nil
}

var gone, goneCancel = context.WithCancel(context.Background())

func init() { goneCancel() }

// fail ends what is under way and returns the error that all ranks are to see. A context that ended before any
// message of this call was sent or taken, in whole or in part (which cuts a link), harms nobody: the receives are
// withdrawn and the call can be made again. Otherwise the others wait for what will not come, and are told.
func (c *call) fail(err error) error {
	ended := c.ctx.Err() != nil && errors.Is(err, context.Cause(c.ctx))
	if ended && errors.Is(err, ErrLost) {
		c.touched = true
	}
	if ended && !c.touched {
		c.drop(c.ctx)
	}
	switch {
	case errors.Is(err, ErrClosed) && !c.known(err):
		c.drop(gone)
		return ErrClosed
	case ended && !c.touched:
		return err
	}
	e := c.blame(err, ended)
	if p, ok := c.g.(Poisoner); ok {
		e = p.Poison(e)
		c.drop(c.ctx) // poison has ended those that had not begun
	} else {
		c.drop(gone)
	}
	return e
}

// known tells whether err names a rank.
func (c *call) known(err error) bool {
	var pe *PeerError
	return errors.As(err, &pe)
}

// drop waits until no receive holds a buffer any more.
func (c *call) drop(ctx context.Context) {
	for i := range c.waits {
		if w := &c.waits[i]; w.rec != nil {
			if _, _, err := w.rec.Wait(ctx); err == nil {
				c.touched = true
			}
			w.rec = nil
		}
	}
}

// blame says whose doing the failure is: the rank that was waited for, also when the caller's deadline passed; this
// rank, when its caller cancelled.
func (c *call) blame(err error, ended bool) *PeerError {
	var pe *PeerError
	known := errors.As(err, &pe)
	if known && !(ended && !errors.Is(err, context.DeadlineExceeded)) {
		return pe
	}
	e := &PeerError{Rank: outermost(c.g, c.rank), Op: c.op, Step: -1, Cause: err}
	if known {
		e.Step, e.Cause = pe.Step, pe.Cause
	}
	return e
}

// outermost returns a rank's number in the group that g is a subgroup of: errors name ranks by that.
func outermost(g Group, r Rank) Rank {
	if o, ok := g.(interface{ outermost(Rank) Rank }); ok {
		return o.outermost(r)
	}
	return r
}

// Post does what Poster does, on any group: on one that takes no posts by a goroutine.
func Post(g Group, from Rank, tag Tag, p []byte) Receipt {
	if g, ok := g.(Poster); ok {
		return g.Post(from, tag, p)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	r := &helped{done: g.Clock().Event(), cancel: cancel}
	g.Clock().Go(func() {
		r.from, r.n, r.err = g.Recv(ctx, from, tag, p)
		r.done.Set()
	})
	return r
}

type helped struct {
	done   Event
	cancel context.CancelCauseFunc
	from   Rank
	n      int
	err    error
}

func (r *helped) Wait(ctx context.Context) (Rank, int, error) {
	if r.done.Wait(ctx) != nil {
		r.cancel(context.Cause(ctx))
		r.done.Wait(context.Background())
	}
	r.cancel(nil)
	return r.from, r.n, r.err
}
