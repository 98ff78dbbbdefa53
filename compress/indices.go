package compress

import (
	"encoding/binary"
	"math/bits"
)

// # How the indices of a sparse code are written
//
// k increasing indices below n are gaps, g[0] = idx[0] and g[i] = idx[i]-idx[i-1]-1. Each is written in a Rice code of
// parameter b from 0 to 30 (Golomb, IEEE Transactions on Information Theory 12, 1966; Rice, JPL publication 79-22, 1979):
// g>>b zeros, a one, the low b bits of g, from the lowest bit of each byte on; the last byte is filled up with zeros. With
// b = 0 that is a bitmap, which ends with the last index. All gaps together take
//
//	bits(b) = k (1+b) + sum of g[i]>>b
//
// which is convex in b, so that the best b is found downhill; of equals the smallest is taken. Of elements kept
// independently with probability 1 % it takes 8.11 bits each at b = 6, where the entropy is 8.08; of those that lie in
// clusters, as large gradients do, fewer. Gaps sum to at most n-k, whence bits(b) <= k (1+b) + (n-k)>>b for all patterns
// (gapBound), and bits(0) <= n.
//
// A decoder refuses a parameter that is not the best, so that a list of indices has one code.

const mostRice = 30 // the largest parameter: a gap is below 2^31

// gapBits is bits(b-1), bits(b) and bits(b+1); the first means nothing when b is 0.
func gapBits(idx []int32, b int) (less, at, more int) {
	var zeros [3]int
	last := int32(-1)
	for _, j := range idx {
		g := uint32(j - last - 1)
		zeros[0] += int(g >> (uint(b-1) & 31))
		zeros[1] += int(g >> (uint(b) & 31))
		zeros[2] += int(g >> (uint(b+1) & 31))
		last = j
	}
	k := len(idx)
	return k*b + zeros[0], k*(b+1) + zeros[1], k*(b+2) + zeros[2]
}

// bestGaps is the parameter with the fewest bits for at least one index below n, and those bits.
func bestGaps(idx []int32, n int) (b, size int) {
	b = bits.Len(uint(n/len(idx))) - 1
	for {
		less, at, more := gapBits(idx, b)
		switch {
		case b > 0 && less <= at:
			b--
		case b < mostRice && more < at:
			b++
		default:
			return b, at
		}
	}
}

// gapBound is the most bits that the gaps of k indices below n take.
func gapBound(n, k int) int {
	most := n
	for b := 1; b <= mostRice; b++ {
		most = min(most, k*(1+b)+(n-k)>>b)
	}
	return most
}

func inBytes(bits int) int { return (bits + 7) / 8 }

// putGaps writes the gaps, of size bytes, to p, and may overwrite what follows them.
func putGaps(p []byte, idx []int32, b, size int) {
	clear(p[:size])
	var (
		held uint64 // the bits from byte off on
		off  int
		pos  int // in bits
		last = int32(-1)
		low  = uint32(1)<<b - 1
	)
	for _, j := range idx {
		g := uint32(j - last - 1)
		last = j
		pos += int(g >> b)
		held >>= uint(pos>>3-off) * 8
		off = pos >> 3
		held |= (1 | uint64(g&low)<<1) << (pos & 7)
		if off+8 <= len(p) {
			binary.LittleEndian.PutUint64(p[off:], held)
		} else {
			for i := range p[off:] {
				p[off+i] = byte(held >> (8 * i))
			}
		}
		pos += 1 + b
	}
}

// word is the 64 bits of p from bit pos on, as far as 57 of them; beyond the end are zeros.
func word(p []byte, pos int) uint64 {
	off := pos >> 3
	if off+8 <= len(p) {
		return binary.LittleEndian.Uint64(p[off:]) >> (pos & 7)
	}
	var w uint64
	for i := off; i < len(p); i++ {
		w |= uint64(p[i]) << (8 * (i - off))
	}
	return w >> (pos & 7)
}

// getGaps overwrites idx with indices below n that p begins with, and says how many bytes they take, or what is wrong.
func getGaps(idx []int32, p []byte, n, b int) (size int, wrong string) {
	var (
		pos   int
		last  = -1
		zeros [3]int // of parameters b-1, b and b+1
		low   = uint64(1)<<b - 1
	)
	for i := range idx {
		w := word(p, pos)
		run := bits.TrailingZeros64(w)
		if run+1+b > 57 {
			for run = 0; w&(1<<56-1) == 0; w = word(p, pos+run) {
				if run += 56; run<<b >= n {
					return 0, "an index is too large"
				}
			}
			run += bits.TrailingZeros64(w)
			w = word(p, pos+run)
		} else {
			w >>= run
		}
		pos += run + 1 + b
		gap := run<<b | int(w>>1&low)
		if last += gap + 1; last >= n {
			return 0, "an index is too large"
		}
		idx[i] = int32(last)
		zeros[0] += gap >> (uint(b-1) & 31)
		zeros[1] += run
		zeros[2] += run >> 1
	}
	k := len(idx)
	size = inBytes(pos)
	switch {
	case size > len(p):
		return 0, "it ends within an index"
	case pos&7 != 0 && p[size-1]>>(pos&7) != 0:
		return 0, "the bits after the last index are not zero"
	case b > 0 && zeros[0] <= zeros[1]+k, b < mostRice && zeros[2]+k < zeros[1]:
		return 0, "there is a shorter form"
	}
	return size, ""
}
