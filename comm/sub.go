package comm

import (
	"context"
	"fmt"
	"sync"
)

// Sub returns the group of some ranks of g: the hosts, a host's workers, a row of a torus, a cohort. Rank i of it is
// ranks[i] of g, and g's own rank must be among them. Every member must call Sub with the same arguments. id tells
// the messages of subgroups apart; it is not 0 and differs between the subgroups of one group, nested ones too, that
// are in use at the same time.
//
// A subgroup's collectives move messages, also where the group's ranks share memory.
//
// A subgroup lives by its group: Close does nothing, a collective that fails on either poisons both, and errors name
// ranks by their number in the outermost group.
func Sub(g Group, ranks []Rank, id uint32) (Group, error) {
	if id == 0 {
		return nil, fmt.Errorf("comm: a subgroup's id is not 0")
	}
	s := &sub{g: g, ranks: append([]Rank(nil), ranks...), id: Tag(id), mine: AnyRank, number: make([]Rank, g.Size())}
	for i := range s.number {
		s.number[i] = AnyRank
	}
	for i, r := range ranks {
		switch {
		case r < 0 || int(r) >= g.Size():
			return nil, fmt.Errorf("comm: subgroup %d has rank %d of a group of %d", id, r, g.Size())
		case s.number[r] != AnyRank:
			return nil, fmt.Errorf("comm: subgroup %d has rank %d twice", id, r)
		}
		s.number[r] = Rank(i)
	}
	if s.mine = s.number[g.Rank()]; s.mine == AnyRank {
		return nil, fmt.Errorf("comm: subgroup %d of ranks %v does not have this rank, %d", id, ranks, g.Rank())
	}
	s.receipts.New = func() any { return &subReceipt{} }
	if p, ok := g.(Poisoner); ok {
		return struct {
			*sub
			Poisoner
		}{s, p}, nil
	}
	return s, nil
}

type sub struct {
	g        Group
	ranks    []Rank // by rank in the subgroup, the rank in g
	number   []Rank // by rank in g, the rank in the subgroup; AnyRank when it is not in it
	mine     Rank
	id       Tag
	receipts sync.Pool
}

func (s *sub) Rank() Rank   { return s.mine }
func (s *sub) Size() int    { return len(s.ranks) }
func (s *sub) Clock() Clock { return s.g.Clock() }
func (s *sub) Close() error { return nil }

// tag is t in this subgroup; a nested one has marked it already.
func (s *sub) tag(t Tag) Tag {
	if uint32(t) != 0 {
		return t
	}
	return t | s.id
}

func (s *sub) Send(ctx context.Context, to Rank, tag Tag, p []byte) error {
	if to < 0 || int(to) >= len(s.ranks) {
		return fmt.Errorf("comm: send to rank %d of a subgroup of %d", to, len(s.ranks))
	}
	return s.g.Send(ctx, s.ranks[to], s.tag(tag), p)
}

func (s *sub) Recv(ctx context.Context, from Rank, tag Tag, p []byte) (Rank, int, error) {
	outer, err := s.outer(from)
	if err != nil {
		return from, 0, err
	}
	r, n, err := s.g.Recv(ctx, outer, s.tag(tag), p)
	return s.inner(r), n, err
}

// Post implements Poster, on any group.
func (s *sub) Post(from Rank, tag Tag, p []byte) Receipt {
	r := s.receipts.Get().(*subReceipt)
	outer, err := s.outer(from)
	if r.s, r.from, r.err = s, from, err; err == nil {
		r.r = Post(s.g, outer, s.tag(tag), p)
	}
	return r
}

func (s *sub) outer(r Rank) (Rank, error) {
	if r == AnyRank {
		return AnyRank, nil
	}
	if r < 0 || int(r) >= len(s.ranks) {
		return r, fmt.Errorf("comm: receive from rank %d of a subgroup of %d", r, len(s.ranks))
	}
	return s.ranks[r], nil
}

func (s *sub) inner(r Rank) Rank {
	if r < 0 {
		return r
	}
	return s.number[r]
}

type subReceipt struct {
	s    *sub
	r    Receipt
	from Rank
	err  error
}

func (r *subReceipt) Wait(ctx context.Context) (Rank, int, error) {
	from, n, err := r.from, 0, r.err
	if err == nil {
		from, n, err = r.r.Wait(ctx)
		from = r.s.inner(from)
	}
	s := r.s
	*r = subReceipt{}
	s.receipts.Put(r)
	return from, n, err
}

// Overhead implements Framer.
func (s *sub) Overhead(n int) int {
	if f, ok := s.g.(Framer); ok {
		return f.Overhead(n)
	}
	return 0
}

// Announce implements Announcer.
func (s *sub) Announce(op Op, b Bill) { Announce(s.g, op, b) }

// Costs implements Costed: those of messages.
func (s *sub) Costs() Costs {
	c := CostsOf(s.g)
	c.Board = BoardCosts{}
	return c
}

// Alloc implements Allocator: the members reach each other's memory as in the whole group.
func (s *sub) Alloc(n int) []float32 { return allocIn(s.g, n) }

// Hollow implements Hollow.
func (s *sub) Hollow() bool { return IsHollow(s.g) }

func (s *sub) outermost(r Rank) Rank { return outermost(s.g, s.ranks[r]) }

var (
	_ Group     = (*sub)(nil)
	_ Poster    = (*sub)(nil)
	_ Framer    = (*sub)(nil)
	_ Announcer = (*sub)(nil)
	_ Costed    = (*sub)(nil)
	_ Hollow    = (*sub)(nil)
)
