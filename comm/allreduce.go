package comm

import (
	"context"
	"fmt"

	"github.com/covey-ml/covey/vec"
)

// AllReduce leaves the sum, in t's order, of all parts of all ranks in parts[0] of every rank. parts has
// t.Vectors(rank) vectors of one length, the same everywhere: this rank's parts in order, or one vector of any content
// on a spare. What the other ones hold afterwards, and all of them after an error, is unspecified. Every rank must
// call the collectives of one group in the same order, one at a time.
//
// The error is a *PeerError that names the rank at the root of the failure, and from then on it is the error of every
// collective of the group. When a rank is lost, all others name that rank. When one stalls without being lost, the
// first rank whose wait times out names the peer it waited for, which in algorithms of several rounds (all but
// Direct's and Gather's first) may be one that waits itself. When a caller's context is cancelled half-way, the others
// name that caller's rank. It is another error when the arguments are wrong, when the group is closed (ErrClosed), or
// when ctx ended before any message was sent or taken; those leave the group as it was.
func AllReduce(ctx context.Context, g Group, t Tree, parts [][]float32) error {
	return AllReduceBy(ctx, g, t, parts, Auto)
}

// AllReduceBy is AllReduce by a certain algorithm, the same on every rank.
func AllReduceBy(ctx context.Context, g Group, t Tree, parts [][]float32, a Algorithm) error {
	if err := checkParts(OpAllReduce, g, t, parts); err != nil {
		return err
	}
	n := len(parts[0])
	if a == Auto {
		a = ChooseOn(g, t, word*n)
	}
	if !a.Fits(t) {
		return fmt.Errorf("comm: all-reduce: %w", a.Check(t))
	}
	if a == Native && n > 0 && g.Size() > 1 && len(t.AllParts()) > 0 {
		return native(ctx, g, t, parts)
	}
	var b *Board
	if a == Shared && n > 0 && g.Size() > 1 {
		if b = boardFor(g, t); b == nil {
			return fmt.Errorf("comm: all-reduce by %v needs ranks that share memory (transport shm or inproc); auto takes what there is", a)
		}
	}
	c, err := enter(ctx, g, OpAllReduce, b)
	if err != nil {
		return err
	}
	c.announce(AllReduceBill(a, t, c.rank, n))
	switch {
	case n == 0 || len(t.AllParts()) == 0:
	case c.size == 1: // its leaves make one part
	case b != nil && staged(t, n):
		err = b.sumStaged(c, t, parts, 0, n)
	case b != nil:
		err = b.swap(c, swap{t: t, parts: parts, x: parts[0], n: n})
	case a == Direct:
		err = c.direct(t, parts, parts[0], nil)
	case a == Doubling:
		err = c.doubling(parts[0])
	case a == Gather:
		err = c.gather(t, parts)
	case a == Binomial:
		err = c.binomial(t, parts)
	case a == Ring:
		err = c.ring(t, parts)
	default: // Torus, Hierarchical
		err = c.grid(t.grid(a), t, parts)
	}
	return c.leave(err)
}

func checkParts(op Op, g Group, t Tree, parts [][]float32) error {
	if t.p == nil || t.Ranks() != g.Size() {
		ranks := 0
		if t.p != nil {
			ranks = t.Ranks()
		}
		return fmt.Errorf("comm: %v of a group of %d with a tree for %d ranks", op, g.Size(), ranks)
	}
	return checkVectors(op, t, g.Rank(), parts)
}

func checkVectors(op Op, t Tree, r Rank, parts [][]float32) error {
	if want := t.Vectors(r); len(parts) != want {
		return fmt.Errorf("comm: %v: rank %d hands in %d vectors, its run of leaves makes %d", op, r, len(parts), want)
	}
	for i, p := range parts {
		if len(p) != len(parts[0]) {
			return fmt.Errorf("comm: %v: part %d has %d elements, part 0 has %d", op, i, len(p), len(parts[0]))
		}
	}
	return nil
}

