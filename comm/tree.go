package comm

import (
	"fmt"
	"math/bits"
	"slices"
	"sync"
)

// Tree is the canonical order of a sum over M leaves (microshards) that n ranks own: combine neighbours, then
// neighbours of neighbours; an odd one out moves up unchanged. The order depends on M alone, so the sum has the same
// bits whatever n is. A Tree is a small value that shares its plan: make it once and use it for every sum, from
// any goroutine.
//
// The words: a node at level l and index i covers the leaves [i<<l, (i+1)<<l), cut off at M. A rank's run is the
// contiguous range of leaves it owns. Its parts are the fewest nodes that make up its run, in order; what a rank
// can sum on its own, it can sum within a part, and no further.
//
// So a worker computes its leaves and folds them into its parts (Folds says how, in the fewest buffers), and the parts
// of all ranks, in order, are merged into the sum (Merge says how).
type Tree struct{ p *treePlan }

type treePlan struct {
	leaves, ranks int
	runs          []int  // by rank, and one more: its first leaf
	even          bool   // these are NewTree's
	hosts         Hosts  // where the ranks are; nil: on one host
	first         []int  // by rank, and one more: the number in global order of its first part
	parts         []Node // of all ranks, in global order
	merge         []Add
	most          int  // vectors of a rank
	perfect       bool // each rank owns the node of its own number on one level, and the ranks are a power of two

	once   sync.Once
	rounds [][]climb // of the binomial reduce, by rank
	held   [][]int

	mu    sync.RWMutex
	grids map[Algorithm]*grid // those asked for so far

	weighed sync.Once
	works   [numKinds]Work // by algorithm, without parameters
}

// Node is a subtree: see Tree.
type Node struct{ Level, Index int }

// Add is one step of a merge: vector Src is added to vector Dst.
type Add struct{ Dst, Src int }

// Fold is one step of the program by which a rank sums its own leaves into its parts.
type Fold struct {
	Leaf int // the leaf whose value overwrites buffer Dst; or -1: buffer Src is added to buffer Dst
	Dst  int
	Src  int // 0 when a leaf is computed
}

// NewTree returns the order of a sum over leaves that ranks own. Both must be positive. With k = min(leaves, ranks),
// rank r < k owns the leaves [r*leaves/k, (r+1)*leaves/k); the ranks from k on are spares and own none.
func NewTree(leaves, ranks int) Tree {
	if leaves < 1 || ranks < 1 {
		panic(fmt.Sprintf("comm.NewTree(%d leaves, %d ranks)", leaves, ranks))
	}
	plans.mu.Lock()
	defer plans.mu.Unlock()
	if t, ok := planFor(func(p *treePlan) bool { return p.even && p.leaves == leaves && p.ranks == ranks && p.hosts == nil }); ok {
		return t
	}
	k := min(leaves, ranks)
	runs := make([]int, ranks+1)
	for r := range runs {
		runs[r] = min(r, k) * leaves / k
	}
	t := planned(leaves, runs, nil)
	t.p.even = true
	keepPlan(t)
	return t
}

// plans are the newest ones of this process, the newest last, for trees of equal shape to share: thousands of ranks in one
// process would each make the same.
var plans struct {
	mu  sync.Mutex
	all []*treePlan
}

// plansKept is how many plans are kept for others: a run has one or two, and one for each group of its ranks.
const plansKept = 8

// newTree is NewTree with given runs: rank r owns the leaves [runs[r], runs[r+1]).
func newTree(leaves int, runs []int, hosts Hosts) Tree {
	plans.mu.Lock()
	defer plans.mu.Unlock()
	t, ok := planFor(func(p *treePlan) bool {
		return p.leaves == leaves && slices.Equal(p.hosts, hosts) && slices.Equal(p.runs, runs)
	})
	if !ok {
		t = planned(leaves, runs, hosts)
		keepPlan(t)
	}
	return t
}

// planFor returns the plan that fits, if one is kept, with plans locked, as keepPlan is called.
func planFor(fits func(p *treePlan) bool) (Tree, bool) {
	i := slices.IndexFunc(plans.all, fits)
	if i < 0 {
		return Tree{}, false
	}
	p := plans.all[i]
	plans.all = append(slices.Delete(plans.all, i, i+1), p)
	return Tree{p}, true
}

func keepPlan(t Tree) {
	if len(plans.all) == plansKept {
		plans.all = slices.Delete(plans.all, 0, 1)
	}
	plans.all = append(plans.all, t.p)
}

