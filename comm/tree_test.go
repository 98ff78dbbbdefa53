package comm

import (
	"fmt"
	"math"
	"math/bits"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// naiveSum is the order's definition: combine neighbours, then neighbours of neighbours; an odd one out moves up
// unchanged.
func naiveSum(x []float32) float32 {
	if len(x) == 1 {
		return x[0]
	}
	var up []float32
	for i := 0; i < len(x); i += 2 {
		if i+1 == len(x) {
			up = append(up, x[i])
		} else {
			up = append(up, x[i]+x[i+1])
		}
	}
	return naiveSum(up)
}

// drawLeaves draws values of many sizes, so that the order of their addition shows in the bits.
func drawLeaves(t *rapid.T) []float32 {
	gen := rapid.Custom(func(t *rapid.T) float32 {
		return float32(math.Ldexp(rapid.Float64Range(-1, 1).Draw(t, "mantissa"), rapid.IntRange(-12, 12).Draw(t, "exponent")))
	})
	return rapid.SliceOfN(gen, 1, 70).Draw(t, "leaves")
}

// runFolds runs a rank's program and returns its parts.
func runFolds(t Tree, r Rank, leaves []float32) []float32 {
	lo, hi := t.Run(r)
	steps := t.Folds(lo, hi)
	buf := make([]float32, Buffers(steps))
	for i := range buf {
		buf[i] = float32(math.NaN())
	}
	for _, s := range steps {
		if s.Leaf >= 0 {
			buf[s.Dst] = leaves[s.Leaf]
		} else {
			buf[s.Dst] += buf[s.Src]
		}
	}
	return buf[:len(t.Parts(r))]
}

func TestTreeFoldsAndMergeAreTheCanonicalSum(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		leaves := drawLeaves(rt)
		tree := NewTree(len(leaves), rapid.IntRange(1, 20).Draw(rt, "ranks"))
		var all []float32
		for r := range Rank(tree.Ranks()) {
			if tree.FirstPart(r) != len(all) {
				rt.Fatalf("rank %d's first part is %d, not %d", r, tree.FirstPart(r), len(all))
			}
			parts := runFolds(tree, r, leaves)
			for j, n := range tree.Parts(r) {
				lo, hi := tree.Span(n)
				if want := naiveSum(leaves[lo:hi]); math.Float32bits(parts[j]) != math.Float32bits(want) {
					rt.Fatalf("rank %d part %d (%v) is %v, not %v", r, j, n, parts[j], want)
				}
			}
			all = append(all, parts...)
		}
		if len(tree.Merge()) != len(all)-1 {
			rt.Fatalf("%d additions merge %d parts", len(tree.Merge()), len(all))
		}
		for _, a := range tree.Merge() {
			all[a.Dst] += all[a.Src]
		}
		if want := naiveSum(leaves); math.Float32bits(all[0]) != math.Float32bits(want) {
			rt.Fatalf("the sum is %v, not %v", all[0], want)
		}
	})
}

func TestTreePartsAreTheFewestNodes(t *testing.T) {
	for m := 1; m <= 70; m++ {
		for n := 1; n <= 20; n++ {
			tree := NewTree(m, n)
			next := 0
			for r := range Rank(n) {
				lo, hi := tree.Run(r)
				if int(r) < min(m, n) != (lo < hi) {
					t.Fatalf("%d leaves, %d ranks: rank %d owns [%d, %d)", m, n, r, lo, hi)
				}
				if lo < hi && lo != next {
					t.Fatalf("%d leaves, %d ranks: rank %d begins at %d, not %d", m, n, r, lo, next)
				}
				for _, p := range tree.Parts(r) {
					a, b := tree.Span(p)
					if a != next || b > hi || a >= b {
						t.Fatalf("%d leaves, %d ranks: part %v of rank %d covers [%d, %d) of [%d, %d)", m, n, p, r, a, b, lo, hi)
					}
					if p.Level < tree.root() { // its parent would reach beyond the run
						if a, b := tree.Span(Node{p.Level + 1, p.Index / 2}); a >= lo && b <= hi {
							t.Fatalf("%d leaves, %d ranks: part %v of rank %d is not maximal", m, n, p, r)
						}
					}
					next = b
				}
				if got, want := tree.count(lo, hi), len(tree.Parts(r)); got != want {
					t.Fatalf("%d leaves: [%d, %d) counts %d nodes, has %d", m, lo, hi, got, want)
				}
			}
			if next != m {
				t.Fatalf("%d leaves, %d ranks: %d are owned", m, n, next)
			}
		}
	}
}

