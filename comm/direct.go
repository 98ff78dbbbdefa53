package comm

import (
	"context"
	"fmt"

	"github.com/covey-ml/covey/vec"
)

// SegmentBytes is the longest message of Direct, Update and ReduceScatter: a longer chunk goes in several. It is long
// enough that a message's own cost does not count and short enough that what has come is added while it is still in
// the processor's cache.
const SegmentBytes = word * segment

const (
	segment = 64 << 10 // elements
	// lag is how many segments a rank sends ahead of the one that it adds, and so how much of the link's time there is
	// for the adding: with less, the link would stand still meanwhile.
	lag = 4
	// window is how many segments of each part are asked for at a time. It is above lag, or a rank could not send what
	// another needs first; what is beyond that lets ranks drift apart a little.
	window = 8
)

// Update sums as AllReduce does and lets each rank use only its own Chunk of the sum, to compute its Chunk of x, which
// then goes to all: the same bytes as an all-reduce, and each element is updated on one rank instead of on all. A
// sharded optimizer uses it (Rajbhandari et al., ZeRO, arXiv 1910.02054, section 5, the stage P_os).
//
// f is called on the calling goroutine for consecutive pieces [lo, hi) that make up this rank's Chunk of the vector (for
// none of an empty chunk; for everything in a group of one). When it is called, parts[0][lo:hi] holds the sum, in t's
// order; it must write x[lo:hi], and may use what else of parts[0] and x lies in the pieces so far. After the call x is
// the same on every rank, and parts is unspecified. A rank's x is not written before that rank has entered the call.
//
// len(x) must be len(parts[0]). x may be parts[0] itself, and must overlap no part otherwise. A nil f copies the sum
// to x; with x the same as parts[0], Update is then an all-reduce. parts and errors are as for AllReduce, and so
// is the operation that it is booked under, OpAllReduce. It goes by Shared, always in two meetings, where ranks share
// memory, and else by Direct, whose bill is then its own. f must not use the group.
func Update(ctx context.Context, g Group, t Tree, parts [][]float32, x []float32, f func(lo, hi int)) error {
	if err := checkParts(OpAllReduce, g, t, parts); err != nil {
		return err
	}
	n := len(parts[0])
	if len(x) != n {
		return fmt.Errorf("comm: update: x has %d elements, the parts have %d: both are the whole vector", len(x), n)
	}
	var b *Board
	if n > 0 && g.Size() > 1 {
		b = boardFor(g, t)
	}
	c, err := enter(ctx, g, OpAllReduce, b)
	if err != nil {
		return err
	}
	if b != nil {
		c.announce(UpdateBill(Shared, t, c.rank, n))
		return c.leave(b.swap(c, swap{t: t, parts: parts, x: x, f: f, n: n}))
	}
	c.announce(UpdateBill(Direct, t, c.rank, n))
	return c.leave(c.direct(t, parts, x, f))
}

// piece returns the elements of segment s of a rank's chunk of n; none beyond its last.
func piece(n, ranks int, r Rank, s int) (lo, hi int) {
	lo, hi = Chunk(n, ranks, r)
	lo = min(lo+s*segment, hi)
	return lo, min(lo+segment, hi)
}

// direct implements Direct, Update, and, with a nil x, ReduceScatter.
//
// The chunks are cut into segments. In step s a rank sends everybody its parts of segment s of their chunks, then adds
// what has come of segment s-lag of its own, calls f and sends the result. So both directions of every link are in use
// all the time, and what is added, at most window segments a part, stays in cache.
//
// Nobody waits for ever: among the ranks that are in the least step, s, everything that one sends has been asked for
// (segments to s-lag+window-1 by ranks that have come as far, results from the start), and what it waits for, segment
// s-lag, everybody has sent.
func (c *call) direct(t Tree, parts [][]float32, x []float32, f func(lo, hi int)) error {
	n := len(parts[0])
	if c.size > 1 {
		most := (n + c.size - 1) / c.size
		return c.segments(t, parts, x, f, (most+segment-1)/segment)
	}
	if n > 0 && x != nil {
		c.apply(parts[0], x, f, 0, n)
	}
	return nil
}

// apply makes x[lo:hi] of the sum.
func (c *call) apply(sum, x []float32, f func(lo, hi int), lo, hi int) {
	switch {
	case f != nil:
		f(lo, hi)
	case &sum[lo] != &x[lo]:
		c.copy(x[lo:hi], sum[lo:hi])
	}
}

