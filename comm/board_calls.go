package comm

import (
	"fmt"

	"github.com/covey-ml/covey/vec"
)

// blockFloats is how much of a vector is added, used and spread at a time: a few of them fit the first-level cache.
const blockFloats = 2 << 10

// stagedMost is up to how many bytes, of all parts of everybody, a sum goes by the stages: one meeting, every rank adds
// all. Beyond, each adds its chunk where the vectors are, in two: another meeting costs less than reading all of what
// the others have just written.
const stagedMost = 8 << 10

// staged tells whether a sum of n elements goes by the stages. Every rank must come to the same answer.
func staged(t Tree, n int) bool {
	if word*n*len(t.AllParts()) > stagedMost {
		return false
	}
	return word*n*t.most() <= stageBytes
}

// slot numbers vector j that a rank brings to meeting m; the result is the last.
func slot(m uint64, j int) int { return int(m&1)*(maxVectors+1) + j }

// stage returns rank r's stage for meeting m.
func (b *Board) stage(r Rank, m uint64) []byte {
	at := int(m&1) * stageBytes
	return b.mem.Scratch(r)[at : at+stageBytes]
}

// barrier implements Barrier.
func (b *Board) barrier(c *call) error {
	m, err := b.begin(c)
	if err != nil {
		return err
	}
	b.say(m, c.op, kindBarrier, 0, 0, 0, false)
	b.come(c, m)
	if err := b.await(c, AnyRank, m); err != nil {
		return err
	}
	return b.checkAll(c, m)
}

// sumStaged leaves the sum of elements [lo, hi) in that place of parts[0].
func (b *Board) sumStaged(c *call, t Tree, parts [][]float32, lo, hi int) error {
	n := len(parts[0])
	b.due = due{dueVectors, t, n}
	m, err := b.begin(c)
	if err != nil {
		return err
	}
	k := len(t.Parts(b.rank))
	if k > 0 {
		stage := vec.Floats(b.stage(b.rank, m))
		for j := range k {
			copy(stage[j*n:(j+1)*n], parts[j])
		}
	}
	b.say(m, c.op, kindStaged, 0, n, uint64(t.Leaves()), false)
	b.come(c, m)
	if err := b.await(c, AnyRank, m); err != nil {
		return err
	}
	if err := b.checkAll(c, m); err != nil {
		return err
	}
	b.ins = b.ins[:0]
	for r := range Rank(b.size) {
		for j := range t.Parts(r) {
			if r == b.rank {
				b.ins = append(b.ins, parts[j][lo:hi])
			} else {
				b.ins = append(b.ins, vec.Floats(b.stage(r, m)[word*(j*n+lo):word*(j*n+hi)]))
			}
		}
	}
	for a := lo; a < hi; a += blockFloats {
		z := min(a+blockFloats, hi)
		b.sum(t, parts[0][a:z], nil, a-lo, z-lo)
		b.moved.Payload += int64(word * (z - a) * (len(b.ins) - k))
	}
	if lo < hi {
		b.moved.Messages += int64(len(b.ins) - k)
	}
	clear(b.ins)
	return nil
}

// swap is a collective over vectors where they are: with parts, each rank sums its chunk of them; with x, it makes its
// chunk of x (see apply) and spreads it. Vectors that others cannot reach go through their owner's scratch piece by
// piece, which costs the owner a copy in and out: pieces of all chunks make a segment, and while segment s is worked
// on, the results of s-1 are copied out and s+1 is copied in, a meeting each.
type swap struct {
	t       Tree
	parts   [][]float32 // nil in an all-gather
	x       []float32   // nil in a reduce-scatter
	f       func(lo, hi int)
	n       int
	meeting uint64

	apart   bool // x has its own place
	far     bool // some vector of this rank is out of reach
	xAt     int  // the number of x among the vectors of a piece in scratch
	vectors int  // those
	piece   int  // elements of a piece
	sources int  // other ranks' parts
	copied  int  // segments whose results are copied out
}