func TestTreeFoldsUseFewBuffers(t *testing.T) {
	for l := range 8 { // the claim: a whole subtree of 2^l leaves needs l+1
		tree := NewTree(1<<l, 1)
		if got := Buffers(tree.Folds(0, 1<<l)); got != l+1 {
			t.Errorf("%d leaves are folded in %d buffers, not %d", 1<<l, got, l+1)
		}
	}
	for m := 1; m <= 130; m++ {
		tree := NewTree(m, 1)
		for lo := 0; lo < m; lo += 3 {
			for hi := lo + 1; hi <= m; hi += 2 {
				parts := tree.cover(nil, lo, hi)
				if got, most := Buffers(tree.Folds(lo, hi)), fewest(tree, parts); got != most {
					t.Fatalf("%d leaves: [%d, %d) in %d parts takes %d buffers, not %d", m, lo, hi, len(parts), got, most)
				}
			}
		}
	}
}

// fewest is the least number of buffers over all orders of the parts: with i parts done, the next needs its own
// number beside them. The largest first is best, so only the needs matter, sorted.
func fewest(t Tree, parts []Node) int {
	pebbles := func(n Node) int {
		lo, hi := t.Span(n)
		return bits.Len(uint(hi - lo)) // of k leaves: floor(log2 k) + 1
	}
	left := map[int]int{}
	for _, p := range parts {
		left[pebbles(p)]++
	}
	most, done := 0, 0
	for need := 70; need > 0; need-- {
		for range left[need] {
			most = max(most, done+need)
			done++
		}
	}
	return most
}

func TestTreeDoublingFits(t *testing.T) {
	for m := 1; m <= 64; m++ {
		for n := 1; n <= 17; n++ {
			per := m / n
			want := n&(n-1) == 0 && m%n == 0 && per&(per-1) == 0 || n == 1
			if got := Doubling.Fits(NewTree(m, n)); got != want {
				t.Errorf("%d leaves, %d ranks: doubling fits is %v", m, n, got)
			}
		}
	}
}

