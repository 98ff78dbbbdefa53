package comm

import (
	"context"
	"errors"
	"sync"
)

// Count returns g with every message that is sent booked in l, by the operation of its tag: payload, and the header
// bytes that g's Framer tells; messages of OpControl are control bytes altogether. What operations announce is booked
// too, and PeerErrors passing through get the ledger's step. It keeps what else g can do: Poster, Poisoner, Framer,
// Wire, Allocator, Hollow, Boarder and AllReducer, whose collectives are booked as what they move, or hand over. A message to the rank itself, or whose Send failed, is not booked.
func Count(g Group, l *Ledger) Group { return CountAt(g, l, CostsOf(g)) }

// CountAt is Count with other costs than g's, the same on every rank: algorithms are chosen by them.
func CountAt(g Group, l *Ledger, costs Costs) Group {
	c := &count{g: g, l: l, costs: costs}
	c.receipts.New = func() any { return &countReceipt{} }
	c.framer, _ = g.(Framer)
	c.poisoner, _ = g.(Poisoner)
	w, wire := g.(Wire)
	// A wrapper offers only what is true of it, and a type's methods are fixed, hence the cases.
	switch {
	case c.poisoner != nil && wire:
		return struct {
			poisonCount
			Wire
		}{poisonCount{c}, w}
	case c.poisoner != nil:
		return poisonCount{c}
	case wire:
		return struct {
			*count
			Wire
		}{c, w}
	}
	return c
}

type count struct {
	g        Group
	l        *Ledger
	costs    Costs
	framer   Framer   // or nil
	poisoner Poisoner // or nil
	receipts sync.Pool
}

func (c *count) Rank() Rank   { return c.g.Rank() }
func (c *count) Size() int    { return c.g.Size() }
func (c *count) Clock() Clock { return c.g.Clock() }
func (c *count) Close() error { return c.g.Close() }

func (c *count) Send(ctx context.Context, to Rank, tag Tag, p []byte) error {
	if err := c.g.Send(ctx, to, tag, p); err != nil {
		return c.dated(err)
	}
	if to == c.Rank() {
		return nil // it never left
	}
	e := Entry{Messages: 1, Payload: int64(len(p)), Header: int64(c.Overhead(len(p)))}
	if tag.Op() == OpControl {
		e = Entry{Control: e.Payload + e.Header}
	}
	c.l.Book(min(tag.Op(), numOps-1), e)
	return nil
}

func (c *count) Recv(ctx context.Context, from Rank, tag Tag, p []byte) (Rank, int, error) {
	r, n, err := c.g.Recv(ctx, from, tag, p)
	return r, n, c.dated(err)
}

// Post implements Poster, on any group.
func (c *count) Post(from Rank, tag Tag, p []byte) Receipt {
	r := c.receipts.Get().(*countReceipt)
	r.c, r.r = c, Post(c.g, from, tag, p)
	return r
}

type countReceipt struct {
	c *count
	r Receipt
}

func (r *countReceipt) Wait(ctx context.Context) (Rank, int, error) {
	from, n, err := r.r.Wait(ctx)
	c := r.c
	*r = countReceipt{}
	c.receipts.Put(r)
	return from, n, c.dated(err)
}

// dated adds the step to a PeerError that has none. The group's own error, which others may hold, stays as it is.
func (c *count) dated(err error) error {
	if err == nil {
		return nil // before e goes to the heap
	}
	var e *PeerError
	if !errors.As(err, &e) || e.Step >= 0 || c.poisoner != nil && c.poisoner.Poisoned() == e {
		return err
	}
	d := *e
	d.Step = c.l.Step()
	return &d
}

// Overhead implements Framer.
func (c *count) Overhead(n int) int {
	if c.framer == nil {
		return 0
	}
	return c.framer.Overhead(n)
}

// Announce implements Announcer.
func (c *count) Announce(op Op, b Bill) {
	c.l.Book(op, Entry{ExpectedMessages: b.Messages(), Expected: b.Payload() + b.Header(c.framer)})
}

// Costs implements Costed.
func (c *count) Costs() Costs { return c.costs }

// book implements booker.
func (c *count) book(op Op, e Entry) { c.l.Book(op, e) }

// Alloc implements Allocator; it returns nil when the group has no memory of its own.
func (c *count) Alloc(n int) []float32 { return allocIn(c.g, n) }

// Hollow implements Hollow.
func (c *count) Hollow() bool { return IsHollow(c.g) }

// Board implements Boarder.
func (c *count) Board() *Board { return boardOf(c.g) }

func (c *count) allReducer() AllReducer { return allReducerOf(c.g) }

func (c *count) outermost(r Rank) Rank { return outermost(c.g, r) }

// poisonCount is a count over a Poisoner.
type poisonCount struct{ *count }

// Poison implements Poisoner.
func (c poisonCount) Poison(e *PeerError) *PeerError {
	if e.Step < 0 {
		d := *e
		d.Step, e = c.l.Step(), &d
	}
	return c.poisoner.Poison(e)
}

// Poisoned implements Poisoner.
func (c poisonCount) Poisoned() *PeerError { return c.poisoner.Poisoned() }

var (
	_ Group      = (*count)(nil)
	_ Poster     = (*count)(nil)
	_ Framer     = (*count)(nil)
	_ Announcer  = (*count)(nil)
	_ Costed     = (*count)(nil)
	_ Allocator  = (*count)(nil)
	_ Hollow     = (*count)(nil)
	_ Boarder    = (*count)(nil)
	_ allReducer = (*count)(nil)
	_ Poisoner   = poisonCount{}
)
