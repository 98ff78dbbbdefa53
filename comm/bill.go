package comm

import "math/bits"

// Bill is what one rank sends in one operation: so many messages of each size. The functions that make bills are the
// closed forms of the algorithms; nothing in them looks at what is really sent, so the ledger can hold one against
// the other.
type Bill [6]Lot

// Lot is a number of messages of one size in bytes.
type Lot struct{ Messages, Size int }

// Messages returns how many messages the bill counts.
func (b Bill) Messages() (n int64) {
	for _, l := range b {
		n += int64(l.Messages)
	}
	return n
}

// Payload returns how many bytes they carry.
func (b Bill) Payload() (n int64) {
	for _, l := range b {
		n += int64(l.Messages) * int64(l.Size)
	}
	return n
}

// Header returns the header bytes that carry them on f; nil means none.
func (b Bill) Header(f Framer) (n int64) {
	if f == nil {
		return 0
	}
	for _, l := range b {
		if l.Messages > 0 {
			n += int64(l.Messages) * int64(f.Overhead(l.Size))
		}
	}
	return n
}

const word = 4 // bytes of a float32

// chunks splits a vector of n over ranks: count chunks have one element more than the other ones, which have small.
func chunks(n, ranks int) (small, count int) { return n / ranks, n % ranks }

// chunkBill charges `times` messages for each chunk of a vector of n, less `less` messages for the chunks of the
// ranks named.
func chunkBill(n, ranks, times int, less int, except ...Rank) (big, rest Lot) {
	small, count := chunks(n, ranks)
	big, rest = Lot{times * count, word * (small + 1)}, Lot{times * (ranks - count), word * small}
	for _, r := range except {
		if lo, hi := Chunk(n, ranks, r); hi-lo > small {
			big.Messages -= less
		} else {
			rest.Messages -= less
		}
	}
	if small == 0 {
		rest.Messages = 0 // nothing is sent for an empty chunk
	}
	return big, rest
}

// AllReduceBill is what rank r sends in an all-reduce of n elements; by Shared, what it reads from other ranks' memory
// and writes to it, a message a vector; by Native, what it hands over.
func AllReduceBill(a Algorithm, t Tree, r Rank, n int) Bill {
	ranks := t.Ranks()
	parts := len(t.Parts(r))
	if ranks == 1 || n == 0 {
		return Bill{}
	}
	switch a.kind() {
	case Direct:
		b, g := ReduceScatterBill(t, r, n), AllGatherBill(ranks, r, n)
		full, last := segments(g[0])
		b[0].Messages += full
		b[3] = last
		return b
	case Doubling:
		return Bill{{bits.Len(uint(ranks - 1)), word * n}}
	case Gather:
		if parts == 0 {
			return Bill{}
		}
		return Bill{{ranks - 1, word * n * parts}}
	case Binomial:
		b := BroadcastBill(ranks, 0, r, word*n)
		if r > 0 {
			lo, _ := t.Run(r)
			_, hi := t.Run(Rank(min(int(r)+int(r)&-int(r), ranks) - 1))
			return Bill{b[0], {t.count(lo, hi), word * n}}
		}
		return b
	case Shared:
		if staged(t, n) {
			return Bill{{len(t.AllParts()) - parts, word * n}}
		}
		return UpdateBill(a, t, r, n)
	case Native:
		return Bill{{1, word * n}}
	case Ring:
		big, rest := chunkBill(n, ranks, 2, 1, (r+1)%Rank(ranks), (r+2)%Rank(ranks))
		return Bill{big, rest}
	case Torus, Hierarchical:
		return t.grid(a).bill(t, r, n)
	}
	return Bill{}
}

