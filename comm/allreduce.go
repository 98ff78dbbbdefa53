package comm

import (
	"context"
	"fmt"
	"strings"

	"github.com/covey-ml/covey/vec"
)

// Algorithm is a way to move the bytes of an all-reduce. All but Ring give the bits of the canonical order.
//
// In their costs P is the number of ranks, S the bytes of the vector, k the parts of a rank (1 when the leaves are
// a power of two times P) and K those of all.
type Algorithm uint8

// The algorithms.
const (
	// Auto lets Choose decide.
	Auto Algorithm = iota
	// Direct is reduce-scatter, then all-gather: the owner of each chunk gets everybody's parts of it, adds them in
	// tree order and sends the result to all. Any P. Two rounds, (k+1)(P-1) messages and (k+1)(P-1)/P S bytes a rank;
	// scratch K/P S. Long chunks go in segments of SegmentBytes, a message each, so that the two rounds overlap; scratch
	// is then at most K times some segments. Update is Direct with a hook in its middle.
	Direct
	// Doubling is recursive doubling, nearest first: in round i a rank exchanges its whole sum with the rank 2^i away
	// and adds. P must be a power of two and each rank own one node of the same level. log2 P rounds, as many messages
	// and log2 P S bytes a rank; scratch log2 P S.
	Doubling
	// Gather sends every part to everybody, and everybody adds them all in tree order. Any P. One round, P-1 messages
	// and k(P-1) S bytes a rank; scratch K S.
	Gather
	// Binomial is reduce to rank 0 along the binomial tree, nearest first, and broadcast back. Between ranks goes the
	// list of nodes that make up the leaves below. Any P. 2 ceil(log2 P) rounds; a rank sends its list once, at most
	// 2 log2 M vectors of S bytes and one when all own equal powers of two of leaves, and S to each child.
	Binomial
	// Ring sends chunks round in P-1 steps of adding and P-1 of spreading (Patarasuk and Yuan, Bandwidth optimal
	// all-reduce algorithms for clusters of workstations, 2009). Each chunk is added in another order, so its bits
	// depend on P; Choose never takes it. 2(P-1) rounds and messages and 2(P-1)/P S bytes a rank; scratch 2/P S.
	Ring
)

var algorithmNames = []string{"auto", "direct", "doubling", "gather", "tree", "ring"}

// String returns the name that ParseAlgorithm takes.
func (a Algorithm) String() string {
	if int(a) < len(algorithmNames) {
		return algorithmNames[a]
	}
	return fmt.Sprintf("algorithm(%d)", uint8(a))
}

// Canonical tells whether the algorithm gives the bits of the canonical order at every number of ranks.
func (a Algorithm) Canonical() bool { return a != Ring }

// ParseAlgorithm returns the algorithm of a name: auto, direct, doubling, gather, tree or ring.
func ParseAlgorithm(name string) (Algorithm, error) {
	for i, n := range algorithmNames {
		if n == name {
			return Algorithm(i), nil
		}
	}
	return 0, fmt.Errorf("all-reduce %q: want one of %s", name, strings.Join(algorithmNames, ", "))
}

// Fits tells whether the algorithm can sum over t.
func (a Algorithm) Fits(t Tree) bool {
	return a != Doubling && int(a) < len(algorithmNames) || a == Doubling && t.p.perfect
}

// Choose returns the algorithm that should be fastest for a vector of so many bytes. It never chooses Ring. The
// result has the same bits whatever it chooses; the bounds are where rounds (a few microseconds each) begin to cost
// less than bytes and additions. They are rough: one table for all transports.
//
//	when                                       | algorithm | because
//	2 ranks, one equal node each, to 64 KiB    | doubling  | one round, one addition, no copies
//	all parts of everybody fit in 16 KiB       | gather    | one round
//	one equal node a rank, P = 2^i, to 64 KiB  | doubling  | log2 P rounds and messages, few bytes too many
//	more than 16 ranks, to 16 KiB              | tree      | each rank talks to log2 P others, not to all
//	else                                       | direct    | least bytes, and each element is added once
func Choose(t Tree, bytes int) Algorithm {
	ranks := t.Ranks()
	switch {
	case ranks > 2 && bytes*len(t.AllParts()) <= 16<<10:
		return Gather
	case Doubling.Fits(t) && bytes <= 64<<10:
		return Doubling
	case ranks == 2 && bytes*len(t.AllParts()) <= 16<<10:
		return Gather
	case ranks > 16 && bytes <= 16<<10:
		return Binomial
	}
	return Direct
}

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
		a = Choose(t, word*n)
	}
	if !a.Fits(t) {
		return fmt.Errorf("comm: all-reduce by %v needs a power of two of ranks that own one equal subtree each, "+
			"not %d ranks over %d leaves; direct fits all", a, t.Ranks(), t.Leaves())
	}
	c, err := enter(ctx, g, OpAllReduce)
	if err != nil {
		return err
	}
	Announce(g, OpAllReduce, AllReduceBill(a, t, c.rank, n))
	switch {
	case n == 0 || len(t.AllParts()) == 0:
	case c.size == 1: // its leaves make one part
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
	if want := t.Vectors(g.Rank()); len(parts) != want {
		return fmt.Errorf("comm: %v: rank %d hands in %d vectors, its run of leaves makes %d", op, g.Rank(), len(parts), want)
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
		vec.Add(x, room[i*n:(i+1)*n])
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
			copy(at(own+j), parts[j])
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
		vec.Add(at(a.Dst), at(a.Src))
	}
	copy(parts[0], at(0))
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
			vec.Add(at(a.Dst), at(a.Src))
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
