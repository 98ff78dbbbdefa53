package compress

import (
	"encoding/binary"
	"math/bits"

	"github.com/covey-ml/covey/rng"
	"github.com/covey-ml/covey/vec"
)

// # Codes of drawn elements
//
// Which elements a random sparsifier keeps depends on n and the key alone. So its code is the key, 8 bytes, little-endian,
// and the numbers, 4 bytes each; who decodes draws the same elements again.

// draws is a stream of draws: SplitMix64 from a key.
type draws uint64

func drawsOf(key uint64, purpose string) draws { return draws(rng.Key(key, purpose)) }

func (d *draws) next() uint64 {
	u := rng.Mix(uint64(*d))
	*d += 0x9e3779b97f4a7c15
	return u
}

// below is a whole number from 0 to n-1; one is more likely than another by at most n 2^-64.
func (d *draws) below(n int) int {
	hi, _ := bits.Mul64(d.next(), uint64(n))
	return int(hi)
}

// draw overwrites l.idx with k of n elements, all choices being as likely, in time k + n/64. Floyd's algorithm (Bentley and
// Floyd, Communications of the ACM 30, 1987, algorithm F2) draws them, or those to be left out when these are fewer.
func (l *list) draw(d draws, n, k int) {
	l.blank(n)
	few := min(k, n-k)
	for j := n - few; j < n; j++ {
		i := d.below(j + 1)
		if l.mask[i>>6]>>(i&63)&1 != 0 {
			i = j
		}
		l.mask[i>>6] |= 1 << (i & 63)
	}
	if few < k {
		for i := range l.mask {
			l.mask[i] = ^l.mask[i]
		}
	}
	l.collect(n)
}

// drawEach overwrites l.idx with elements of n, each with probability p, to within 2^-64, independently. Lane i of 64 has a
// uniform number, whose bits are compared with p's from the highest on until they differ: for all 64 lanes about 7 draws.
func (l *list) drawEach(d draws, n int, p float64) {
	l.blank(n)
	for w := range l.mask {
		if p == 1 {
			l.mask[w] = ^uint64(0)
			continue
		}
		less, equal := uint64(0), ^uint64(0)
		for rest := uint64(p * 0x1p64); rest != 0 && equal != 0; rest <<= 1 {
			u := d.next()
			if rest>>63 == 1 {
				less |= equal &^ u
				equal &= u
			} else {
				equal &^= u
			}
		}
		l.mask[w] = less
	}
	l.collect(n)
}

// blank makes l.mask n bits, none set.
func (l *list) blank(n int) {
	l.mask = vec.Resized(l.mask, (n+63)/64)
	clear(l.mask)
}

// collect overwrites l.idx with the bits below n that are set in l.mask.
func (l *list) collect(n int) {
	if n&63 != 0 {
		l.mask[len(l.mask)-1] &= 1<<(n&63) - 1
	}
	k := 0
	for _, m := range l.mask {
		k += bits.OnesCount64(m)
	}
	l.idx = vec.Resized(l.idx, k)
	k = 0
	for w, m := range l.mask {
		for ; m != 0; m &= m - 1 {
			l.idx[k] = int32(64*w + bits.TrailingZeros64(m))
			k++
		}
	}
}

// appendDrawn appends the code of the elements of x that l.idx says, times scale. A vector with a NaN or an infinity anywhere
// has none: dropped, it would be kept back for ever. Nor has one whose numbers times scale become infinite.
func (l *list) appendDrawn(dst []byte, x []float32, key uint64, scale float32) ([]byte, error) {
	l.val = vec.Resized(l.val, len(l.idx))
	vec.Gather(l.val, x, l.idx)
	if scale != 1 {
		vec.Scale(scale, l.val)
	}
	if !vec.Finite(x) || !vec.Finite(l.val) {
		return dst, ErrNotFinite
	}
	out := extend(dst, 8+4*len(l.val))
	binary.LittleEndian.PutUint64(out[len(dst):], key)
	copy(out[len(dst)+8:], vec.Bytes(l.val))
	return out, nil
}

// keyOf is the key that a code of at least 8 bytes begins with.
func keyOf(p []byte) uint64 { return binary.LittleEndian.Uint64(p) }

// drawnValues overwrites l.val with the numbers of a code, one at each of l.idx.
func (l *list) drawnValues(p []byte) (wrong string) {
	if wrong := checkLen(p, 8+4*len(l.idx)); wrong != "" {
		return wrong
	}
	l.val = vec.Resized(l.val, len(l.idx))
	return l.getValues(p[8:], F32)
}
