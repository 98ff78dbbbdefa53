package comm

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/covey-ml/covey/vec"
)

// ReduceScatter leaves rank r's Chunk of the sum, in t's order, of all parts of all ranks in that chunk of parts[0]
// of rank r. parts is as for AllReduce, and so are errors; the rest of it is unspecified afterwards. Any P. One
// round, k(P-1) messages (more when a chunk is longer than SegmentBytes) and k(P-1)/P S bytes a rank, for k parts of S
// bytes.
func ReduceScatter(ctx context.Context, g Group, t Tree, parts [][]float32) error {
	if err := checkParts(OpReduceScatter, g, t, parts); err != nil {
		return err
	}
	n := len(parts[0])
	var b *Board
	if n > 0 && g.Size() > 1 {
		b = boardFor(g, t)
	}
	c, err := enter(ctx, g, OpReduceScatter, b)
	if err != nil {
		return err
	}
	switch {
	case b != nil:
		c.announce(chunkReadBill(t, c.rank, n))
		if staged(t, n) {
			lo, hi := Chunk(n, c.size, c.rank)
			err = b.sumStaged(c, t, parts, lo, hi)
		} else {
			err = b.swap(c, swap{t: t, parts: parts, n: n})
		}
	case c.size > 1:
		c.announce(ReduceScatterBill(t, c.rank, n))
		err = c.direct(t, parts, nil, nil)
	}
	return c.leave(err)
}

// AllGather fills x on every rank: rank r brings its Chunk of x, in place, and gets all others. One round, P-1
// messages and (P-1)/P S bytes a rank. Errors are as for AllReduce.
func AllGather(ctx context.Context, g Group, x []float32) error {
	var b *Board
	if len(x) > 0 && g.Size() > 1 {
		b = boardOf(g)
	}
	c, err := enter(ctx, g, OpAllGather, b)
	if err != nil {
		return err
	}
	c.announce(AllGatherBill(c.size, c.rank, len(x))) // a rank writes on a board what it would send
	if b != nil {
		return c.leave(b.swap(c, swap{x: x, n: len(x)}))
	}
	c.postGather(x)
	if err = c.sendGather(x); err == nil {
		err = c.all(0)
	}
	return c.leave(err)
}

// postGather asks for everybody's chunk of x, sendGather sends this rank's.
func (c *call) postGather(x []float32) {
	for from := range Rank(c.size) {
		if lo, hi := Chunk(len(x), c.size, from); from != c.rank && lo < hi {
			c.post(from, phaseGather, vec.Bytes(x[lo:hi]))
		}
	}
}

func (c *call) sendGather(x []float32) error {
	lo, hi := Chunk(len(x), c.size, c.rank)
	if lo == hi {
		return nil
	}
	for i := 1; i < c.size; i++ {
		if err := c.send((c.rank+Rank(i))%Rank(c.size), phaseGather, vec.Bytes(x[lo:hi])); err != nil {
			return err
		}
	}
	return nil
}

// AllGatherBytes returns everybody's bytes by rank, of any lengths. It reuses into and the slices in it when they
// have room; the result at this rank is a copy of mine. Two rounds (lengths, then bytes), 2(P-1) messages and
// (P-1)(8 + len(mine)) bytes a rank. A Hollow group cannot, for its messages do not say lengths. Errors are as for AllReduce.
func AllGatherBytes(ctx context.Context, g Group, mine []byte, into [][]byte) ([][]byte, error) {
	if IsHollow(g) {
		return nil, errHollow(OpAllGather)
	}
	c, err := enter(ctx, g, OpAllGather, nil)
	if err != nil {
		return nil, err
	}
	c.announce(AllGatherBytesBill(c.size, len(mine)))
	for len(into) < c.size {
		into = append(into, nil)
	}
	into = into[:c.size]
	err = c.gatherBytes(mine, into)
	if err = c.leave(err); err != nil {
		return nil, err
	}
	return into, nil
}