// Bills worked out by hand, so that sender and closed form cannot be wrong together.
func TestBills(t *testing.T) {
	for _, c := range []struct {
		what              string
		bill              Bill
		messages, payload int64
	}{
		{"direct, 2 ranks of 1 part, 10 elements", AllReduceBill(Direct, NewTree(2, 2), 0, 10), 2, 20 + 20},
		{"direct, 4 ranks of 1 part, 10 elements, rank 0 owning 2", AllReduceBill(Direct, NewTree(4, 4), 0, 10), 6, 4*8 + 3*4*2},
		{"direct, 4 ranks of 1 part, 10 elements, rank 1 owning 3", AllReduceBill(Direct, NewTree(4, 4), 1, 10), 6, 4*7 + 3*4*3},
		{"direct, 12 leaves on 4 ranks: 2 parts each", AllReduceBill(Direct, NewTree(12, 4), 2, 100), 2*3 + 3, 2*4*75 + 3*4*25},
		{"direct, a spare sends only its chunk", AllReduceBill(Direct, NewTree(2, 3), 2, 9), 2, 2 * 4 * 3},
		{"direct, fewer elements than ranks, rank 0 owning none", AllReduceBill(Direct, NewTree(3, 3), 0, 1), 1, 4},
		{"direct, fewer elements than ranks, rank 2 owning all", AllReduceBill(Direct, NewTree(3, 3), 2, 1), 2, 8},
		{"doubling, 8 ranks", AllReduceBill(Doubling, NewTree(8, 8), 5, 10), 3, 120},
		{"gather, 5 ranks", AllReduceBill(Gather, NewTree(5, 5), 1, 3), 4, 48},
		{"gather, 2 parts", AllReduceBill(Gather, NewTree(12, 4), 1, 3), 3, 72},
		{"tree, the root of 4 has two children", AllReduceBill(Binomial, NewTree(4, 4), 0, 10), 2, 80},
		{"tree, rank 2 of 4: up once, down once", AllReduceBill(Binomial, NewTree(4, 4), 2, 10), 2, 80},
		{"tree, rank 3 of 4: up once", AllReduceBill(Binomial, NewTree(4, 4), 3, 10), 1, 40},
		{"tree, rank 2 of 3 with leaves 2 and 3 of 4", AllReduceBill(Binomial, NewTree(4, 3), 2, 10), 1, 40},
		{"tree, rank 1 of 2 with leaves 1 and 2: two nodes up", AllReduceBill(Binomial, NewTree(3, 2), 1, 10), 2, 80},
		{"ring, 4 ranks, 8 elements", AllReduceBill(Ring, NewTree(4, 4), 3, 8), 6, 6 * 8},
		{"ring, 3 ranks, 4 elements (1, 1, 2): rank 0 skips chunks 1 and 2", AllReduceBill(Ring, NewTree(3, 3), 0, 4), 4, 4 * (8 - 1 - 2)},
		{"one rank sends nothing", AllReduceBill(Direct, NewTree(4, 1), 0, 10), 0, 0},
		{"nothing sends nothing", AllReduceBill(Direct, NewTree(4, 4), 0, 0), 0, 0},
		{"all-gather, 3 ranks, 7 elements, rank 2 owning 3", AllGatherBill(3, 2, 7), 2, 24},
		{"all-gather of bytes", AllGatherBytesBill(3, 100), 4, 216},
		{"broadcast from 0 of 8", BroadcastBill(8, 0, 0, 5), 3, 15},
		{"broadcast from 3 of 5: rank 3 has three children", BroadcastBill(5, 3, 3, 5), 3, 15},
		{"broadcast from 3 of 5: rank 0 is two on, with one child", BroadcastBill(5, 3, 0, 5), 1, 5},
		{"broadcast from 3 of 5: rank 2 is four on, without", BroadcastBill(5, 3, 2, 5), 0, 0},
		{"barrier of 5", BarrierBill(5), 3, 0},
		{"barrier of 1", BarrierBill(1), 0, 0},
	} {
		if m, p := c.bill.Messages(), c.bill.Payload(); m != c.messages || p != c.payload {
			t.Errorf("%s: %d messages of %d bytes in all, want %d of %d", c.what, m, p, c.messages, c.payload)
		}
	}
}

type tolls int

func (t tolls) Overhead(n int) int { return int(t) * (1 + n/1000) }

func TestBillHeaders(t *testing.T) {
	b := Bill{{3, 10}, {0, 5000}, {2, 2500}}
	if got := b.Header(tolls(7)); got != 3*7+2*7*3 {
		t.Errorf("%d header bytes", got)
	}
	if got := b.Header(nil); got != 0 {
		t.Errorf("%d header bytes without a framer", got)
	}
}

func TestChooseFitsAndIsNeverTheRing(t *testing.T) {
	for m := 1; m <= 40; m++ {
		for n := 1; n <= 40; n++ {
			tree := NewTree(m, n)
			for _, bytes := range []int{0, 4, 1 << 10, 16 << 10, 64 << 10, 1 << 20, 1 << 30} {
				if a := Choose(InprocCosts, tree, bytes); a == Auto || !a.Canonical() || !a.Fits(tree) {
					t.Errorf("%d bytes over %d leaves on %d ranks: %v", bytes, m, n, a)
				}
			}
		}
	}
}

