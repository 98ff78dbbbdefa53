package commtest

import (
	"bytes"
	"fmt"
	"math/bits"
	"testing"

	"github.com/covey-ml/covey/comm"
)

// gatherBytes brings everybody's bytes to rank 0, in the order of ranks.
func (x *exam) gatherBytes(t *testing.T, groups []comm.Group, books []*comm.Ledger) {
	n := len(groups)
	for round, size := range []func(r int) int{
		func(int) int { return 0 }, func(r int) int { return r }, func(r int) int { return 1000 * (r % 3) },
		func(r int) int { return comm.EagerBytes * (1 - r%2) },
	} {
		mine := func(r int) []byte { return fill(size(r), uint64(round)<<8|uint64(r)) }
		each(t, groups, func(g comm.Group) error {
			joins := 0
			all, err := comm.GatherBytes(bg, g, mine(int(g.Rank())), func(held, came []byte) ([]byte, error) {
				joins++
				return append(held, came...), nil
			})
			if err != nil {
				return err
			}
			_, b := books[g.Rank()].Take()
			if e := b[comm.OpGather]; e != b.Sum() || !e.Closes() || e.Messages > 2 || (e.Messages == 0) != (g.Rank() == 0) {
				return fmt.Errorf("the books say:\n%s", b.String())
			}
			if most := bits.Len(uint(n - 1)); joins > most {
				return fmt.Errorf("%d messages came; a tree of %d ranks brings at most %d", joins, n, most)
			}
			if g.Rank() != 0 {
				if all != nil {
					return fmt.Errorf("got %d bytes, which are rank 0's", len(all))
				}
				return nil
			}
			var want []byte
			for r := range n {
				want = append(want, mine(r)...)
			}
			if !bytes.Equal(all, want) {
				return fmt.Errorf("%d bytes, expected %d, or other ones", len(all), len(want))
			}
			return nil
		})
	}
}