func (b *Board) swap(c *call, s swap) error {
	b.due = due{dueChunk, s.t, s.n}
	if s.parts != nil {
		b.due.kind = dueParts
	}
	m, err := b.begin(c)
	if err != nil {
		return err
	}
	s.meeting = m
	s.apart = s.parts != nil && s.x != nil && &s.x[0] != &s.parts[0][0]
	shape, kind := uint64(0), kindInPlace
	if s.parts != nil {
		shape = uint64(s.t.Leaves())
		s.vectors = s.t.most()
		s.sources = len(s.t.AllParts()) - len(s.t.Parts(b.rank))
	} else {
		s.vectors = 1
	}
	if s.apart {
		kind, s.xAt = kindApart, s.vectors
		s.vectors++
	}
	if s.vectors > maxVectors+1 {
		return fmt.Errorf("comm: %v of %d vectors of one rank; the most is %d", c.op, s.vectors, maxVectors)
	}
	for j := range s.parts {
		s.far = !b.mem.Publish(slot(m, j), vec.Bytes(s.parts[j])) || s.far
	}
	if s.x != nil {
		s.far = !b.mem.Publish(slot(m, maxVectors), vec.Bytes(s.x)) || s.far
	}
	most := (s.n + b.size - 1) / b.size
	s.piece = s.bounced(b.size)
	if s.far {
		b.copyIn(&s, 0)
	}
	b.own.work.Store(0)
	b.say(m, c.op, kind, 0, s.n, shape, s.far)
	b.come(c, m)
	if err := b.await(c, AnyRank, m); err != nil {
		return err
	}
	if err := b.checkAll(c, m); err != nil {
		return err
	}
	if !b.anyFar(m) {
		s.piece = max(most, 1)
	}
	b.due.kind = dueChunk
	for i := 0; i*s.piece < most; i++ {
		if i > 0 && s.far {
			b.copyOut(&s, i-1)
		}
		if (i+1)*s.piece < most && s.far {
			b.copyIn(&s, i+1)
		}
		if err := b.touch(c); err != nil {
			return err
		}
		err := b.work(c, &s, i)
		b.let()
		if err != nil {
			return err
		}
		b.come(c, b.turn+1)
		if err := b.await(c, AnyRank, b.turn); err != nil {
			return err
		}
	}
	if s.far && s.x != nil {
		b.copyOut(&s, (most-1)/s.piece)
	}
	for j := range s.parts {
		b.mem.Publish(slot(m, j), nil)
	}
	b.mem.Publish(slot(m, maxVectors), nil)
	return nil
}

// bounced is how long the pieces of vectors out of reach are.
func (s *swap) bounced(ranks int) int {
	q := bounceBytes / word / (s.vectors * ranks)
	if q >= line/word {
		q &^= line/word - 1
	}
	return max(q, 1)
}

// anyFar tells whether a vector of anybody is out of reach; all ranks see the same.
func (b *Board) anyFar(m uint64) bool {
	for _, cell := range b.cells {
		if cell.notes[m&1].far.Load() != 0 {
			return true
		}
	}
	return false
}

// span returns the elements of piece i of rank r's chunk.
func (s *swap) span(ranks int, r Rank, i int) (lo, hi int) {
	lo, hi = Chunk(s.n, ranks, r)
	lo = min(lo+i*s.piece, hi)
	return lo, min(lo+s.piece, hi)
}

// bounce returns where, in rank r's scratch, vector j of segment i has its piece for owner o.
func (b *Board) bounce(s *swap, r Rank, i, j int, o Rank, n int) []float32 {
	at := StageBytes + i%2*bounceBytes + word*s.piece*(j*b.size+int(o))
	return vec.Floats(b.mem.Scratch(r)[at : at+word*n])
}

// copyIn brings this rank's parts of segment i within reach: all but what it adds itself.
func (b *Board) copyIn(s *swap, i int) {
	if s.parts == nil {
		return
	}
	for j := range s.t.Parts(b.rank) {
		for o := Rank(0); int(o) < b.size && !b.reached(s, j); o++ {
			if lo, hi := s.span(b.size, o, i); o != b.rank && lo < hi {
				copy(b.bounce(s, b.rank, i, j, o, hi-lo), s.parts[j][lo:hi])
			}
		}
	}
}

// copyOut takes the results of segment i that the others have left in this rank's scratch.
func (b *Board) copyOut(s *swap, i int) {
	if s.x == nil || b.reached(s, maxVectors) {
		return
	}
	for o := range Rank(b.size) {
		if lo, hi := s.span(b.size, o, i); o != b.rank && lo < hi {
			copy(s.x[lo:hi], b.bounce(s, b.rank, i, s.xAt, o, hi-lo))
		}
	}
}

// reached tells whether the others can reach this rank's vector j where it is.
func (b *Board) reached(s *swap, j int) bool {
	p, err := b.mem.View(b.rank, slot(s.meeting, j), word*s.n)
	return err == nil && p != nil
}