func TestAlgorithmNames(t *testing.T) {
	all := []Algorithm{Torus.Rows(2), Torus.Rows(1000), Hierarchical.Hosts(1), Hierarchical.Hosts(7)}
	for a := Auto; a < numKinds; a++ {
		all = append(all, a)
	}
	for _, a := range all {
		if got, err := ParseAlgorithm(a.String()); got != a || err != nil {
			t.Errorf("%v parses as %v, %v", a, got, err)
		}
	}
	for text, want := range map[string]string{
		"rings":               `did you mean "ring"?`,
		"":                    "expected a name",
		"ring:rows=2":         `ring: takes no parameter "rows"`,
		"torus:row=2":         `did you mean "rows"?`,
		"torus:rows=0":        "want at least 1",
		"torus:rows=-1":       "want at least 1",
		"torus:rows=two":      "expected a whole number",
		"torus:2,3":           "does not take",
		"hierarchical:rows=3": `unknown parameter "rows" (hosts)`,
	} {
		if a, err := ParseAlgorithm(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q parses as %v, %v; want %s", text, a, err, want)
		}
	}
}

func ExampleTree() {
	t := NewTree(6, 2) // six leaves, ranks own three each
	for r := range Rank(2) {
		lo, hi := t.Run(r)
		fmt.Println("rank", r, "owns leaves", lo, "to", hi-1, "and sums the nodes", t.Parts(r))
		for _, s := range t.Folds(lo, hi) {
			if s.Leaf >= 0 {
				fmt.Println("  leaf", s.Leaf, "into buffer", s.Dst)
			} else {
				fmt.Println("  add buffer", s.Src, "to buffer", s.Dst)
			}
		}
	}
	fmt.Println("merge:", t.Merge())
	// Output:
	// rank 0 owns leaves 0 to 2 and sums the nodes [{1 0} {0 2}]
	//   leaf 0 into buffer 0
	//   leaf 1 into buffer 1
	//   add buffer 1 to buffer 0
	//   leaf 2 into buffer 1
	// rank 1 owns leaves 3 to 5 and sums the nodes [{0 3} {2 1}]
	//   leaf 4 into buffer 1
	//   leaf 5 into buffer 0
	//   add buffer 0 to buffer 1
	//   leaf 3 into buffer 0
	// merge: [{1 2} {0 1} {0 3}]
}

// The order of a sum over some leaves depends on their number alone, and the ranks are those that own some of them.
func TestTreeWithin(t *testing.T) {
	for leaves := 1; leaves <= 9; leaves++ {
		for ranks := 1; ranks <= 10; ranks++ {
			tree := NewTree(leaves, ranks)
			for lo := range leaves {
				for hi := lo + 1; hi <= leaves; hi++ {
					in, who := tree.Within(lo, hi)
					if in.Leaves() != hi-lo || in.Ranks() != len(who) {
						t.Fatalf("%d leaves of %d ranks, %d to %d: a tree of %d leaves of %d ranks, which are %v", leaves, ranks, lo, hi, in.Leaves(), in.Ranks(), who)
					}
					for i, r := range who {
						from, to := tree.Run(r)
						a, b := in.Run(Rank(i))
						if a != max(from, lo)-lo || b != min(to, hi)-lo || a == b {
							t.Errorf("%d leaves of %d ranks, %d to %d: rank %d owns %d to %d, number %d there %d to %d", leaves, ranks, lo, hi, r, from, to, i, a, b)
						}
					}
					if _, end := in.Run(Rank(len(who) - 1)); end != hi-lo {
						t.Errorf("%d leaves of %d ranks, %d to %d: owned up to %d", leaves, ranks, lo, hi, end)
					}
				}
			}
		}
	}
}
