package reduce

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/compress"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/rng"
	"github.com/covey-ml/covey/vec"
)

// Config is what a compressed sum works with.
type Config struct {
	Group  comm.Group
	Tree   comm.Tree
	Exact  Reducer // over Group and Tree: sums vectors of which nothing is compressed
	Layout model.Layout
	Rules  Rules
	Seed   uint64 // of all draws
	Name   string // tells the draws of two reducers of one run apart
}

// Compressed sums approximately, by what its rules choose for each segment.
//
// A rank first adds its parts; then it speaks for itself alone, so that the result depends on how many ranks there are.
// What is encoded is this one vector, with what error feedback kept; small segments, and the head, stay exact and go
// along in the same messages. The words: a way is how bytes go, a cut is a run of one segment that one code stands for.
//
//	two-way   Each segment is cut into a chunk for each rank. A rank sends every owner the codes of its chunks; the owner
//	          adds the vectors they stand for in the order of the tree, encodes the sum, and sends that code to all. Two
//	          rounds of P-1 messages and 2(P-1)/P codes a rank, as the bytes of an exact all-reduce, and nothing travels
//	          uncompressed in either direction. With error feedback the owner keeps what its code of the sum lost, too
//	          (Tang et al., DoubleSqueeze, arXiv 1905.05957, algorithm 1).
//	gather    Each rank sends its code to all, and all add them up in the order of ranks: for sparse codes, whose union is
//	          still sparse, and for EF21, whose sum must be that of the codes. One round, P-1 codes a rank.
//	low rank  PowerSGD: see lowrank.go.
//	vote      Two-way, with signs and their majority: see vote.go.
//
// Ranks that own no microshard receive and say nothing. A call that returned an error may have changed what error
// feedback keeps.
type Compressed struct {
	c        Config
	hollow   bool       // nothing is computed
	one      comm.Tree  // of one vector a rank
	merge    []comm.Add // adds the vectors of the active ranks
	active   int        // ranks that have something to say
	segments []segment
	plans    map[[3]int]*plan // by place, head and length
	codec    atomic.Int64     // nanoseconds spent in codes since Codec was asked
	cost     comm.Cost        // of codes, that the clock has not heard of

	send, recv [][]byte    // by rank
	room       [][]byte    // what recv is cut from
	codes      []byte      // this rank's, for all
	mine       []byte      // this rank's message for all: the codes of the sums that it owns, and codes
	broken     error       // why this rank has no codes
	at         []int       // by rank: how far its message was read
	parts      [][]byte    // by rank: its code of one cut
	sums       [][]float32 // by rank: what its code stands for
	open       []bool      // by rank: sums is there
	scratch    []float32
	vector     [1][]float32 // of sumExactly
	counter    counter
}

// NewCompressed returns the reducer that c describes. It allocates what error feedback keeps.
func NewCompressed(c Config) *Compressed {
	size := c.Group.Size()
	k := min(size, c.Tree.Leaves())
	r := &Compressed{c: c, hollow: comm.IsHollow(c.Group), active: k, plans: map[[3]int]*plan{}, send: make([][]byte, size), recv: make([][]byte, size),
		room: make([][]byte, size), at: make([]int, k), parts: make([][]byte, k), sums: make([][]float32, k), open: make([]bool, k)}
	if r.one = c.Tree; len(c.Tree.AllParts()) != r.active {
		r.one = comm.NewTree(r.active, size)
	}
	r.merge = r.one.Merge()
	for i, s := range c.Layout {
		r.segments = append(r.segments, newSegment(c.Group, s, i, c.Rules.of(s)))
	}
	return r
}

var _ Reducer = (*Compressed)(nil)

// ErrNotFinite says that some rank's vector holds a NaN or an infinity. All ranks return it from the same call.
var ErrNotFinite = errors.New("reduce: a worker's vector holds a NaN or an infinity")

// ErrNoCode says that the chosen compressor has no code for some rank's vector, which is finite. All ranks return it from the
// same call; that rank's says why.
var ErrNoCode = errors.New("reduce: a worker's vector has no code")

