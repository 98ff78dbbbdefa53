package comm

import (
	"fmt"
	"math/bits"
	"slices"

	"github.com/covey-ml/covey/spec"
)

// Algorithm is a way to move the bytes of an all-reduce. All but Ring and Native give the bits of the canonical order. Torus and
// Hierarchical take a number, which Rows and Hosts put in.
//
// In their costs P is the number of ranks, S the bytes of the vector, k the parts of a rank (1 when the leaves are
// a power of two times P) and K those of all.
type Algorithm uint32 // from below: 8 bits of kind, 24 of parameter

// The algorithms.
const (
	// Auto is what ChooseOn says: Shared where the ranks share memory, and what Choose says elsewhere.
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
	// Hierarchical lays the ranks out in rows, one a host of the tree (Tree.On), so that all but the exchange between
	// ranks of one number stays inside a host: see Torus. Hosts may have different numbers of ranks: chunks are then as
	// many as the smallest has ranks, and the first ranks of each host own them. With one host it does what Direct
	// does; with one rank a host, too.
	Hierarchical
	// Torus lays the ranks out in rows of neighbours: reduce-scatter along the rows, all-reduce along the columns,
	// all-gather along the rows (Mikami et al., Massively distributed SGD, arXiv 1811.05233, section 2.2). Where the
	// paper runs rings, which add in an order of their own, every exchange here is direct and each rank of a column
	// hands in one partial sum for each aligned subtree of its row's leaves: the bits are the tree's for any rows. One
	// subtree a row, and so the fewest bytes, when rows are a power of two long and own a power of two of leaves.
	// At least two rows and two columns. With R rows of C ranks, k parts a rank and q subtrees a row: four rounds
	// (three when two rows of one subtree each swap whole chunks), (k+1)(C-1) + (q+1)(R-1) messages and, in units of
	// S, (k+1)(C-1)/C + (q+1)(R-1)/P a rank. Without a number of rows, squareRows chooses it.
	Torus
	// Shared moves no messages: the ranks read and write each other's vectors where they are, in memory that they share
	// (see Board). Any P, on transports that have such memory. To 64 KiB over all parts of everybody each adds everything:
	// one meeting, (K-k) S bytes read from others a rank. Beyond, each adds its chunk and writes the sum to all: two
	// meetings, (K-k+P-1)/P S bytes read from and written to others. No scratch but for vectors outside of the shared
	// memory, see Alloc.
	Shared
	// Native is the transport's own sum, on those that have one (see AllReducer; mpi's is MPI_Allreduce). In which order it
	// adds is its own affair: with as many ranks it may be the same from run to run, and need not be. Choose never takes it.
	// How its bytes go is not known here: the ledger books each rank's vector once, as handed over.
	Native

	numKinds = iota
)

var algorithmNames = [numKinds]string{"auto", "direct", "doubling", "gather", "tree", "ring", "hierarchical", "torus", "shared", "native"}

// AlgorithmNames returns what ParseAlgorithm knows, without parameters.
func AlgorithmNames() []string { return append([]string(nil), algorithmNames[:]...) }

func (a Algorithm) kind() Algorithm { return a & 0xff }
func (a Algorithm) number() int     { return int(a >> 8) }

// Rows is a Torus of so many rows, as even as can be; 0 is squareRows' choice.
func (a Algorithm) Rows(n int) Algorithm { return a.with(Torus, n) }

// Hosts is Hierarchical as if the ranks lay on so many hosts, as even as can be; 0 is the tree's hosts.
func (a Algorithm) Hosts(n int) Algorithm { return a.with(Hierarchical, n) }

func (a Algorithm) with(of Algorithm, n int) Algorithm {
	if a.kind() != of || n < 0 || n >= 1<<24 {
		panic(fmt.Sprintf("comm: %v with the number %d", a, n))
	}
	return of | Algorithm(n)<<8
}

// parameter is the name of an algorithm's number, "" when it has none.
func (a Algorithm) parameter() string {
	switch a.kind() {
	case Torus:
		return "rows"
	case Hierarchical:
		return "hosts"
	}
	return ""
}

// String returns the name that ParseAlgorithm takes, with its parameter.
func (a Algorithm) String() string {
	switch {
	case a.kind() >= numKinds || a.number() != 0 && a.parameter() == "":
		return fmt.Sprintf("algorithm(%d)", uint32(a))
	case a.number() != 0:
		return fmt.Sprintf("%s:%s=%d", algorithmNames[a.kind()], a.parameter(), a.number())
	}
	return algorithmNames[a.kind()]
}

// ParseAlgorithm returns the algorithm of a name: auto, direct, doubling, gather, tree, ring, torus or torus:rows=R,
// hierarchical or hierarchical:hosts=H, shared, native.
func ParseAlgorithm(text string) (Algorithm, error) {
	s, err := spec.Parse(text)
	if err != nil {
		return 0, err
	}
	for i, name := range algorithmNames {
		a := Algorithm(i)
		if name != s.Name {
			continue
		}
		if p := a.parameter(); p != "" {
			n := s.Int(p, 0)
			if err := s.Done(); err != nil {
				return 0, err
			}
			if some := len(s.Args)+len(s.Opts) > 0; some && n < 1 || n >= 1<<24 {
				return 0, fmt.Errorf("%s: %d %s; want at least 1, or leave it out", name, n, p)
			}
			return a.with(a, n), nil
		}
		return a, s.Done()
	}
	return 0, spec.OneOf("algorithm", s.Name, algorithmNames[:]...)
}

