package ps

import "github.com/covey-ml/covey/rng"

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