// Sum implements Reducer. v covers whole segments of the layout.
func (r *Compressed) Sum(ctx context.Context, v Vector) error {
	p, err := r.plan(v)
	if err != nil {
		return err
	}
	if p.lossless() {
		return r.c.Exact.Sum(ctx, v)
	}
	p.rescale(v.total())
	x := v.Parts[0]
	for _, part := range v.Parts[1:] {
		add(r.c.Group, x, part)
	}
	if err := r.lowRank(ctx, p, x, v); err != nil {
		return err
	}
	err = r.timed(func() error { return r.encode(p, x, v) })
	if err != nil {
		return err
	}
	if len(p.scattered) > 0 {
		if err := r.scatter(ctx, p); err != nil {
			return err
		}
		if err := r.timed(func() error { return r.mergeOwn(p, x, v) }); err != nil {
			return err
		}
	}
	if len(p.scattered)+len(p.gathered) > 0 {
		if err := r.collect(ctx, p); err != nil {
			return err
		}
		return r.timed(func() error { return r.decode(p, x, v) })
	}
	return nil
}

// key is what draws for one code hang on.
func (r *Compressed) key(purpose string, v Vector, segment int) uint64 {
	return rng.Key(r.c.Seed, "reduce/"+purpose+r.c.Name, uint64(v.Step), uint64(segment), uint64(r.c.Group.Rank()))
}

// speaks tells whether this rank has something to say.
func (r *Compressed) speaks() bool { return int(r.c.Group.Rank()) < r.active }

// encode writes this rank's codes: of its chunks, for each owner, into send, and those for all into codes.
func (r *Compressed) encode(p *plan, x []float32, v Vector) error {
	r.broken, r.codes, r.mine = nil, r.codes[:0], r.mine[:0]
	if !r.speaks() {
		return nil
	}
	for rank := range r.active {
		r.send[rank] = r.send[rank][:0]
	}
	write := func(dst []byte, pc piece, in []float32, rank int) []byte {
		r.encoded(pc, len(in))
		if r.hollow {
			return r.longest(dst, pc, len(in))
		}
		dst, err := pc.encode(dst, in, r.key("code", v, pc.index*r.active+rank), v.Step)
		r.fail(err)
		return dst
	}
	for _, pc := range p.scattered {
		in := r.input(pc, x, v)
		for rank := range r.active {
			if lo, hi := comm.Chunk(len(in), r.active, comm.Rank(rank)); lo < hi {
				r.send[rank] = write(r.send[rank], pc, in[lo:hi], rank)
			}
		}
	}
	for _, pc := range p.gathered {
		r.codes = write(r.codes, pc, r.input(pc, x, v), 0)
	}
	if len(p.scattered) > 0 {
		for rank := range r.active {
			r.send[rank] = r.seal(r.send[rank])
		}
	}
	if r.broken != nil || r.hollow {
		return nil
	}
	return r.settle(p, v)
}

// The last byte of a message says whether its sender had codes.
const (
	fine     = 0
	infinite = 1 // no: ErrNotFinite
	codeless = 2 // no: ErrNoCode
)

func ending(err error) byte {
	switch {
	case err == nil:
		return fine
	case errors.Is(err, ErrNotFinite), errors.Is(err, compress.ErrNotFinite):
		return infinite
	}
	return codeless
}

// verdict is the error that a last byte stands for, nil when there is none; ok tells whether it stands for anything.
func verdict(end byte) (err error, ok bool) {
	switch end {
	case fine:
		return nil, true
	case infinite:
		return ErrNotFinite, true
	case codeless:
		return ErrNoCode, true
	}
	return nil, false
}

// fail notes the first reason why this rank has no codes, if it is one.
func (r *Compressed) fail(err error) {
	if err == nil || r.broken != nil {
		return
	}
	if kind, _ := verdict(ending(err)); !errors.Is(err, kind) {
		err = fmt.Errorf("%w: %w", kind, err)
	}
	r.broken = err
}

// settle takes what this rank sends off what it keeps.
func (r *Compressed) settle(p *plan, v Vector) error {
	clear(r.at)
	own := func(pc piece, lo, hi int, from []byte, at *int) error {
		code, n, err := pc.cut(from[*at:], hi-lo, v.Step)
		if err == nil {
			err = pc.sent(lo, hi, code, v.Step, r.temp(hi-lo))
		}
		if err != nil {
			return fmt.Errorf("reduce: this rank's own code: %w", err)
		}
		*at += n
		return nil
	}
	for _, pc := range p.scattered {
		for rank := range r.active {
			if lo, hi := comm.Chunk(pc.hi-pc.lo, r.active, comm.Rank(rank)); lo < hi {
				if err := own(pc, lo, hi, r.send[rank], &r.at[rank]); err != nil {
					return err
				}
			}
		}
	}
	at := 0
	for _, pc := range p.gathered {
		if err := own(pc, 0, pc.hi-pc.lo, r.codes, &at); err != nil {
			return err
		}
	}
	return nil
}