// planned makes a plan.
func planned(leaves int, runs []int, hosts Hosts) Tree {
	ranks := len(runs) - 1
	p := &treePlan{leaves: leaves, ranks: ranks, runs: runs, hosts: slices.Clone(hosts), first: make([]int, ranks+1)}
	t := Tree{p}
	p.perfect = ranks&(ranks-1) == 0
	for r := range ranks {
		lo, hi := t.Run(Rank(r))
		p.parts = t.cover(p.parts, lo, hi)
		p.first[r+1] = len(p.parts)
		p.most = max(p.most, t.Vectors(Rank(r)))
		p.perfect = p.perfect && len(p.parts) == r+1 && p.parts[r].Index == r && p.parts[r].Level == p.parts[0].Level
	}
	if ranks == 1 {
		p.perfect = true
	}
	p.merge, _ = t.merger(p.parts, nil, 0, leaves)
	return t
}

// Leaves returns M.
func (t Tree) Leaves() int { return t.p.leaves }

// Ranks returns n.
func (t Tree) Ranks() int { return t.p.ranks }

// Run returns the leaves [lo, hi) that a rank owns; lo == hi for a spare.
func (t Tree) Run(r Rank) (lo, hi int) {
	return t.p.runs[r], t.p.runs[r+1]
}

// Parts returns the parts of a rank, in order; none for a spare. The caller must not change them.
func (t Tree) Parts(r Rank) []Node { return t.p.parts[t.p.first[r]:t.p.first[r+1]:t.p.first[r+1]] }

// Vectors is how many vectors a rank hands to a collective: one a part, and one, for the result, when it has none.
func (t Tree) Vectors(r Rank) int { return max(1, len(t.Parts(r))) }

// most is the most vectors that any rank hands to a collective.
func (t Tree) most() int { return t.p.most }

// AllParts returns the parts of all ranks in global order, which is the order that Merge counts in.
func (t Tree) AllParts() []Node { return t.p.parts }

// FirstPart returns the number in global order of a rank's first part (or of the next rank's, for a spare).
func (t Tree) FirstPart(r Rank) int { return t.p.first[r] }

// Within returns the order of a sum over the leaves [lo, hi) alone, and the ranks that own some of them, whose numbers in
// it are their places in that list. Like t's, the order depends on the number of leaves and not on who owns them.
func (t Tree) Within(lo, hi int) (Tree, []Rank) {
	var ranks []Rank
	runs := []int{0}
	for r := range t.Ranks() {
		from, to := t.Run(Rank(r))
		if from, to = max(from, lo), min(to, hi); from < to {
			ranks, runs = append(ranks, Rank(r)), append(runs, to-lo)
		}
	}
	return newTree(hi-lo, runs, nil), ranks
}

// Merge returns the additions, in order, that leave the sum of all parts in part 0. The caller must not change it.
func (t Tree) Merge() []Add { return t.p.merge }

// Span returns the leaves [lo, hi) that a node covers.
func (t Tree) Span(n Node) (lo, hi int) {
	return min(n.Index<<n.Level, t.p.leaves), min((n.Index+1)<<n.Level, t.p.leaves)
}

// root is the level of the node that covers everything.
func (t Tree) root() int { return bits.Len(uint(t.p.leaves - 1)) }

// cover appends the fewest nodes that make up the leaves [lo, hi).
func (t Tree) cover(nodes []Node, lo, hi int) []Node {
	for lo < hi {
		n := Node{0, lo}
		for l := 1; l <= t.root() && lo&(1<<l-1) == 0; l++ {
			up := Node{l, lo >> l}
			if _, end := t.Span(up); end > hi {
				break
			}
			n = up
		}
		nodes = append(nodes, n)
		_, lo = t.Span(n)
	}
	return nodes
}

// merger returns the additions that combine the given nodes, whose vectors are at (or, when at is nil, counted from
// 0), into the fewest that make up the leaves [lo, hi), and where those then are. The nodes must make up [lo, hi).
func (t Tree) merger(have []Node, at []int, lo, hi int) (adds []Add, tops []int) {
	where := make(map[int]int, len(have)) // a node's vector, by its first leaf
	for i, n := range have {
		lo, _ := t.Span(n)
		if where[lo] = i; at != nil {
			where[lo] = at[i]
		}
	}
	ends := make(map[int]int, len(have))
	for _, n := range have {
		lo, hi := t.Span(n)
		ends[lo] = hi
	}
	var sum func(n Node) int
	sum = func(n Node) int {
		lo, hi := t.Span(n)
		if ends[lo] == hi {
			return where[lo]
		}
		dst := sum(Node{n.Level - 1, 2 * n.Index})
		right := Node{n.Level - 1, 2*n.Index + 1}
		if lo, hi := t.Span(right); lo < hi { // else an odd one out
			adds = append(adds, Add{dst, sum(right)})
		}
		return dst
	}
	for _, n := range t.cover(nil, lo, hi) {
		tops = append(tops, sum(n))
	}
	return adds, tops
}

