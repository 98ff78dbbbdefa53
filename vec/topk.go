package vec

import (
	"fmt"
	"math"
)

// TopK writes to idx, in increasing order, the indices of the len(idx) elements of x that are largest in magnitude. Of
// equals the one with the lower index comes first. A NaN counts as larger than every number, and all NaN as equal. It
// panics when idx is longer than x, or x than 2^31-1.
//
// One pass keeps what may be among them, above a bound that a sample of x gives; a radix selection finds the exact bound
// among those. Neither sample nor luck changes the result: where the bound was bad, all of x is searched.
func TopK(idx []int32, x []float32) {
	k, n := len(idx), len(x)
	if k > n || n > math.MaxInt32 {
		panic(fmt.Sprintf("vec.TopK: the largest %d of %d elements", k, n))
	}
	if k == 0 {
		return
	}
	s := topScratches.Take()
	defer topScratches.Put(s)
	if n >= sampledMin {
		room := min(n, 3*k+4096) + aboveBlock
		s.idx, s.val = Resized(s.idx, room), Resized(s.val, room)
		if found, read := above(s.idx, s.val, x, s.bound(x, k)); read == n && found >= k {
			below, ties := s.kth(s.val[:found], k)
			emit(idx, s.idx[:found], s.val[:found], below, ties)
			return
		}
	}
	below, ties := s.kth(x, k)
	emit(idx, nil, x, below, ties)
}

// Above writes to idx, in increasing order, the indices of the elements of x that are at least t in magnitude, and says how
// many there are. When they do not fit, read is the index of the first one that did not; otherwise it is len(x).
// NaN counts as larger than every number.
func Above(idx []int32, x []float32, t float32) (found, read int) {
	below := int32(-1)
	if !(t <= 0) {
		below = int32(bits32(t)&0x7fffffff) - 1
	}
	s := topScratches.Take()
	defer topScratches.Put(s)
	for read < len(x) {
		part := x[read:]
		s.idx, s.val = Resized(s.idx, 2048), Resized(s.val, 2048)
		n, r := above(s.idx, s.val, part, below)
		for i, j := range s.idx[:n] {
			if found == len(idx) {
				return found, read + int(s.idx[i])
			}
			idx[found] = int32(read) + j
			found++
		}
		read += r
	}
	return found, read
}

// Gather is dst[i] = x[idx[i]].
func Gather(dst, x []float32, idx []int32) {
	same("Gather", len(dst), len(idx))
	for i, j := range idx {
		dst[i] = x[uint32(j)]
	}
}

// ScatterAdd is x[idx[i]] += v[i], in order of i.
func ScatterAdd(x []float32, idx []int32, v []float32) {
	same("ScatterAdd", len(v), len(idx))
	for i, j := range idx {
		x[uint32(j)] += v[i]
	}
}

// The selection works on magnitudes as integers: a float32 without its sign bit is of the same order. magnitude takes all
// NaN for the least of them.
func magnitude(x float32) int32 { return int32(min(bits32(x)&0x7fffffff, 0x7f800001)) }

// above writes the indices and values of the elements of x whose magnitude is above below, as far as idx, which val is as
// long as, has room. read is how far it came.
func above(idx []int32, val, x []float32, below int32) (found, read int) {
	found, read = aboveBlocks(idx, val, x, below)
	for ; read < len(x) && found < len(idx); read++ {
		idx[found], val[found] = int32(read), x[read]
		if magnitude(x[read]) > below {
			found++
		}
	}
	return found, read
}

// aboveBlock is how much room aboveBlocks wants to go on.
const aboveBlock = 32

// sampledMin is from how many elements on a sample is worth its time.
const sampledMin = 4096

// bound guesses a magnitude that somewhat more than k elements of x are above, from at least 2048 of them and one in 32:
// a cache line here and there. Its histogram has first the exponent and 4 bits of fraction, and then, of those that share the
// bound's, 10 bits more: what error feedback keeps lies so near together.
func (s *topScratch) bound(x []float32, k int) int32 {
	const line = 16
	lines := max(2048, len(x)/32) / line
	stride := len(x) / lines
	h := &s.count
	clear(h[:])
	for i := range lines {
		for _, v := range x[i*stride:][:line] {
			h[magnitude(v)>>19&4095]++
		}
	}
	want := float64(k) * float64(lines*line) / float64(len(x))
	want += 4*math.Sqrt(want) + 4
	b := len(h) - 1
	for ; b > 0 && float64(h[b]) < want; b-- {
		want -= float64(h[b])
	}
	clear(h[:1024])
	for i := range lines {
		for _, v := range x[i*stride:][:line] {
			if m := magnitude(v); m>>19 == int32(b) {
				h[m>>9&1023]++
			}
		}
	}
	c := 1023
	for ; c > 0 && float64(h[c]) < want; c-- {
		want -= float64(h[c])
	}
	return int32(b<<19|c<<9) - 1
}

// kth finds below and ties such that k elements of x have a magnitude above below, ties first ones with just that
// magnitude included. It narrows the magnitude's 31 bits by 12, 10 and 9, a pass for each.
func (s *topScratch) kth(x []float32, k int) (below int32, ties int) {
	var known, mask int32 // the bits that are known, and where they are
	for _, part := range []struct{ shift, bits int }{{19, 12}, {9, 10}, {0, 9}} {
		h := s.count[:1<<part.bits]
		clear(h)
		for _, v := range x {
			m := magnitude(v)
			if m&mask == known {
				h[m>>part.shift&(1<<part.bits-1)]++
			}
		}
		b := len(h) - 1
		for int(h[b]) < k {
			k -= int(h[b])
			b--
		}
		known |= int32(b << part.shift)
		mask |= int32(1<<part.bits-1) << part.shift
		if int(h[b]) == k { // all of them
			return known - 1, 0
		}
	}
	return known, k
}

// emit writes the indices of what kth means: at[i], or i when at is nil, stands for val[i].
func emit(idx, at []int32, val []float32, below int32, ties int) {
	n := 0
	for i, v := range val {
		m := magnitude(v)
		if m < below {
			continue
		}
		if m == below {
			if ties == 0 {
				continue
			}
			ties--
		}
		j := int32(i)
		if at != nil {
			j = at[i]
		}
		idx[n] = j
		if n++; n == len(idx) {
			return
		}
	}
}

// topScratch is the memory of one selection.
type topScratch struct {
	idx   []int32
	val   []float32
	count [4096]uint32
}

var topScratches FreeList[topScratch]
