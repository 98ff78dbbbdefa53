package data

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"math"
	"slices"
	"sync"

	"github.com/covey-ml/covey/vec"
)

// base is what the data sets of this package share: how samples were read, and one label or target row a sample.
type base struct {
	info   Info // SHA256 is filled in by sum
	schema *Schema
	file   string // for messages
	class  []int32
	y      []float32 // Len * Targets

	once sync.Once
	hash string
}

func (d *base) Schema() *Schema { return d.schema }

func (d *base) Label(i int) int {
	if d.class == nil {
		return -1
	}
	return int(d.class[i])
}

// labels copies the labels or targets of ids into b.
func (d *base) labels(b *Batch, ids []int) {
	b.N, b.Dim = len(ids), d.info.Dim
	b.ID = append(b.ID[:0], ids...)
	b.Class, b.Y = b.Class[:0], b.Y[:0]
	if d.info.Task == Classification {
		b.Class = grow(b.Class, len(ids))
		if d.class == nil {
			fill(b.Class, -1)
			return
		}
		for k, i := range ids {
			b.Class[k] = d.class[i]
		}
		return
	}
	t := d.info.Targets
	b.Y = grow(b.Y, len(ids)*t)
	if d.y == nil {
		fill(b.Y, float32(math.NaN()))
		return
	}
	for k, i := range ids {
		copy(b.Y[k*t:(k+1)*t], d.y[i*t:])
	}
}

func fill[T any](s []T, v T) {
	for i := range s {
		s[i] = v
	}
}

// plain is Info without the hash, which costs a pass over the data.
func (d *base) plain() Info { return d.info }

// sum fills in the hash, once.
func (d *base) sum(ds Dataset, samples func(hash.Hash)) Info {
	d.once.Do(func() { d.hash = hashOf(ds, d.info, samples) })
	in := d.info
	in.SHA256 = d.hash
	return in
}

// Shape is ds.Info() without SHA256, which costs a pass over the data.
func Shape(ds Dataset) Info {
	if p, ok := ds.(interface{ plain() Info }); ok {
		return p.plain()
	}
	return ds.Info()
}

