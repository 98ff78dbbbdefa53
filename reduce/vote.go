package reduce

import (
	"encoding/binary"
	"math/bits"

	"github.com/covey-ml/covey/rng"
	"github.com/covey-ml/covey/vec"
)

// majority is signSGD with majority vote (Bernstein et al., arXiv 1810.05291, algorithm 1): each element of sum becomes
// total or -total, so that the mean is the sign that most ranks' bits say, a set bit standing for a minus. The paper's
// sign of a tie is 0, which one bit cannot say: here a tie falls either way, by a bit drawn from key.
//
// It counts 64 elements at once: plane b holds bit b of the counts of set bits, and a rank's bits are added by carrying.
func (c *counter) majority(sum []float32, votes [][]byte, total float64, key uint64) {
	most := len(votes)
	c.planes = vec.Resized(c.planes, bits.Len(uint(most)))
	c.out = vec.Resized(c.out, (len(sum)+63)/64*8)
	planes, out := c.planes, c.out
	for w := range len(out) / 8 {
		clear(planes)
		for _, v := range votes {
			carry := word(v[min(8*w, len(v)):])
			for b := range planes {
				planes[b], carry = planes[b]^carry, planes[b]&carry
			}
		}
		minus := over(planes, most/2)
		if most%2 == 0 {
			minus |= over(planes, most/2-1) &^ minus & rng.Mix(key+uint64(w))
		}
		binary.LittleEndian.PutUint64(out[8*w:], minus)
	}
	vec.UnpackSigns(sum, out[:vec.PackedLen(len(sum), 1)], float32(total))
}

// counter is what a count works with.
type counter struct {
	planes []uint64
	out    []byte
}

// word is up to eight bytes, the missing ones 0.
func word(p []byte) uint64 {
	if len(p) >= 8 {
		return binary.LittleEndian.Uint64(p)
	}
	var b [8]byte
	copy(b[:], p)
	return binary.LittleEndian.Uint64(b[:])
}

// over tells for each of 64 counts whether it is above n, from the highest plane down.
func over(planes []uint64, n int) uint64 {
	more, equal := uint64(0), ^uint64(0)
	for b := len(planes) - 1; b >= 0; b-- {
		if n>>b&1 == 0 {
			more |= equal & planes[b]
			equal &^= planes[b]
		} else {
			equal &= planes[b]
		}
	}
	return more
}
