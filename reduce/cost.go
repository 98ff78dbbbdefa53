package reduce

import (
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/compress"
	"github.com/covey-ml/covey/vec"
)

// What codes cost, for a virtual clock. It is rough: how fast a code is depends on much that bytes do not tell.
const (
	// codeBytes is what an element moves that is encoded or decoded: it is read or written, and so is what goes with it.
	codeBytes = 8
	// keptBytes is what it moves besides with error feedback: it is added to what is kept, and what was sent taken off.
	keptBytes = 12 + 8
	// entryBytes is what a byte of a sparse code moves when it is added up: it is read, and names what is read and written.
	entryBytes = 4
)

// Coder is asked for at run time: a Reducer that encodes and decodes.
type Coder interface {
	// Codec returns the time spent in that since it was asked last. Any goroutine may ask.
	Codec() time.Duration
}

// Codec implements Coder.
func (r *Compressed) Codec() time.Duration {
	return time.Duration(r.codec.Swap(0))
}

// timed runs f, tells the clock what it cost, and books its time.
func (r *Compressed) timed(f func() error) error {
	clock := r.c.Group.Clock()
	t := clock.Now()
	err := f()
	clock.Spend(r.cost)
	r.cost = comm.Cost{}
	r.codec.Add(int64(clock.Now() - t))
	return err
}

// add adds src to dst, for its cost; on a hollow group it does nothing.
func add(g comm.Group, dst, src []float32) {
	if !comm.IsHollow(g) {
		vec.Add(dst, src)
	}
	g.Clock().Spend(comm.Cost{Bytes: 4 * 3 * int64(len(dst))})
}

// move copies src to dst, and returns how many elements that are, for the cost.
func (r *Compressed) move(dst, src []float32) int {
	if !r.hollow {
		copy(dst, src)
	}
	r.c.Group.Clock().Spend(comm.Cost{Bytes: 4 * 2 * int64(len(src))})
	return len(src)
}

// encoded owes the clock for the code of n elements.
func (r *Compressed) encoded(pc piece, n int) {
	r.cost.Bytes += codeBytes * int64(n)
	if pc.feedback != forget {
		r.cost.Bytes += keptBytes * int64(n)
	}
}

// added owes the clock for adding all ranks' codes of n elements up, of so many bytes together.
func (r *Compressed) added(pc piece, n, bytes int) {
	if _, sparse := pc.codec.(compress.Sparse); sparse {
		r.cost.Bytes += 4*int64(n) + entryBytes*int64(bytes)
	} else {
		r.cost.Bytes += codeBytes * int64(n) * int64(r.active)
	}
}

// product owes the clock for a product of a matrix and factors: per element of the matrix, and factor.
func (r *Compressed) product(pc piece) {
	r.cost.FLOPs += 2 * int64(pc.rank) * int64(pc.hi-pc.lo)
}

// On a hollow group nothing is encoded. A code is then as long as it may be, and only its length is sent.

// input is pc.input, where anything is computed.
func (r *Compressed) input(pc piece, x []float32, v Vector) []float32 {
	if r.hollow {
		return x[pc.lo:pc.hi]
	}
	return pc.input(x, v)
}

func (r *Compressed) nothing(n int) []byte { return hollowBytes(r.c.Group, n) }

// longest appends room for any code of n elements, which is on a hollow group the same for all.
func (r *Compressed) longest(dst []byte, pc piece, n int) []byte {
	return r.nothing(len(dst) + pc.most(n))
}

// seal appends the byte that says whether this rank had codes.
func (r *Compressed) seal(m []byte) []byte {
	if r.hollow {
		return r.nothing(len(m) + 1)
	}
	return append(m, ending(r.broken))
}

// joined appends one message to another.
func (r *Compressed) joined(m, to []byte) []byte {
	if r.hollow {
		return r.nothing(len(to) + len(m))
	}
	return append(to, m...)
}

// mergeNothing is mergeOwn without numbers.
func (r *Compressed) mergeNothing(p *plan) {
	for _, pc := range p.scattered {
		if lo, hi := comm.Chunk(pc.hi-pc.lo, r.active, r.c.Group.Rank()); lo < hi {
			r.added(pc, hi-lo, r.active*pc.most(hi-lo))
			r.encoded(pc, hi-lo)
			r.mine = r.longest(r.mine, pc, hi-lo)
		}
	}
}

// decodeNothing is decode without numbers.
func (r *Compressed) decodeNothing(p *plan) {
	for _, pc := range p.gathered {
		r.added(pc, pc.hi-pc.lo, r.active*pc.most(pc.hi-pc.lo))
	}
}