// Folds returns the program by which a rank computes its leaves [lo, hi) and folds them into its parts, part j
// ending in buffer j, in the fewest buffers (Buffers counts them): within a part the leaves come in order, and the
// part that needs most buffers comes first. A part of 2^l leaves needs l+1.
func (t Tree) Folds(lo, hi int) []Fold {
	parts := t.cover(nil, lo, hi)
	order := make([]int, len(parts))
	for j := range order {
		order[j] = j
	}
	slices.SortStableFunc(order, func(a, b int) int { return t.needs(parts[b]) - t.needs(parts[a]) })
	var steps []Fold
	busy := map[int]bool{}
	var fold func(n Node, dst int)
	fold = func(n Node, dst int) {
		busy[dst] = true
		if lo, hi := t.Span(n); hi-lo == 1 {
			steps = append(steps, Fold{Leaf: lo, Dst: dst})
			return
		}
		fold(Node{n.Level - 1, 2 * n.Index}, dst)
		right := Node{n.Level - 1, 2*n.Index + 1}
		if lo, hi := t.Span(right); lo < hi {
			src := 0
			for busy[src] {
				src++
			}
			fold(right, src)
			steps = append(steps, Fold{Leaf: -1, Dst: dst, Src: src})
			delete(busy, src)
		}
	}
	for _, j := range order {
		fold(parts[j], j)
	}
	return steps
}

// needs is how many buffers the sum of a node's leaves takes.
func (t Tree) needs(n Node) int {
	lo, hi := t.Span(n)
	if hi-lo <= 1 {
		return hi - lo
	}
	left, right := Node{n.Level - 1, 2 * n.Index}, Node{n.Level - 1, 2*n.Index + 1}
	need := t.needs(left)
	if k := t.needs(right); k > 0 {
		need = max(need, k+1)
	}
	return need
}

// Buffers returns how many buffers a program of folds uses.
func Buffers(steps []Fold) int {
	n := 0
	for _, s := range steps {
		n = max(n, s.Dst+1, s.Src+1)
	}
	return n
}

// Chunk returns the elements [lo, hi) of a vector of n that are rank r's when ranks share it out evenly.
func Chunk(n, ranks int, r Rank) (lo, hi int) {
	return int(r) * n / ranks, (int(r) + 1) * n / ranks
}

// climb is what a rank does in one round of the binomial reduce: it holds the nodes that make up the leaves of the
// ranks [r, r+d), receives those of [r+d, r+2d), and merges the two lists. Own vectors are numbered from 0 and
// received ones after them.
type climb struct {
	from     Rank
	receives []int // the vectors that receive the peer's list
	adds     []Add
}

// reduction returns a rank's rounds of the binomial reduce.
func (t Tree) reduction(r Rank) []climb { return t.climbs().rounds[r] }

// held returns the vectors that hold a rank's list after its rounds, which it sends to its parent.
func (t Tree) held(r Rank) []int { return t.climbs().held[r] }

func (t Tree) climbs() *treePlan {
	p := t.p
	p.once.Do(func() {
		p.rounds, p.held = make([][]climb, p.ranks), make([][]int, p.ranks)
		for r := range p.ranks {
			lo, _ := t.Run(Rank(r))
			held := make([]int, len(t.Parts(Rank(r))))
			for i := range held {
				held[i] = i
			}
			next := t.Vectors(Rank(r))
			for d := 1; r&d == 0 && r+d < p.ranks; d <<= 1 {
				mid, _ := t.Run(Rank(r + d))
				_, hi := t.Run(Rank(min(r+2*d, p.ranks) - 1))
				c := climb{from: Rank(r + d)}
				have := t.cover(nil, lo, mid)
				for range t.cover(nil, mid, hi) {
					c.receives = append(c.receives, next)
					next++
				}
				c.adds, held = t.merger(t.cover(have, mid, hi), slices.Concat(held, c.receives), lo, hi)
				p.rounds[r] = append(p.rounds[r], c)
			}
			p.held[r] = held
		}
	})
	return p
}