// hashOf hashes the kind and shape of ds, then what samples writes, or, when it is nil, the gathered batches.
func hashOf(ds Dataset, in Info, samples func(hash.Hash)) string {
	h := sha256.New()
	var head []byte
	head = append(head, string(in.Task)...)
	for _, v := range append([]int{ds.Len(), in.Dim, in.Classes, in.Targets}, in.Shape...) {
		head = le64(head, uint64(v))
	}
	h.Write(head)
	if samples != nil {
		samples(h)
	} else {
		hashBatches(h, ds)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// hashRows is how many samples go into the hash at a time.
const hashRows = 256

// hashBatches writes samples, labels and targets in order, as little-endian words.
func hashBatches(h hash.Hash, ds Dataset) {
	const rows = hashRows
	var b Batch
	var ids []int
	var buf []byte
	for lo := 0; lo < ds.Len(); lo += rows {
		ids = ids[:0]
		for i := lo; i < min(lo+rows, ds.Len()); i++ {
			ids = append(ids, i)
		}
		ds.Gather(&b, ids)
		buf = buf[:0]
		for _, v := range b.X {
			buf = le32(buf, math.Float32bits(v))
		}
		for _, v := range b.Row {
			buf = le64(buf, uint64(v))
		}
		for _, v := range b.Col {
			buf = le32(buf, uint32(v))
		}
		for _, v := range b.Val {
			buf = le32(buf, math.Float32bits(v))
		}
		for _, v := range b.Y {
			buf = le32(buf, math.Float32bits(v))
		}
		for _, v := range b.Class {
			buf = le32(buf, uint32(v))
		}
		h.Write(buf)
	}
}

func le32(b []byte, v uint32) []byte { return append(b, byte(v), byte(v>>8), byte(v>>16), byte(v>>24)) }

func le64(b []byte, v uint64) []byte { return le32(le32(b, uint32(v)), uint32(v>>32)) }

// grow returns a slice of n elements, reusing s when it is long enough. Its contents are unspecified.
func grow[T any](s []T, n int) []T {
	return slices.Grow(s[:0], n)[:n]
}

// images are samples of one byte a feature, scaled when gathered.
type images struct {
	base
	pix []byte // Len * Dim
}

var _ Dataset = (*images)(nil)

// newImages wraps pixels and class numbers, neither of which it copies. class may be nil.
func newImages(in Info, s *Schema, file string, pix []byte, class []int32) *images {
	return &images{base: base{info: in, schema: s, file: file, class: class}, pix: pix}
}

func (d *images) Len() int { return len(d.pix) / d.info.Dim }

func (d *images) Info() Info {
	return d.sum(d, func(h hash.Hash) {
		h.Write(d.pix)
		var buf []byte
		for _, c := range d.class {
			buf = le32(buf, uint32(c))
		}
		for i := range 256 { // what each byte stands for
			v := float32(i) / 255
			if d.schema.Deviation != 0 {
				v = float32(v-d.schema.Mean) / d.schema.Deviation
			}
			buf = le32(buf, math.Float32bits(v))
		}
		h.Write(buf)
	})
}

func (d *images) Gather(b *Batch, ids []int) {
	d.labels(b, ids)
	b.Row, b.Col, b.Val = b.Row[:0], b.Col[:0], b.Val[:0]
	dim := d.info.Dim
	b.X = grow(b.X, len(ids)*dim)
	vec.GatherImages(b.X, d.pix, dim, ids, d.schema.Mean, d.schema.Deviation)
}

// moments finds mean and deviation of all pixels of ids, exactly, from a histogram.
func (d *images) moments(ids []int) (mean, deviation float32) {
	var count [256]uint64
	dim := d.info.Dim
	for _, i := range ids {
		for _, p := range d.pix[i*dim : (i+1)*dim] {
			count[p]++
		}
	}
	var n, sum, square uint64
	for p, c := range count {
		n += c
		sum += c * uint64(p)
		square += c * uint64(p) * uint64(p)
	}
	m := float64(sum) / float64(n)
	v := float64(square)/float64(n) - float64(m*m)
	return float32(m / 255), float32(math.Sqrt(max(v, 0)) / 255)
}

// Dense returns the data set of samples given as rows of x, len(x)/dim of them, with class numbers below classes.
// It keeps x and class. It panics when the lengths do not fit.
func Dense(name string, dim int, x []float32, class []int32, classes int) Dataset {
	if dim <= 0 || len(x)%dim != 0 || len(class) != len(x)/dim {
		panic("data: Dense: x must hold dim values a sample, and class one number a sample")
	}
	in := Info{Name: name, Task: Classification, Dim: dim, Shape: []int{dim}, Classes: classes}
	return newTable(in, x, class, nil)
}

// DenseTargets is Dense for regression, with targets numbers to predict a sample in y.
func DenseTargets(name string, dim int, x, y []float32, targets int) Dataset {
	if dim <= 0 || targets <= 0 || len(x)%dim != 0 || len(y) != len(x)/dim*targets {
		panic("data: DenseTargets: x must hold dim values a sample, and y targets values a sample")
	}
	in := Info{Name: name, Task: Regression, Dim: dim, Shape: []int{dim}, Targets: targets}
	return newTable(in, x, nil, y)
}

func newTable(in Info, x []float32, class []int32, y []float32) *table {
	s := &Schema{Format: "csv", Task: in.Task, Dim: in.Dim, Shape: in.Shape, Classes: in.Classes, Targets: in.Targets}
	return &table{base: base{info: in, schema: s, file: in.Name, class: class, y: y}, x: x, raw: in.Dim}
}

// subset is some samples of another data set.
type subset struct {
	of  Dataset
	ids []int

	once sync.Once
	hash string
}

// Subset returns the samples of ds whose numbers are ids, numbered from 0 in that order: a client's part, a split.
// It keeps ids. The slice that is given to its Gather must not be the batch's own ID.
func Subset(ds Dataset, ids []int) Dataset { return &subset{of: ds, ids: ids} }

func (d *subset) Len() int        { return len(d.ids) }
func (d *subset) Label(i int) int { return d.of.Label(d.ids[i]) }

func (d *subset) Schema() *Schema { return SchemaOf(d.of) }

func (d *subset) plain() Info {
	return Shape(d.of)
}

func (d *subset) Info() Info {
	in := d.plain()
	d.once.Do(func() { d.hash = hashOf(d, in, nil) })
	in.SHA256 = d.hash
	return in
}

func (d *subset) Gather(b *Batch, ids []int) {
	b.ID = grow(b.ID, len(ids))
	for k, i := range ids {
		b.ID[k] = d.ids[i]
	}
	d.of.Gather(b, b.ID)
	copy(b.ID, ids)
}

// all returns 0 to n-1.
func all(n int) []int {
	ids := make([]int, n)
	for i := range ids {
		ids[i] = i
	}
	return ids
}
