package compress

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/covey-ml/covey/vec"
)

// Lister is asked for at run time: a Sparse compressor whose codes can be read as entries, to merge them.
type Lister interface {
	Sparse
	// Entries appends the indices, in increasing order, and the numbers there of the vector of n elements that p is the
	// code of. All others are 0. Errors are as Decode's.
	Entries(idx []int32, val []float32, p []byte, n int) ([]int32, []float32, error)
}

// EntriesLen is the bytes of the code of a vector of n elements with numbers at idx, which increases:
//
//	1 byte for each 7 bits of their count k, 1 byte for b, ceil(bits(b)/8) of indices, the numbers
//
// where bits(b) = k (1+b) + sum of g>>b over the k gaps g between indices, with the b from 0 to 30 that makes it least;
// with no entries, 1 byte. Of a pattern that keeps 1 % of the elements independently the indices take 8.11 bits each, and
// entries 40.1 bits with F32. With many kept b is 0, and the indices are a bitmap.
func EntriesLen(idx []int32, n int, v Values) int {
	if len(idx) == 0 {
		return 1
	}
	_, size := bestGaps(idx, n)
	return uvarintLen(len(idx)) + 1 + inBytes(size) + v.size(len(idx))
}

// MaxEntriesLen is the most that EntriesLen is for at most k entries of n elements.
func MaxEntriesLen(n, k int, v Values) int {
	if k == 0 {
		return 1
	}
	return uvarintLen(k) + 1 + inBytes(gapBound(n, k)) + v.size(k)
}

// AppendEntries appends the code of a vector of n elements that is val[i] at idx[i] and 0 elsewhere. It is one to one:
// other entries have another code. With FP16 and BF16 numbers are rounded. The error is ErrNotFinite, with dst as it was,
// when val holds a NaN or an infinity. It panics when idx does not increase from 0 to below n, or has not val's length.
func AppendEntries(dst []byte, n int, idx []int32, val []float32, v Values) ([]byte, error) {
	last := int32(-1)
	for i, j := range idx {
		if j <= last || int(j) >= n {
			panic(fmt.Sprintf("compress.AppendEntries: index %d of %d is %d after %d, of %d elements", i, len(idx), j, last, n))
		}
		last = j
	}
	if len(val) != len(idx) {
		panic(fmt.Sprintf("compress.AppendEntries: %d numbers at %d indices", len(val), len(idx)))
	}
	l := lists.Take()
	defer lists.Put(l)
	l.idx, l.val = append(l.idx[:0], idx...), append(l.val[:0], val...)
	return l.append(dst, n, v)
}

// ReadEntries appends what AppendEntries has written. Indices increase from 0 to below n, numbers are finite. The error is
// a *CorruptError when no AppendEntries could have written p.
func ReadEntries(idx []int32, val []float32, p []byte, n int, v Values) ([]int32, []float32, error) {
	l := lists.Take()
	defer lists.Put(l)
	if wrong := l.read(p, n, v); wrong != "" {
		return idx, val, &CorruptError{"entries", n, wrong}
	}
	return append(idx, l.idx...), append(val, l.val...), nil
}

// list is the entries of one sparse vector, and what calls work with.
type list struct {
	idx  []int32
	val  []float32
	half []uint16   // val in 16 bits
	mask []uint64   // a bit for each element: which are drawn
	from candidates // what Adaptive takes entries from
}

var lists vec.FreeList[list]

// append appends the code of l's entries, and may change l's numbers.
func (l *list) append(dst []byte, n int, v Values) ([]byte, error) {
	if !vec.Finite(l.val) {
		return dst, ErrNotFinite
	}
	k := len(l.idx)
	if k == 0 {
		return append(dst, 0), nil
	}
	b, size := bestGaps(l.idx, n)
	size = inBytes(size)
	head := uvarintLen(k) + 1
	out := extend(dst, head+size+v.size(k))
	p := out[len(dst):]
	p[binary.PutUvarint(p, uint64(k))] = byte(b)
	p = p[head:]
	putGaps(p, l.idx, b, size)
	l.putValues(p[size:], v)
	return out, nil
}

// read overwrites l with the entries that p is the code of, or says what is wrong.
func (l *list) read(p []byte, n int, v Values) (wrong string) {
	count, head := binary.Uvarint(p)
	switch {
	case head <= 0 || head != uvarintLen(int(count)):
		return "the number of entries cannot be read"
	case count > uint64(n) || v.size(int(count)) > len(p):
		return fmt.Sprintf("%d entries in %d bytes", count, len(p))
	case count == 0 && len(p) > head, count > 0 && len(p) == head:
		return fmt.Sprintf("%d bytes for %d entries", len(p), count)
	}
	k := int(count)
	l.idx, l.val = vec.Resized(l.idx, k), vec.Resized(l.val, k)
	if k == 0 {
		return ""
	}
	b := int(p[head])
	if b > mostRice {
		return fmt.Sprintf("a Rice parameter of %d", b)
	}
	p = p[head+1:]
	size, wrong := getGaps(l.idx, p, n, b)
	if wrong != "" {
		return wrong
	}
	if p = p[size:]; len(p) != v.size(k) {
		return fmt.Sprintf("%d bytes for %d numbers", len(p), k)
	}
	return l.getValues(p, v)
}

// uvarintLen is the bytes that binary.AppendUvarint takes.
func uvarintLen(k int) int { return max(1, (bits.Len(uint(k))+6)/7) }

// lister is a sparse compressor as the functions below take it.
type lister interface {
	String() string
	// list overwrites l with the entries of the vector of n elements that p is the code of, or says what is wrong.
	list(l *list, p []byte, n int) (wrong string)
}

// decode is Decode of all sparse compressors.
func decode[C lister](c C, x []float32, p []byte) error {
	l := lists.Take()
	defer lists.Put(l)
	if wrong := c.list(l, p, len(x)); wrong != "" {
		return &CorruptError{c.String(), len(x), wrong}
	}
	clear(x)
	for i, j := range l.idx {
		x[uint32(j)] = l.val[i]
	}
	return nil
}

// add is Add of all sparse compressors.
func add[C lister](c C, x []float32, p []byte, scale float32) error {
	l := lists.Take()
	defer lists.Put(l)
	if wrong := c.list(l, p, len(x)); wrong != "" {
		return &CorruptError{c.String(), len(x), wrong}
	}
	if scale == 1 { // FMA(1, v, x) is x+v
		vec.ScatterAdd(x, l.idx, l.val)
		return nil
	}
	for i, j := range l.idx {
		x[uint32(j)] = vec.FMA(scale, l.val[i], x[uint32(j)])
	}
	return nil
}

// entries is Entries of all sparse compressors.
func entries[C lister](c C, idx []int32, val []float32, p []byte, n int) ([]int32, []float32, error) {
	l := lists.Take()
	defer lists.Put(l)
	if wrong := c.list(l, p, n); wrong != "" {
		return idx, val, &CorruptError{c.String(), n, wrong}
	}
	return append(idx, l.idx...), append(val, l.val...), nil
}

// kept is Kept of all sparse compressors.
func kept[C lister](c C, idx []int32, p []byte, n int) ([]int32, error) {
	l := lists.Take()
	defer lists.Put(l)
	if wrong := c.list(l, p, n); wrong != "" {
		return idx, &CorruptError{c.String(), n, wrong}
	}
	return append(idx, l.idx...), nil
}
