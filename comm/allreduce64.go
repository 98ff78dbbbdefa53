package comm

import (
	"context"
	"fmt"
	"unsafe"
)

// gather64Most is up to how many bytes, of all parts of everybody, AllReduce64 sends everything to everybody in one round.
const gather64Most = 16 << 10

// AllReduce64 is AllReduce for float64: parts[0] of every rank becomes the sum, in t's order, of all parts of all ranks,
// rounded to float64 at each node. It is for the few sums that steer a solver (objectives, Hessians), whose vectors are
// short beside the work behind them; parameters and gradients of networks are float32 and go by AllReduce. Arguments
// and errors are as for AllReduce.
//
// Up to 16 KiB over all parts, everybody sends its parts to everybody: one round, P-1 messages and k(P-1) S bytes a rank,
// for k parts of S bytes. Beyond, the owner of each chunk adds it and sends the result to all: two rounds, (k+1)(P-1)
// messages and (k+1)(P-1)/P S bytes a rank.
func AllReduce64(ctx context.Context, g Group, t Tree, parts [][]float64) error {
	if err := checkParts64(g, t, parts); err != nil {
		return err
	}
	n := len(parts[0])
	c, err := enter(ctx, g, OpAllReduce, nil)
	if err != nil {
		return err
	}
	c.announce(AllReduce64Bill(t, c.rank, n))
	switch {
	case n == 0 || len(t.AllParts()) == 0 || c.size == 1:
	case gathers64(t, n):
		err = c.gather64(t, parts)
	default:
		err = c.direct64(t, parts)
	}
	return c.leave(err)
}

// AllReduce64Bill is what rank r sends in an AllReduce64 of n elements.
func AllReduce64Bill(t Tree, r Rank, n int) Bill {
	if t.Ranks() == 1 || n == 0 {
		return Bill{}
	}
	algorithm := Direct
	if gathers64(t, n) {
		algorithm = Gather
	}
	b := AllReduceBill(algorithm, t, r, n)
	for i := range b {
		b[i].Size *= 2 // of a float64 in words
	}
	return b
}

func gathers64(t Tree, n int) bool { return 8*n*len(t.AllParts()) <= gather64Most }

func checkParts64(g Group, t Tree, parts [][]float64) error {
	if t.p == nil || t.Ranks() != g.Size() {
		return fmt.Errorf("comm: %v of float64 of a group of %d with a tree for other ranks", OpAllReduce, g.Size())
	}
	if want := t.Vectors(g.Rank()); len(parts) != want {
		return fmt.Errorf("comm: %v of float64: rank %d hands in %d vectors, its run of leaves makes %d", OpAllReduce, g.Rank(), len(parts), want)
	}
	for i, p := range parts {
		if len(p) != len(parts[0]) {
			return fmt.Errorf("comm: %v of float64: part %d has %d elements, part 0 has %d", OpAllReduce, i, len(p), len(parts[0]))
		}
	}
	return nil
}

// gather64 is the algorithm Gather.
func (c *call) gather64(t Tree, parts [][]float64) error {
	n := len(parts[0])
	own, k := t.FirstPart(c.rank), len(t.Parts(c.rank))
	room := c.scratch64(n * len(t.AllParts()))
	for from := range Rank(c.size) {
		if a, b := t.FirstPart(from), t.FirstPart(from)+len(t.Parts(from)); from != c.rank && a < b {
			c.post(from, phaseGather, bytes64(room[a*n:b*n]))
		}
	}
	for j := range k {
		c.copy64(room[(own+j)*n:(own+j+1)*n], parts[j])
	}
	if mine := room[own*n : (own+k)*n]; k > 0 {
		for i := 1; i < c.size; i++ {
			if err := c.send((c.rank+Rank(i))%Rank(c.size), phaseGather, bytes64(mine)); err != nil {
				return err
			}
		}
	}
	if err := c.all(0); err != nil {
		return err
	}
	for _, a := range t.Merge() {
		c.add64(room[a.Dst*n:(a.Dst+1)*n], room[a.Src*n:])
	}
	c.copy64(parts[0], room[:n])
	return nil
}

// direct64 is the algorithm Direct.
func (c *call) direct64(t Tree, parts [][]float64) error {
	x := parts[0]
	lo, hi := Chunk(len(x), c.size, c.rank)
	m := hi - lo
	own, k := t.FirstPart(c.rank), len(t.Parts(c.rank))
	room := c.scratch64(m * len(t.AllParts())) // this rank's chunk of all parts, in global order
	for from := range Rank(c.size) {
		for j := range t.Parts(from) {
			if i := t.FirstPart(from) + j; from != c.rank && m > 0 {
				c.post(from, phaseScatter|uint32(j), bytes64(room[i*m:(i+1)*m]))
			}
		}
	}
	spread := len(c.waits)
	// The results may be asked for already: an owner sends its chunk only after it has had this rank's parts of it.
	for j := range k {
		c.copy64(room[(own+j)*m:(own+j+1)*m], parts[j][lo:hi])
	}
	for from := range Rank(c.size) {
		if a, b := Chunk(len(x), c.size, from); from != c.rank && a < b {
			c.post(from, phaseGather, bytes64(x[a:b]))
		}
	}
	for i := 1; i < c.size; i++ {
		to := (c.rank + Rank(i)) % Rank(c.size)
		a, b := Chunk(len(x), c.size, to)
		for j := 0; j < k && a < b; j++ {
			if err := c.send(to, phaseScatter|uint32(j), bytes64(parts[j][a:b])); err != nil {
				return err
			}
		}
	}
	for i := range spread {
		if err := c.wait(i); err != nil {
			return err
		}
	}
	if m > 0 {
		for _, a := range t.Merge() {
			c.add64(room[a.Dst*m:(a.Dst+1)*m], room[a.Src*m:])
		}
		c.copy64(x[lo:hi], room[:m])
		for i := 1; i < c.size; i++ {
			if err := c.send((c.rank+Rank(i))%Rank(c.size), phaseGather, bytes64(x[lo:hi])); err != nil {
				return err
			}
		}
	}
	return c.all(spread)
}

// add64 and copy64 are add and copy of float64.
func (c *call) add64(dst, x []float64) {
	if !c.hollow {
		x = x[:len(dst)]
		for i := range dst {
			dst[i] += x[i]
		}
	}
	c.clock.Spend(Cost{Bytes: 3 * 2 * word * int64(len(dst))})
}

func (c *call) copy64(dst, x []float64) {
	if !c.hollow {
		copy(dst, x)
	}
	c.clock.Spend(Cost{Bytes: 2 * 2 * word * int64(len(dst))})
}

// scratch64 is the call's bytes as n float64: an allocation of whole words starts at one.
func (c *call) scratch64(n int) []float64 {
	b := c.scratchBytes(8 * n)
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*float64)(unsafe.Pointer(unsafe.SliceData(b))), n)
}

func bytes64(x []float64) []byte {
	if len(x) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), 8*len(x))
}
