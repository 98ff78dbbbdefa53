package commtest

import (
	"fmt"
	"testing"

	"github.com/covey-ml/covey/comm"
)

// upTo exchanges messages whose lengths only their senders know: long ones, empty ones, and none at all.
func (x *exam) upTo(t *testing.T, groups []comm.Group, books []*comm.Ledger) {
	n := len(groups)
	const most = 30000
	size := func(from, to int) int { return (from*31 + to*17) % 5 * 7001 } // 0 to 28004
	silent := func(from, to int) bool { return (from+2*to)%7 == 3 }
	each(t, groups, func(g comm.Group) error {
		me := int(g.Rank())
		send, recv := make([][]byte, n), make([][]byte, n)
		for r := range n {
			if !silent(me, r) {
				send[r] = fill(size(me, r), uint64(me)<<8|uint64(r))
			}
			if !silent(r, me) {
				recv[r] = make([]byte, most)
			}
		}
		if err := comm.AllToAllUpTo(bg, g, send, recv); err != nil {
			return err
		}
		for r, p := range recv {
			if r == me {
				continue
			}
			if silent(r, me) {
				if p != nil {
					return fmt.Errorf("%d bytes from %d, which sent nothing", len(p), r)
				}
			} else if err := same(p, size(r, me), uint64(r)<<8|uint64(me)); err != nil {
				return fmt.Errorf("from %d: %w", r, err)
			}
		}
		return closes(books[me], comm.OpAllToAll)
	})
	each(t, groups, func(g comm.Group) error {
		me := int(g.Rank())
		var mine []byte
		if me != 1 { // which has nothing to say
			mine = fill(size(me, 0), uint64(me))
		}
		recv := make([][]byte, n)
		for r := range recv {
			if r != 1 {
				recv[r] = make([]byte, most)
			}
		}
		if err := comm.AllGatherUpTo(bg, g, mine, recv); err != nil {
			return err
		}
		for r, p := range recv {
			if r == me || r == 1 {
				continue
			}
			if err := same(p, size(r, 0), uint64(r)); err != nil {
				return fmt.Errorf("from %d: %w", r, err)
			}
		}
		return closes(books[me], comm.OpAllGather)
	})
}
