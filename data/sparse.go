package data

import (
	"fmt"
	"hash"
	"math"
	"sync"
	"unsafe"
)

// sparse is samples as compressed rows: sample i has columns col[row[i]:row[i+1]], increasing.
type sparse struct {
	base
	row []int
	col []int32
	val []float32

	ones     bool // all of val are
	onesOnce sync.Once
}

var _ Dataset = (*sparse)(nil)

func (d *sparse) Len() int { return len(d.row) - 1 }

func (d *sparse) Info() Info {
	return d.sum(d, d.hash256)
}

// hash256 writes what hashBatches would, from where it lies.
func (d *sparse) hash256(h hash.Hash) {
	if d.class == nil && d.y == nil { // labels that are not known are made up
		hashBatches(h, d)
		return
	}
	var buf []byte
	for lo := 0; lo < d.Len(); lo += hashRows {
		hi := min(lo+hashRows, d.Len())
		buf = buf[:0]
		for _, v := range d.row[lo : hi+1] {
			buf = le64(buf, uint64(v-d.row[lo]))
		}
		h.Write(buf)
		h.Write(words(d.col[d.row[lo]:d.row[hi]]))
		h.Write(words(d.val[d.row[lo]:d.row[hi]]))
		if t := d.info.Targets; d.info.Task != Classification {
			h.Write(words(d.y[lo*t : hi*t]))
		} else {
			h.Write(words(d.class[lo:hi]))
		}
	}
}

// words is x's memory: vec, which every program that computes links, refuses big-endian machines.
func words[T int32 | float32](x []T) []byte {
	if len(x) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), 4*len(x))
}

func (d *sparse) Gather(b *Batch, ids []int) {
	d.labels(b, ids)
	b.X = b.X[:0]
	b.Row = grow(b.Row, len(ids)+1)
	n := 0
	for k, i := range ids {
		b.Row[k] = n
		n += d.row[i+1] - d.row[i]
	}
	b.Row[len(ids)] = n
	b.Col, b.Val = grow(b.Col, n), grow(b.Val, n)
	for k, i := range ids {
		copy(b.Col[b.Row[k]:], d.col[d.row[i]:d.row[i+1]])
		copy(b.Val[b.Row[k]:], d.val[d.row[i]:d.row[i+1]])
	}
}

// CSR returns the data set of compressed rows: sample i holds values val[row[i]:row[i+1]] in the columns col[...], which
// increase within a row and are below dim. Its labels are class numbers below classes or, when class is nil, one target
// a sample in y. It keeps the slices and fails when they are not such rows.
func CSR(name string, dim int, row []int, col []int32, val []float32, class []int32, classes int, y []float32) (Dataset, error) {
	n := len(row) - 1
	if n < 0 || row[0] != 0 || row[n] != len(col) || len(col) != len(val) {
		return nil, fmt.Errorf("%s: row offsets must begin with 0 and end with the number of values", name)
	}
	for i := range n {
		if row[i] > row[i+1] || row[i+1] > len(col) {
			return nil, fmt.Errorf("%s: the row offsets of sample %d decrease", name, i)
		}
		for k := row[i]; k < row[i+1]; k++ {
			if col[k] < 0 || int(col[k]) >= dim || k > row[i] && col[k] <= col[k-1] {
				return nil, fmt.Errorf("%s: sample %d: column %d: columns must increase and be below %d", name, i, col[k], dim)
			}
			if v := float64(val[k]); math.IsNaN(v) || math.IsInf(v, 0) {
				return nil, fmt.Errorf("%s: sample %d: column %d holds %v, not a finite number", name, i, col[k], v)
			}
		}
	}
	in := Info{Name: name, Task: Classification, Dim: dim, Shape: []int{dim}, Classes: classes, Sparse: true}
	if class == nil {
		in.Task, in.Classes, in.Targets = Regression, 0, 1
		if len(y) != n {
			return nil, fmt.Errorf("%s: %d samples and %d targets", name, n, len(y))
		}
	} else {
		y = nil
		if len(class) != n {
			return nil, fmt.Errorf("%s: %d samples and %d labels", name, n, len(class))
		}
		for i, c := range class {
			if c < 0 || int(c) >= classes {
				return nil, fmt.Errorf("%s: sample %d: label %d is out of range 0 to %d", name, i, c, classes-1)
			}
		}
	}
	s := &Schema{Format: "libsvm", Task: in.Task, Dim: dim, Shape: in.Shape, Classes: in.Classes, Targets: in.Targets, Sparse: true}
	return &sparse{base: base{info: in, schema: s, file: name, class: class, y: y}, row: row, col: col, val: val}, nil
}