// segments is direct among several ranks, in so many steps.
func (c *call) segments(t Tree, parts [][]float32, x []float32, f func(lo, hi int), steps int) error {
	n := len(parts[0])
	// The results may be asked for at once: an owner sends a segment only after it has had this rank's parts of it.
	for from := range Rank(c.size) {
		for s := 0; s < steps && x != nil && from != c.rank; s++ {
			if lo, hi := piece(n, c.size, from, s); lo < hi {
				c.post(from, phaseGather, vec.Bytes(x[lo:hi]))
			}
		}
	}
	in := inflow{first: len(c.waits), others: len(t.AllParts()) - len(t.Parts(c.rank)), slots: min(window, steps)}
	_, in.m = piece(n, c.size, c.rank, 0)
	lo, _ := Chunk(n, c.size, c.rank)
	in.m -= lo
	in.room = c.scratch(in.slots * in.others * in.m)
	asked := 0
	for s := range steps + lag {
		for ; asked < min(max(0, s-lag)+window, steps); asked++ {
			c.postScatter(t, n, asked, &in)
		}
		if err := c.sendScatter(t, parts, s); err != nil {
			return err
		}
		lo, hi := piece(n, c.size, c.rank, s-lag)
		if s < lag || lo == hi {
			continue
		}
		if err := c.merge(t, parts, s-lag, &in); err != nil {
			return err
		}
		if x != nil {
			c.apply(parts[0], x, f, lo, hi)
			if err := c.sendResult(x[lo:hi]); err != nil {
				return err
			}
		}
	}
	for i := range in.first {
		if err := c.wait(i); err != nil {
			return err
		}
	}
	return nil
}

// inflow is where the parts of other ranks come in, segment by segment.
type inflow struct {
	first  int // the number of the receive of the first
	others int // parts of other ranks
	slots  int // segments that there is room for
	m      int // elements of the longest segment
	room   []float32
}

// at returns the room for part i of the others, in global order, of segment s, which has m elements.
func (in *inflow) at(s, i, m int) []float32 {
	return in.room[(s%in.slots*in.others+i)*in.m:][:m]
}

// postScatter asks for everybody's parts of segment s of this rank's chunk.
func (c *call) postScatter(t Tree, n, s int, in *inflow) {
	lo, hi := piece(n, c.size, c.rank, s)
	if lo == hi {
		return
	}
	i := 0
	for from := range Rank(c.size) {
		if from == c.rank {
			continue
		}
		for j := range t.Parts(from) {
			c.post(from, phaseScatter|uint32(j), vec.Bytes(in.at(s, i, hi-lo)))
			i++
		}
	}
}

// sendScatter sends to each owner this rank's parts of segment s of its chunk, beginning with the next rank, so that
// not all write to one.
func (c *call) sendScatter(t Tree, parts [][]float32, s int) error {
	for i := 1; i < c.size; i++ {
		to := (c.rank + Rank(i)) % Rank(c.size)
		lo, hi := piece(len(parts[0]), c.size, to, s)
		if lo == hi {
			continue
		}
		for j := range t.Parts(c.rank) {
			if err := c.send(to, phaseScatter|uint32(j), vec.Bytes(parts[j][lo:hi])); err != nil {
				return err
			}
		}
	}
	return nil
}

// merge adds the parts of segment s of this rank's chunk, each as soon as it is needed and there, and leaves the sum in
// parts[0]: the vector that parts[0] has been added to is kept there instead. (Which of two numbers comes first does
// not change the bits of their sum.)
func (c *call) merge(t Tree, parts [][]float32, s int, in *inflow) error {
	lo, hi := piece(len(parts[0]), c.size, c.rank, s)
	own, k := t.FirstPart(c.rank), len(t.Parts(c.rank))
	here := own // the vector that is in parts[0]; of a spare, none
	if k == 0 {
		here = -1
	}
	at := func(i int) []float32 {
		switch {
		case i == here:
			return parts[0][lo:hi]
		case i < own:
			return in.at(s, i, hi-lo)
		case i < own+k:
			return parts[i-own][lo:hi]
		}
		return in.at(s, i-k, hi-lo)
	}
	ready := func(i int) error {
		if i >= own && i < own+k {
			return nil
		}
		if i >= own {
			i -= k
		}
		return c.wait(in.first + s*in.others + i)
	}
	if err := ready(0); err != nil { // it may be all there is
		return err
	}
	for _, a := range t.Merge() {
		if err := ready(a.Dst); err != nil {
			return err
		}
		if err := ready(a.Src); err != nil {
			return err
		}
		if a.Src == here {
			c.add(at(a.Src), at(a.Dst))
			here = a.Dst
		} else {
			c.add(at(a.Dst), at(a.Src))
		}
	}
	if here < 0 {
		c.copy(parts[0][lo:hi], at(0))
	}
	return nil
}

// sendResult sends a segment of this rank's chunk of the result to all.
func (c *call) sendResult(x []float32) error {
	for i := 1; i < c.size; i++ {
		if err := c.send((c.rank+Rank(i))%Rank(c.size), phaseGather, vec.Bytes(x)); err != nil {
			return err
		}
	}
	return nil
}
