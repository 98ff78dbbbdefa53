package ps

import (
	"slices"

	"github.com/covey-ml/covey/rng"
)

// owners says which server owns which rows, by consistent hashing: a row falls into one of the slots, and each slot belongs
// to the server whose hash with it is the highest (Thaler and Ravishankar, IEEE/ACM Transactions on Networking 6(1), 1998).
// With one more server only the slots that it wins move. The slots do what a ring's points do, and finding a row's takes no
// search.
type owners []uint16 // by slot

// slotBits is such that 64 servers own shares that differ by some percent.
const slotBits = 16

// mostOwners bounds the servers of rows.
const mostOwners = 1 << 16

func newOwners(servers int) owners {
	o := make(owners, 1<<slotBits)
	for slot := range o {
		highest := uint64(0)
		for s := range servers {
			if h := rng.Key(uint64(slot), "owner", uint64(s)); h >= highest {
				highest, o[slot] = h, uint16(s)
			}
		}
	}
	return o
}

// of is the server that owns a row.
func (o owners) of(row uint64) int { return int(o[rng.Mix(row)>>(64-slotBits)]) }

// split is some rows by their owners: the positions of each one's, in order.
type split struct {
	order []uint64
	ends  []int    // by server: where its positions end in order
	of    []uint16 // by position: the owner
}

// by splits rows among so many servers.
func (s *split) by(o owners, servers int, rows []uint64) {
	n := len(rows)
	s.of, s.order = slices.Grow(s.of[:0], n)[:n], slices.Grow(s.order[:0], n)[:n]
	s.ends = slices.Grow(s.ends[:0], servers)[:servers]
	clear(s.ends)
	for i, row := range rows {
		k := o.of(row)
		s.of[i] = uint16(k)
		s.ends[k]++
	}
	at := 0
	for k, n := range s.ends {
		s.ends[k] = at
		at += n
	}
	for i, k := range s.of {
		s.order[s.ends[k]] = uint64(i)
		s.ends[k]++
	}
}

// part is the positions of a server's rows.
func (s *split) part(server int) []uint64 {
	lo := 0
	if server > 0 {
		lo = s.ends[server-1]
	}
	return s.order[lo:s.ends[server]]
}
