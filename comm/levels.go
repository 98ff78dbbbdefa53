package comm

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Levels sum by Hierarchical where the ranks of a host have a faster group among themselves than the one between hosts:
// shared memory inside, TCP outside. One rank has two groups: near, the ranks of its host, by their number there; and
// far, the ranks of its own number on all hosts, by host.
//
//	t := comm.NewTree(microshards, ranks).On(hosts)
//	l, err := comm.NewLevels(t, rank, near, far) // rank's number in t
//	err = l.AllReduce(ctx, parts)
//
// Errors name ranks by their numbers in t. A collective that fails poisons both groups, so near and far are to be used
// by Levels alone. A rank that waits in one group hears of a failure in the other when the rank that it waits for comes,
// fails or is lost, or at the group's timeout. The caller closes both.
type Levels struct {
	near, far Group // far is nil at a rank beyond the columns
	t         Tree
	rank      Rank
}

// NewLevels checks that the groups are what t's hosts say. far is nil at a rank whose number on its host is not below the
// number of ranks of the smallest host: it is in no exchange between hosts.
func NewLevels(t Tree, rank Rank, near, far Group) (*Levels, error) {
	if rank < 0 || int(rank) >= t.Ranks() {
		return nil, fmt.Errorf("comm: levels for rank %d of %d", rank, t.Ranks())
	}
	gr := t.grid(Hierarchical)
	h := gr.row[rank]
	first, end := gr.first[h], gr.first[h+1]
	me := int(rank) - first
	if near.Size() != end-first || int(near.Rank()) != me {
		return nil, fmt.Errorf("comm: levels: the near group is rank %d of %d, but rank %d is number %d of %d on its host", near.Rank(), near.Size(), rank, me, end-first)
	}
	l := &Levels{t: t, rank: rank}
	names := make([]Rank, near.Size())
	for i := range names {
		names[i] = Rank(first + i)
	}
	l.near = newNamed(near, names)
	switch {
	case me >= gr.cols && far == nil:
		return l, nil
	case me >= gr.cols:
		return nil, fmt.Errorf("comm: levels: rank %d is number %d on its host, and the smallest host has %d ranks: it takes no far group", rank, me, gr.cols)
	case far == nil || far.Size() != len(gr.rows) || int(far.Rank()) != h:
		return nil, fmt.Errorf("comm: levels: the far group of rank %d must have its rank %d of %d, a rank a host", rank, h, len(gr.rows))
	}
	names = make([]Rank, far.Size())
	for i := range names {
		names[i] = Rank(gr.first[i] + me)
	}
	l.far = newNamed(far, names)
	return l, nil
}

// AllReduce is AllReduceBy Hierarchical over the two groups. Parts and errors are as there.
func (l *Levels) AllReduce(ctx context.Context, parts [][]float32) error {
	if err := checkVectors(OpAllReduce, l.t, l.rank, parts); err != nil {
		return err
	}
	p := pass{split: true, gr: l.t.grid(Hierarchical), t: l.t, parts: parts, rank: l.rank}
	var err error
	if p.along, err = enter(ctx, l.near, OpAllReduce, nil); err != nil {
		return l.poisoned(err)
	}
	if l.far != nil {
		if p.across, err = enter(ctx, l.far, OpAllReduce, nil); err != nil {
			p.along.leave(nil)
			return l.poisoned(err)
		}
	}
	n := len(parts[0])
	if b := AllReduceBill(Hierarchical, l.t, l.rank, n); l.far != nil {
		Announce(l.near, OpAllReduce, Bill{b[0], b[1], b[5]})
		Announce(l.far, OpAllReduce, Bill{b[2], b[3], b[4]})
	} else {
		Announce(l.near, OpAllReduce, b)
	}
	if n > 0 && l.t.Ranks() > 1 {
		err = p.run()
	}
	return p.leave(err)
}

// leave ends both calls: when one of them has poisoned its group, both groups are poisoned, with the same error.
func (p *pass) leave(err error) error {
	if err != nil && p.across != nil {
		p.across.touched = p.across.touched || p.along.touched
		err = p.across.fail(err)
		p.along.touched = p.along.touched || p.across.touched
	}
	if err != nil {
		err = p.along.fail(err)
	}
	near := p.along.g
	p.along.leave(nil)
	if p.across == nil {
		return err
	}
	far := p.across.g
	p.across.leave(nil)
	if err == nil {
		return nil
	}
	return spread(near, far, err)
}

// poisoned is what a call returns that one of the groups is poisoned for already.
func (l *Levels) poisoned(err error) error { return spread(l.near, l.far, err) }

// spread poisons each of two groups with what the other is poisoned with, and returns that; err when neither is. far may
// be nil.
func spread(near, far Group, err error) error {
	n, _ := near.(Poisoner)
	f, _ := far.(Poisoner)
	switch {
	case n != nil && n.Poisoned() != nil:
		e := n.Poisoned()
		if f != nil {
			f.Poison(e)
		}
		return e
	case f != nil && f.Poisoned() != nil && n != nil:
		return n.Poison(f.Poisoned())
	}
	return err
}

// named is a group whose errors call its ranks by other numbers. What it is poisoned with has those numbers already: the
// group's own errors are renamed before they poison anything.
type named struct {
	Group
	names    []Rank
	receipts sync.Pool
}

func newNamed(g Group, names []Rank) Group {
	n := &named{Group: g, names: names}
	n.receipts.New = func() any { return &namedReceipt{} }
	if p, ok := g.(Poisoner); ok {
		return struct {
			*named
			Poisoner
		}{n, p}
	}
	return n
}

func (n *named) rename(err error) error {
	var e *PeerError
	if err == nil || !errors.As(err, &e) || e.Rank < 0 || int(e.Rank) >= len(n.names) {
		return err
	}
	if p, ok := n.Group.(Poisoner); ok && p.Poisoned() == e {
		return err
	}
	d := *e
	d.Rank = n.names[e.Rank]
	return &d
}

func (n *named) Send(ctx context.Context, to Rank, tag Tag, p []byte) error {
	return n.rename(n.Group.Send(ctx, to, tag, p))
}

func (n *named) Recv(ctx context.Context, from Rank, tag Tag, p []byte) (Rank, int, error) {
	r, k, err := n.Group.Recv(ctx, from, tag, p)
	return r, k, n.rename(err)
}

// Post implements Poster, on any group.
func (n *named) Post(from Rank, tag Tag, p []byte) Receipt {
	r := n.receipts.Get().(*namedReceipt)
	r.n, r.r = n, Post(n.Group, from, tag, p)
	return r
}

type namedReceipt struct {
	n *named
	r Receipt
}

func (r *namedReceipt) Wait(ctx context.Context) (Rank, int, error) {
	from, k, err := r.r.Wait(ctx)
	n := r.n
	*r = namedReceipt{}
	n.receipts.Put(r)
	return from, k, n.rename(err)
}

// Announce implements Announcer.
func (n *named) Announce(op Op, b Bill) { Announce(n.Group, op, b) }

// Hollow implements Hollow.
func (n *named) Hollow() bool { return IsHollow(n.Group) }

func (n *named) outermost(r Rank) Rank { return n.names[r] }

var (
	_ Poster    = (*named)(nil)
	_ Announcer = (*named)(nil)
	_ Hollow    = (*named)(nil)
)