// view returns elements [lo, hi) of vector j of rank r (at sl), which this rank works on in segment i.
func (b *Board) view(c *call, s *swap, r Rank, sl, j, i, lo, hi int) ([]float32, error) {
	p, err := b.mem.View(r, slot(s.meeting, sl), word*s.n)
	if err != nil {
		return nil, &PeerError{Rank: outermost(c.g, r), Op: c.op, Step: -1, Cause: err}
	}
	if p == nil {
		return b.bounce(s, r, i, j, b.rank, hi-lo), nil
	}
	return vec.Floats(p[word*lo : word*hi]), nil
}

// work is this rank's share of segment i.
func (b *Board) work(c *call, s *swap, i int) error {
	lo, hi := s.span(b.size, b.rank, i)
	if lo == hi {
		return nil
	}
	first, last := Chunk(s.n, b.size, b.rank)
	b.ins, b.outs = b.ins[:0], b.outs[:0]
	for r := range Rank(b.size) {
		if s.parts != nil {
			for j := range s.t.Parts(r) {
				if r == b.rank {
					b.ins = append(b.ins, s.parts[j][lo:hi])
					continue
				}
				v, err := b.view(c, s, r, j, j, i, lo, hi)
				if err != nil {
					return err
				}
				b.ins = append(b.ins, v)
			}
		}
		if s.x != nil && r != b.rank {
			v, err := b.view(c, s, r, maxVectors, s.xAt, i, lo, hi)
			if err != nil {
				return err
			}
			b.outs = append(b.outs, v)
		}
	}
	four := b.fourInPlace(s)
	for a := lo; a < hi; a += blockFloats {
		z := min(a+blockFloats, hi)
		outs := b.outs
		if four {
			i, k := a-lo, z-lo
			vec.AddFour(b.ins[0][i:k], b.ins[1][i:k], b.ins[2][i:k], b.ins[3][i:k])
			outs = nil
		} else if s.parts != nil {
			var also []float32
			if !s.apart && s.f == nil && len(outs) > 0 { // the sum is the result: one place more for no pass more
				also, outs = outs[0][a-lo:z-lo], outs[1:]
			}
			b.sum(s.t, s.parts[0][a:z], also, a-lo, z-lo)
		}
		if s.x != nil && !four {
			if s.parts != nil {
				c.apply(s.parts[0], s.x, s.f, a, z)
			}
			for _, out := range outs {
				copy(out[a-lo:z-lo], s.x[a:z])
			}
		}
		b.moved.Payload += int64(word * (z - a) * (s.sources + len(b.outs)))
		if err := b.goOn(c, uint64(word*(z-first))); err != nil {
			return err
		}
	}
	if hi == last {
		b.moved.Messages += int64(s.sources + len(b.outs))
	}
	clear(b.ins)
	clear(b.outs)
	return nil
}

// fourInPlace tells whether the inputs are four whose sum is (0+1)+(2+3) and goes to the same four places: the commonest
// sum of more than two, which is worth a kernel of its own: one pass instead of five.
func (b *Board) fourInPlace(s *swap) bool {
	if s.parts == nil || s.x == nil || s.apart || s.f != nil || len(b.ins) != 4 || len(b.outs) != 3 || b.size != 4 {
		return false
	}
	adds, i := s.t.Merge(), 0
	for r, in := range b.ins {
		if Rank(r) != b.rank {
			if &in[0] != &b.outs[i][0] {
				return false
			}
			i++
		}
	}
	return len(adds) == 3 && adds[0] == Add{0, 1} && adds[1] == Add{2, 3} && adds[2] == Add{0, 2}
}

// operand is where the sum of a node is while a block is added: an input, or a temporary.
type operand struct {
	p    []float32
	temp int // -1 for an input
}

