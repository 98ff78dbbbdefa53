package comm

import "github.com/covey-ml/covey/vec"

// ring implements Ring: chunk c starts at rank c, goes round once growing by each rank's sum, is whole at rank c-1,
// and goes round once more. A rank first adds its own parts in order; a spare adds nothing.
func (c *call) ring(t Tree, parts [][]float32) error {
	x := parts[0]
	n, p := len(x), Rank(c.size)
	for _, part := range parts[1:] {
		c.add(x, part)
	}
	if len(t.Parts(c.rank)) == 0 && !c.hollow {
		clear(x)
	}
	next, prev := (c.rank+1)%p, (c.rank-1+p)%p
	chunk := func(i Rank) []float32 {
		lo, hi := Chunk(n, c.size, (i%p+p)%p)
		return x[lo:hi]
	}
	most := n/c.size + 1
	room := c.scratch(2 * most) // what is coming and what is being added take turns
	into := func(s Rank) []float32 { return room[int(s%2)*most:][:len(chunk(c.rank-s-1))] }
	ask := func(s Rank, phase uint32, v []float32) int {
		if len(v) == 0 {
			return -1
		}
		return c.post(prev, phase|uint32(s), vec.Bytes(v))
	}
	give := func(s Rank, phase uint32, v []float32) error {
		if len(v) == 0 {
			return nil
		}
		return c.send(next, phase|uint32(s), vec.Bytes(v))
	}
	take := func(i int) error {
		if i < 0 {
			return nil
		}
		return c.wait(i)
	}

	coming := ask(0, phaseScatter, into(0))
	for s := range p - 1 {
		later := -1
		if s+1 < p-1 {
			later = ask(s+1, phaseScatter, into(s+1))
		}
		if err := give(s, phaseScatter, chunk(c.rank-s)); err != nil {
			return err
		}
		if err := take(coming); err != nil {
			return err
		}
		c.add(chunk(c.rank-s-1), into(s))
		coming = later
	}
	// Now chunk rank+1 is whole here. What comes next overwrites a chunk that this rank has sent on.
	first := len(c.waits)
	for s := range p - 1 {
		ask(s, phaseGather, chunk(c.rank-s))
	}
	for s, got := Rank(0), first; s < p-1; s++ {
		if err := give(s, phaseGather, chunk(c.rank+1-s)); err != nil {
			return err
		}
		if len(chunk(c.rank-s)) > 0 {
			if err := c.wait(got); err != nil {
				return err
			}
			got++
		}
	}
	return nil
}
