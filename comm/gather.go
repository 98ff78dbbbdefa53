package comm

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
)

// GatherBytes brings everybody's bytes to rank 0, along a binomial tree: there it returns what they all make, elsewhere
// nil. join makes one of what this rank holds, of the ranks from it on, and what came, of the next ranks after those; it
// may change held and keep came. So concatenation leaves all in the order of ranks, and what can be merged takes no more
// room than one rank's. What join refuses fails the group's collectives for all, in the name of who sent it.
//
// ceil(log2 P) rounds; a rank but 0 sends one message of 8 bytes and one of what it holds (none when that is empty), and
// nobody receives more than ceil(log2 P) of each. A Hollow group cannot, for its messages do not say lengths. Errors are
// as for AllReduce.
func GatherBytes(ctx context.Context, g Group, mine []byte, join func(held, came []byte) ([]byte, error)) ([]byte, error) {
	if IsHollow(g) {
		return nil, errHollow(OpGather)
	}
	c, err := enter(ctx, g, OpGather, nil)
	if err != nil {
		return nil, err
	}
	all, err := c.climb(mine, join)
	if err = c.leave(err); err != nil {
		return nil, err
	}
	return all, nil
}

// climb receives from rank+1, rank+2, rank+4, ... as long as these bits of the rank are 0, and then sends to the rank
// without its lowest bit.
func (c *call) climb(held []byte, join func(held, came []byte) ([]byte, error)) ([]byte, error) {
	me, rounds := int(c.rank), 0
	for d := 1; me&d == 0 && me+d < c.size; d <<= 1 {
		rounds++
	}
	sizes := c.scratchBytes(8 * (rounds + 1))
	for i := range rounds {
		c.post(Rank(me+1<<i), phaseSizes, sizes[8*i:8*i+8])
	}
	for i := range rounds {
		from := Rank(me + 1<<i)
		if err := c.wait(i); err != nil {
			return nil, err
		}
		n := binary.LittleEndian.Uint64(sizes[8*i:])
		if n > math.MaxInt32 {
			return nil, c.refuse(from, fmt.Errorf("it announces %d bytes; GatherBytes carries at most %d a message", n, math.MaxInt32))
		}
		came := make([]byte, n)
		if n > 0 {
			if err := c.wait(c.post(from, phaseGather, came)); err != nil {
				return nil, err
			}
		}
		var err error
		if held, err = join(held, came); err != nil {
			return nil, c.refuse(from, err)
		}
	}
	if me == 0 {
		return held, nil
	}
	parent := Rank(me - me&-me)
	c.announce(GatherBytesBill(len(held)))
	own := sizes[8*rounds:]
	binary.LittleEndian.PutUint64(own, uint64(len(held)))
	if err := c.send(parent, phaseSizes, own); err != nil {
		return nil, err
	}
	if len(held) > 0 {
		return nil, c.send(parent, phaseGather, held)
	}
	return nil, nil
}

// refuse is the error of a message that makes no sense.
func (c *call) refuse(from Rank, cause error) error {
	return &PeerError{Rank: outermost(c.g, from), Op: c.op, Step: -1, Cause: cause}
}