// Canonical tells whether the algorithm gives the bits of the canonical order at every number of ranks.
func (a Algorithm) Canonical() bool { return a != Ring && a != Native }

// Fits tells whether the algorithm can sum over t; Check says why not.
func (a Algorithm) Fits(t Tree) bool {
	switch ranks := t.Ranks(); {
	case a.kind() >= numKinds || a.number() != 0 && a.parameter() == "":
		return false
	case a == Doubling:
		return t.p.perfect
	case a == Shared:
		return t.most() <= maxVectors
	case ranks == 1:
		return true
	case a.kind() == Torus:
		rows := a.rows(ranks)
		return rows >= 2 && rows <= ranks/2
	}
	return a.number() <= t.Ranks() // no more hosts than ranks
}

// Check returns an error that says what the algorithm needs and t does not have, and what to take instead.
func (a Algorithm) Check(t Tree) error {
	if a.Fits(t) {
		return nil
	}
	ranks := t.Ranks()
	switch a.kind() {
	case Doubling:
		return fmt.Errorf("%v needs a power of two of workers that own one equal subtree each, not %d over %d leaves; direct fits all", a, ranks, t.Leaves())
	case Torus:
		if ranks < 4 {
			return fmt.Errorf("%v needs two rows and two columns, so at least 4 workers, not %d; direct fits all", a, ranks)
		}
		return fmt.Errorf("%v needs 2 to %d rows with %d workers; torus:rows=%d is the nearest to a square", a, ranks/2, ranks, squareRows(ranks))
	case Hierarchical:
		return fmt.Errorf("%v has more hosts than there are workers, %d; hierarchical alone takes the hosts as they are", a, ranks)
	}
	if a == Shared {
		return fmt.Errorf("%v takes at most %d parts a worker; %d leaves over %d workers make more: direct fits all", a, maxVectors, t.Leaves(), ranks)
	}
	return fmt.Errorf("there is no %v; direct fits all", a)
}

// rows is how many rows a torus of so many ranks has.
func (a Algorithm) rows(ranks int) int {
	if n := a.number(); n != 0 {
		return n
	}
	return squareRows(ranks)
}

// squareRows is how many rows a torus takes by itself: of the rows that are a power of two long and use up the ranks,
// those nearest to a square, longer rather than shorter; where there are none, the whole part of the square root.
func squareRows(ranks int) int {
	best := 0
	for c := 2; c <= ranks/2; c <<= 1 {
		if r := ranks / c; ranks%c == 0 && (best == 0 || r+c <= best+ranks/best) {
			best = r
		}
	}
	if best == 0 {
		for best = 1; (best+1)*(best+1) <= ranks; best++ {
		}
	}
	return best
}

// Hosts says where the ranks of a group are: the first rank of each host, in order, from 0. Ranks are numbered host by
// host; a host whose ranks are not neighbours counts once for each run of them. Nil is one host.
type Hosts []Rank

// HostsOf finds the hosts from a name of its host for each rank.
func HostsOf(names []string) (h Hosts) {
	for r, name := range names {
		if r == 0 || name != names[r-1] {
			h = append(h, Rank(r))
		}
	}
	return h
}

// EvenHosts lays so many ranks out on n hosts, as even as can be. n is at most ranks.
func EvenHosts(n, ranks int) Hosts {
	h := make(Hosts, n)
	for i := range h {
		lo, _ := Chunk(ranks, n, Rank(i))
		h[i] = Rank(lo)
	}
	return h
}

// span returns the ranks [lo, hi) of host i, of so many ranks.
func (h Hosts) span(i, ranks int) (lo, hi int) {
	if i+1 < len(h) {
		ranks = int(h[i+1])
	}
	return int(h[i]), ranks
}

// Check returns an error unless h can be the hosts of so many ranks.
func (h Hosts) Check(ranks int) error {
	for i, r := range h {
		if (i == 0) != (r == 0) || i > 0 && r <= h[i-1] || int(r) >= ranks {
			return fmt.Errorf("comm: hosts that begin at ranks %v of %d: want 0 and then larger and larger ones", h, ranks)
		}
	}
	return nil
}

// On returns t with its ranks placed on hosts. Where they are changes no bit of a sum; Hierarchical and Choose go by it.
// It panics on hosts that Check refuses.
func (t Tree) On(h Hosts) Tree {
	if err := h.Check(t.Ranks()); err != nil {
		panic(err)
	}
	if len(h) < 2 {
		return newTree(t.p.leaves, t.p.runs, nil)
	}
	return newTree(t.p.leaves, t.p.runs, h)
}

// Spare returns the same order with n more ranks, which own nothing.
func (t Tree) Spare(n int) Tree {
	runs := slices.Clone(t.p.runs)
	for range n {
		runs = append(runs, t.p.leaves)
	}
	return newTree(t.p.leaves, runs, nil)
}

// log2 is the number of doublings that it takes to reach n.
func log2(n int) int { return bits.Len(uint(n - 1)) }