func (c *call) gatherBytes(mine []byte, into [][]byte) error {
	sizes := c.scratchBytes(8 * (c.size + 1))
	for r := range Rank(c.size) {
		if r != c.rank {
			c.post(r, phaseSizes, sizes[8*r:8*r+8])
		}
	}
	own := sizes[8*c.size:]
	binary.LittleEndian.PutUint64(own, uint64(len(mine)))
	for i := 1; i < c.size; i++ {
		if err := c.send((c.rank+Rank(i))%Rank(c.size), phaseSizes, own); err != nil {
			return err
		}
	}
	if err := c.all(0); err != nil {
		return err
	}
	second := len(c.waits)
	for r := range Rank(c.size) {
		n := uint64(len(mine))
		if r != c.rank {
			n = binary.LittleEndian.Uint64(sizes[8*r:])
		}
		if n > math.MaxInt32 {
			return &PeerError{Rank: outermost(c.g, r), Op: c.op, Step: -1,
				Cause: fmt.Errorf("it announces %d bytes; AllGatherBytes carries at most %d a rank", n, math.MaxInt32)}
		}
		if uint64(cap(into[r])) < n {
			into[r] = make([]byte, n)
		}
		into[r] = into[r][:n]
		switch {
		case r == c.rank:
			copy(into[r], mine)
		case n > 0:
			c.post(r, phaseGather, into[r])
		}
	}
	for i := 1; i < c.size && len(mine) > 0; i++ {
		if err := c.send((c.rank+Rank(i))%Rank(c.size), phaseGather, mine); err != nil {
			return err
		}
	}
	return c.all(second)
}

// Broadcast copies p of root to p of every rank; the length must be the same everywhere. A binomial tree:
// ceil(log2 P) rounds, P-1 messages of S bytes in all, at most ceil(log2 P) from one rank. Errors are as for AllReduce.
func Broadcast(ctx context.Context, g Group, root Rank, p []byte) error {
	if root < 0 || int(root) >= g.Size() {
		return fmt.Errorf("comm: broadcast from rank %d of a group of %d", root, g.Size())
	}
	var b *Board
	if len(p) > 0 && g.Size() > 1 {
		b = boardOf(g)
	}
	c, err := enter(ctx, g, OpBroadcast, b)
	if err != nil {
		return err
	}
	if b != nil {
		if c.rank != root {
			c.announce(Bill{{1, len(p)}})
		}
		return c.leave(b.broadcast(c, root, p))
	}
	if len(p) > 0 {
		c.announce(BroadcastBill(c.size, root, c.rank, len(p)))
		if v := (int(c.rank) - int(root) + c.size) % c.size; v > 0 {
			parent := Rank((v - v&-v + int(root)) % c.size)
			err = c.wait(c.post(parent, 0, p))
		}
		if err == nil {
			err = c.sendDown(root, 0, p)
		}
	}
	return c.leave(err)
}

// AllToAll sends send[r] to each rank r and fills recv[r] with what r sends here; lengths may differ by pair, but
// both ends must agree on them. send[self] is copied to recv[self]. The slices must not overlap. One round, P-1
// messages (none for an empty slice), and the bytes of send, less its own, a rank. Errors are as for AllReduce.
func AllToAll(ctx context.Context, g Group, send, recv [][]byte) error {
	me := g.Rank()
	if len(send) != g.Size() || len(recv) != g.Size() || len(send[me]) != len(recv[me]) {
		return fmt.Errorf("comm: all-to-all of a group of %d with %d slices to send and %d to fill, %v bytes for itself", g.Size(), len(send), len(recv), selfLen(send, recv, me))
	}
	copy(recv[me], send[me])
	return exchange(ctx, g, OpAllToAll, func(r Rank) []byte { return send[r] }, recv, false)
}

func selfLen(send, recv [][]byte, me Rank) (n [2]int) {
	if int(me) < len(send) {
		n[0] = len(send[me])
	}
	if int(me) < len(recv) {
		n[1] = len(recv[me])
	}
	return n
}

// Barrier returns when every rank has called it. It is the dissemination barrier (Hensgen, Finkel and Manber, Two
// algorithms for barrier synchronization, 1988): ceil(log2 P) rounds, as many empty messages a rank. Errors are as
// for AllReduce.
func Barrier(ctx context.Context, g Group) error {
	var b *Board
	if g.Size() > 1 {
		b = boardOf(g)
	}
	c, err := enter(ctx, g, OpBarrier, b)
	if err != nil {
		return err
	}
	if b != nil {
		return c.leave(b.barrier(c))
	}
	c.announce(BarrierBill(c.size))
	p := Rank(c.size)
	for i, d := uint32(0), Rank(1); d < p; i, d = i+1, d<<1 {
		c.post((c.rank-d+p)%p, i, nil)
	}
	for i, d := uint32(0), Rank(1); d < p && err == nil; i, d = i+1, d<<1 {
		if err = c.send((c.rank+d)%p, i, nil); err == nil {
			err = c.wait(int(i))
		}
	}
	return c.leave(err)
}