// sum adds elements [lo, hi) of the inputs (b.ins, all parts in global order) in t's order into dst and, unless it is
// nil, also. Both may be that place of an input.
func (b *Board) sum(t Tree, dst, also []float32, lo, hi int) {
	adds := t.Merge()
	if len(adds) == 0 {
		if in := b.ins[0][lo:hi]; &in[0] != &dst[0] {
			copy(dst, in)
		}
		copy(also, dst)
		return
	}
	if len(adds) == 1 {
		last(dst, also, b.ins[adds[0].Dst][lo:hi], b.ins[adds[0].Src][lo:hi])
		return
	}
	b.at = b.at[:0]
	for _, in := range b.ins {
		b.at = append(b.at, operand{in[lo:hi], -1})
	}
	var used uint64 // temporaries
	for i, a := range adds {
		d, s := &b.at[a.Dst], &b.at[a.Src]
		switch {
		case i == len(adds)-1:
			last(dst, also, d.p, s.p)
		case d.temp >= 0:
			vec.AddTo(d.p, d.p, s.p)
		case s.temp >= 0:
			vec.AddTo(s.p, d.p, s.p)
			*d = *s
			continue
		default:
			k := 0
			for used>>k&1 != 0 {
				k++
			}
			used |= 1 << k
			p := b.temp(k)[:hi-lo]
			vec.AddTo(p, d.p, s.p)
			*d = operand{p, k}
		}
		if s.temp >= 0 {
			used &^= 1 << s.temp
		}
	}
	clear(b.at)
}

// last is the last addition of a sum.
func last(dst, also, a, b []float32) {
	if also == nil {
		vec.AddTo(dst, a, b)
	} else {
		vec.AddBoth(dst, also, a, b)
	}
}

// temp returns temporary k. A sum needs no more of them than its tree has levels.
func (b *Board) temp(k int) []float32 {
	for k >= len(b.temps) {
		b.temps = append(b.temps, alignedFloats(blockFloats))
	}
	return b.temps[k]
}

// broadcast implements Broadcast. A stage's worth goes by the root's stage, which the others copy from as they come; the
// root does not wait. What is longer they copy from where it is, or, out of reach, from the root's scratch, of which the
// root fills one half while they copy the other.
func (b *Board) broadcast(c *call, root Rank, p []byte) error {
	b.due = due{dueBytes, Tree{}, len(p)}
	m, err := b.begin(c)
	if err != nil {
		return err
	}
	if b.rank == root {
		return b.broadcastFrom(c, m, p)
	}
	if err := b.await(c, root, m); err != nil {
		return err
	}
	b.say(m, c.op, kindBroadcast, root, len(p), 0, false)
	if err := b.check(c, m, root); err != nil {
		c.touched = true
		return err
	}
	defer b.let()
	switch far := b.cells[root].notes[m&1].far.Load() != 0; {
	case len(p) <= stageBytes:
		copy(p, b.stage(root, m))
		b.moved.Payload += int64(len(p))
		b.come(c, m)
	case !far:
		q, err := b.mem.View(root, slot(m, 0), len(p))
		if err != nil || q == nil {
			c.touched = true
			return &PeerError{Rank: outermost(c.g, root), Op: c.op, Step: -1, Cause: fmt.Errorf("its vector cannot be reached: %w", err)}
		}
		if err := b.touch(c); err != nil {
			return err
		}
		for at := 0; at < len(p); at += bounceBytes {
			end := min(at+bounceBytes, len(p))
			copy(p[at:end], q[at:end])
			b.moved.Payload += int64(end - at)
			if err := b.goOn(c, uint64(end)); err != nil {
				return err
			}
		}
		b.let()
		b.come(c, m)
	default:
		for i := 0; i*bounceBytes < len(p); i++ {
			if err := b.await(c, root, m+uint64(i)); err != nil {
				return err
			}
			k := copy(p[i*bounceBytes:], b.half(root, i))
			b.moved.Payload += int64(k)
			b.come(c, m+uint64(i))
		}
	}
	b.moved.Messages++
	return nil
}

// half returns rank r's scratch for part i of a stream.
func (b *Board) half(r Rank, i int) []byte {
	at := StageBytes + i%2*bounceBytes
	return b.mem.Scratch(r)[at : at+bounceBytes]
}

func (b *Board) broadcastFrom(c *call, m uint64, p []byte) error {
	if len(p) <= stageBytes {
		copy(b.stage(b.rank, m), p)
		b.say(m, c.op, kindBroadcast, b.rank, len(p), 0, false)
		b.come(c, m)
		return nil
	}
	near := b.mem.Publish(slot(m, 0), p)
	b.say(m, c.op, kindBroadcast, b.rank, len(p), 0, !near)
	if near {
		b.come(c, m)
		err := b.await(c, AnyRank, m)
		if err == nil {
			b.mem.Publish(slot(m, 0), nil)
		}
		return err
	}
	for i := 0; i*bounceBytes < len(p); i++ {
		if i > 1 {
			if err := b.await(c, AnyRank, m+uint64(i)-2); err != nil {
				return err
			}
		}
		copy(b.half(b.rank, i), p[i*bounceBytes:])
		b.come(c, m+uint64(i))
	}
	return nil
}