// temp returns n elements that are free until temp is called again.
func (r *Compressed) temp(n int) []float32 {
	r.scratch = vec.Resized(r.scratch, n)
	return r.scratch
}

// scatter sends each owner its chunks' codes.
func (r *Compressed) scatter(ctx context.Context, p *plan) error {
	clear(r.recv)
	if !r.speaks() {
		return comm.AllToAllUpTo(ctx, r.c.Group, r.recv, r.recv) // nothing either way, but the same calls as all
	}
	me := r.c.Group.Rank()
	for rank := range r.active {
		if comm.Rank(rank) != me {
			r.recv[rank] = r.space(rank, p.chunkMost(r.active, me)+1)
		}
	}
	if err := comm.AllToAllUpTo(ctx, r.c.Group, r.send, r.recv); err != nil {
		return err
	}
	r.recv[me] = r.send[me]
	return nil
}

// collect sends this rank's message to all and takes theirs.
func (r *Compressed) collect(ctx context.Context, p *plan) error {
	clear(r.recv)
	me := r.c.Group.Rank()
	for rank := range r.active {
		if comm.Rank(rank) != me {
			r.recv[rank] = r.space(rank, p.chunkMost(r.active, comm.Rank(rank))+p.gatherMost()+1)
		}
	}
	var mine []byte
	if r.speaks() {
		mine = r.seal(r.joined(r.codes, r.mine))
		r.mine = mine
	}
	if err := comm.AllGatherUpTo(ctx, r.c.Group, mine, r.recv); err != nil {
		return err
	}
	if r.speaks() {
		r.recv[me] = mine
	}
	return nil
}

// space is room for a message from a rank.
func (r *Compressed) space(rank, n int) []byte {
	if r.hollow {
		return r.nothing(n)
	}
	r.room[rank] = vec.Resized(r.room[rank], n)
	return r.room[rank]
}

// unseal takes the last byte off each message, and fails on all ranks alike when one says that there were no codes.
func (r *Compressed) unseal() error {
	for rank, m := range r.recv[:r.active] {
		if len(m) == 0 {
			return r.corrupt(rank, errors.New("an empty message"))
		}
		switch err, ok := verdict(m[len(m)-1]); {
		case !ok:
			return r.corrupt(rank, fmt.Errorf("a message that ends in %d", m[len(m)-1]))
		case err == nil:
		case r.broken != nil: // this rank knows more
			return r.broken
		default:
			return fmt.Errorf("%w: worker %d's", err, rank)
		}
		r.recv[rank], r.at[rank] = m[:len(m)-1], 0
	}
	return nil
}

// corrupt is the error of a message that its sender cannot have meant. It fails the group's collectives for all.
func (r *Compressed) corrupt(rank int, cause error) error {
	e := &comm.PeerError{Rank: comm.Rank(rank), Op: comm.OpAllReduce, Step: -1, Cause: cause}
	if p, ok := r.c.Group.(comm.Poisoner); ok {
		return p.Poison(e)
	}
	return e
}

// mergeOwn adds up the chunks that this rank owns and writes the codes of the sums into mine.
func (r *Compressed) mergeOwn(p *plan, x []float32, v Vector) error {
	if !r.speaks() {
		return nil
	}
	if r.hollow {
		r.mergeNothing(p)
		return nil
	}
	if err := r.unseal(); errors.Is(err, ErrNotFinite) || errors.Is(err, ErrNoCode) {
		r.fail(err) // all ranks hear of it with the next message
		return nil
	} else if err != nil {
		return err
	}
	for _, pc := range p.scattered {
		lo, hi := comm.Chunk(pc.hi-pc.lo, r.active, r.c.Group.Rank())
		if lo == hi {
			continue
		}
		sum := x[pc.lo+lo : pc.lo+hi]
		if err := r.add(pc, sum, v); err != nil {
			return err
		}
		r.encoded(pc, hi-lo)
		var err error
		r.mine, err = pc.encodeSum(r.mine, sum, lo, hi, r.key("sum", v, pc.index), v.Step, r.temp(hi-lo))
		r.fail(err)
	}
	return r.used()
}