// UpdateBill is what rank r sends in an Update of n elements, by Direct, or, by Shared, reads from others and writes to
// them: its chunk of each of their parts, and of each of their results.
func UpdateBill(a Algorithm, t Tree, r Rank, n int) Bill {
	if t.Ranks() == 1 || n == 0 || a != Shared {
		return AllReduceBill(Direct, t, r, n)
	}
	b := chunkReadBill(t, r, n)
	if b[0].Size > 0 {
		b[0].Messages += t.Ranks() - 1
	}
	return b
}

// chunkReadBill is what rank r reads in shared memory when it adds its chunk.
func chunkReadBill(t Tree, r Rank, n int) Bill {
	lo, hi := Chunk(n, t.Ranks(), r)
	if lo == hi {
		return Bill{}
	}
	return Bill{{len(t.AllParts()) - len(t.Parts(r)), word * (hi - lo)}}
}

// segments cuts messages of one size into those of SegmentBytes, which are counted, and what remains.
func segments(l Lot) (full int, last Lot) {
	full = l.Messages * (l.Size / SegmentBytes)
	if l.Size %= SegmentBytes; l.Size == 0 {
		l.Messages = 0
	}
	return full, l
}

// ReduceScatterBill is what rank r sends in a reduce-scatter of n elements: each other rank's chunk of each part, in
// segments.
func ReduceScatterBill(t Tree, r Rank, n int) Bill {
	if t.Ranks() == 1 {
		return Bill{}
	}
	parts := len(t.Parts(r))
	big, rest := chunkBill(n, t.Ranks(), parts, parts, r)
	a, big := segments(big)
	b, rest := segments(rest)
	return Bill{{a + b, SegmentBytes}, big, rest}
}

// AllGatherBill is what rank r of so many sends in an all-gather of n elements: its chunk, to each of the others.
func AllGatherBill(ranks int, r Rank, n int) Bill {
	lo, hi := Chunk(n, ranks, r)
	if lo == hi {
		return Bill{}
	}
	return Bill{{ranks - 1, word * (hi - lo)}}
}

// AllGatherBytesBill is what a rank with n bytes sends in an AllGatherBytes: its length and its bytes.
func AllGatherBytesBill(ranks, n int) Bill {
	b := Bill{{ranks - 1, 8}}
	if n > 0 {
		b[1] = Lot{ranks - 1, n}
	}
	return b
}

// GatherBytesBill is what a rank but 0 sends in a GatherBytes when it holds n bytes in the end: their number, and them.
func GatherBytesBill(n int) Bill {
	b := Bill{{1, 8}}
	if n > 0 {
		b[1] = Lot{1, n}
	}
	return b
}

// BroadcastBill is what rank r of so many sends when root broadcasts n bytes down a binomial tree.
func BroadcastBill(ranks int, root, r Rank, n int) Bill {
	v := (int(r) - int(root) + ranks) % ranks
	reach := v & -v // the ranks below v are v+1 ... v+reach-1
	if v == 0 {
		reach = ranks
	}
	reach = min(reach, ranks-v)
	return Bill{{bits.Len(uint(reach - 1)), n}}
}

// BarrierBill is what a rank of so many sends in a barrier: empty messages.
func BarrierBill(ranks int) Bill { return Bill{{bits.Len(uint(ranks - 1)), 0}} }

// count is how many nodes make up the leaves [lo, hi).
func (t Tree) count(lo, hi int) int {
	n := 0
	for lo < hi { // take the highest node that starts at lo and fits
		size := 1 << bits.TrailingZeros(uint(lo)|1<<t.root())
		for size > 1 && min(lo+size, t.Leaves()) > hi {
			size >>= 1
		}
		lo += size
		n++
	}
	return n
}

// Announcer is asked for at run time: a Group with a ledger, which wants to know what an operation is going to send
// before it does.
type Announcer interface {
	Announce(op Op, b Bill)
}

// Announce tells g's ledger, if it has one, what an operation is going to send.
func Announce(g Group, op Op, b Bill) {
	if a, ok := g.(Announcer); ok {
		a.Announce(op, b)
	}
}