// Numbers of messages within a call: a phase, and which of its messages.
const (
	phaseScatter uint32 = iota << 16
	phaseGather
	phaseSizes
)

// doubling implements Doubling. All rounds are asked for at once, each into its own scratch. Which of two
// numbers comes first does not change the bits of their sum.
func (c *call) doubling(x []float32) error {
	n := len(x)
	rounds := 0
	for d := 1; d < c.size; d <<= 1 {
		rounds++
	}
	room := c.scratch(rounds * n)
	for i := range rounds {
		c.post(c.rank^1<<i, uint32(i), vec.Bytes(room[i*n:(i+1)*n]))
	}
	for i := range rounds {
		if err := c.send(c.rank^1<<i, uint32(i), vec.Bytes(x)); err != nil {
			return err
		}
		if err := c.wait(i); err != nil {
			return err
		}
		c.add(x, room[i*n:(i+1)*n])
	}
	return nil
}

// gather implements Gather. A rank's parts travel as one message.
func (c *call) gather(t Tree, parts [][]float32) error {
	n := len(parts[0])
	own, k := t.FirstPart(c.rank), len(t.Parts(c.rank))
	room := c.scratch(n * len(t.AllParts())) // by part; this rank's own are what it sends
	at := func(i int) []float32 { return room[i*n : (i+1)*n] }
	for from := range Rank(c.size) {
		if a, b := t.FirstPart(from), t.FirstPart(from)+len(t.Parts(from)); from != c.rank && a < b {
			c.post(from, phaseGather, vec.Bytes(room[a*n:b*n]))
		}
	}
	if k > 0 {
		for j := range k {
			c.copy(at(own+j), parts[j])
		}
		for i := 1; i < c.size; i++ {
			if err := c.send((c.rank+Rank(i))%Rank(c.size), phaseGather, vec.Bytes(room[own*n:(own+k)*n])); err != nil {
				return err
			}
		}
	}
	if err := c.all(0); err != nil {
		return err
	}
	for _, a := range t.Merge() {
		c.add(at(a.Dst), at(a.Src))
	}
	c.copy(parts[0], at(0))
	return nil
}

// binomial implements Binomial.
func (c *call) binomial(t Tree, parts [][]float32) error {
	x := parts[0]
	n := len(x)
	rounds := t.reduction(c.rank)
	k, come := len(parts), 0
	for _, r := range rounds {
		come += len(r.receives)
	}
	room := c.scratch(come * n)
	at := func(i int) []float32 {
		if i < k {
			return parts[i]
		}
		return room[(i-k)*n : (i-k+1)*n]
	}
	for _, r := range rounds {
		for j, v := range r.receives {
			c.post(r.from, phaseScatter|uint32(j), vec.Bytes(at(v)))
		}
	}
	got := 0
	for _, r := range rounds {
		for range r.receives {
			if err := c.wait(got); err != nil {
				return err
			}
			got++
		}
		for _, a := range r.adds {
			c.add(at(a.Dst), at(a.Src))
		}
	}
	if c.rank > 0 {
		parent := c.rank - c.rank&-c.rank
		for j, v := range t.held(c.rank) {
			if err := c.send(parent, phaseScatter|uint32(j), vec.Bytes(at(v))); err != nil {
				return err
			}
		}
		if err := c.wait(c.post(parent, phaseGather, vec.Bytes(x))); err != nil {
			return err
		}
	}
	return c.sendDown(0, phaseGather, vec.Bytes(x))
}

// sendDown sends p to this rank's children in the binomial tree below root, the child with most below it first.
func (c *call) sendDown(root Rank, n uint32, p []byte) error {
	v := (int(c.rank) - int(root) + c.size) % c.size
	d := 1
	for v&d == 0 && d < c.size {
		d <<= 1
	}
	for d >>= 1; d > 0; d >>= 1 {
		if v+d < c.size {
			if err := c.send(Rank((v+d+int(root))%c.size), n, p); err != nil {
				return err
			}
		}
	}
	return nil
}