// used checks that all of each message was read.
func (r *Compressed) used() error {
	for rank, m := range r.recv[:r.active] {
		if left := len(m) - r.at[rank]; left != 0 {
			return r.corrupt(rank, fmt.Errorf("%d bytes too many", left))
		}
	}
	return nil
}

// add leaves in sum what the next codes of all ranks add up to.
func (r *Compressed) add(pc piece, sum []float32, v Vector) error {
	for rank := range r.parts {
		code, n, err := pc.cut(r.recv[rank][r.at[rank]:], len(sum), v.Step)
		if err != nil {
			return r.corrupt(rank, err)
		}
		r.parts[rank] = code
		r.at[rank] += n
	}
	bytes := 0
	for _, code := range r.parts {
		bytes += len(code)
	}
	r.added(pc, len(sum), bytes)
	if pc.way == vote {
		r.counter.majority(sum, r.parts, v.total(), r.key("tie", v, pc.index))
		return nil
	}
	codec := pc.at(v.Step)
	if _, sparse := codec.(compress.Sparse); !sparse {
		return r.addTree(codec, sum)
	}
	clear(sum)
	for rank, code := range r.parts {
		if err := compress.Add(codec, sum, code, 1, nil); err != nil {
			return r.corrupt(rank, err)
		}
	}
	return nil
}

// addTree adds dense codes up in the tree's order: rank 0's vector is where the sum ends, and a rank's vector that
// nothing has been added to is added straight from its code.
func (r *Compressed) addTree(codec compress.Compressor, sum []float32) error {
	n := len(sum)
	clear(r.open)
	r.sums[0] = sum
	decoded := func(i int) ([]float32, error) {
		r.sums[i] = vec.Resized(r.sums[i], n)
		y := r.sums[i]
		if r.open[i] {
			return y, nil
		}
		r.open[i] = true
		if err := codec.Decode(y, r.parts[i]); err != nil {
			return nil, r.corrupt(i, err)
		}
		return y, nil
	}
	if _, err := decoded(0); err != nil {
		return err
	}
	for _, a := range r.merge {
		y, err := decoded(a.Dst)
		if err != nil {
			return err
		}
		if r.open[a.Src] {
			vec.Add(y, r.sums[a.Src][:n])
		} else if err := compress.Add(codec, y, r.parts[a.Src], 1, r.temp(n)); err != nil {
			return r.corrupt(a.Src, err)
		}
	}
	return nil
}

// decode reads everybody's message: the sums of the chunks that they own, and their codes for all.
func (r *Compressed) decode(p *plan, x []float32, v Vector) error {
	for _, pc := range p.scattered {
		r.cost.Bytes += codeBytes * int64(pc.hi-pc.lo)
	}
	if r.hollow {
		r.decodeNothing(p)
		return nil
	}
	if err := r.unseal(); err != nil {
		return err
	}
	for _, pc := range p.scattered {
		for rank := range r.active {
			lo, hi := comm.Chunk(pc.hi-pc.lo, r.active, comm.Rank(rank))
			if lo == hi {
				continue
			}
			code, n, err := pc.cut(r.recv[rank][r.at[rank]:], hi-lo, v.Step)
			if err == nil {
				err = pc.decodeSum(x[pc.lo+lo:pc.lo+hi], code, v)
			}
			if err != nil {
				return r.corrupt(rank, err)
			}
			r.at[rank] += n
		}
	}
	infinite := false
	for _, pc := range p.gathered {
		if err := r.add(pc, x[pc.lo:pc.hi], v); err != nil {
			return err
		}
		pc.took(x[pc.lo:pc.hi])
		infinite = infinite || pc.lossy() && !vec.Finite(x[pc.lo:pc.hi])
	}
	if err := r.used(); err != nil {
		return err
	}
	if infinite { // all ranks have the same sum
		return fmt.Errorf("%w: or their sum does", ErrNotFinite)
	}
	return nil
}
