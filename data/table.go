package data

import (
	"cmp"
	"context"
	"fmt"
	"hash"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/covey-ml/covey/spec"
)

// table is samples of raw columns, numbers and codes of texts. Codes become indicators (one column a text, 1 in one of
// them) only when samples are gathered, so a table takes memory for what was read, not for what a model sees.
type table struct {
	base
	x     []float32 // Len * raw; a code, or NaN for no text, in a column with texts
	raw   int       // columns of x
	texts bool      // some column holds codes, or hashes
	place []place   // texts or sparse: where each raw column goes
}

type place struct {
	off   int // first column of the sample
	width int // 0: a number; otherwise that many indicators
}

var _ Dataset = (*table)(nil)

func (d *table) Len() int { return len(d.x) / d.raw }

func (d *table) Info() Info {
	return d.sum(d, func(h hash.Hash) { hashBatches(h, d) })
}

func (d *table) Gather(b *Batch, ids []int) {
	d.labels(b, ids)
	if d.info.Sparse {
		d.gatherSparse(b, ids)
		return
	}
	b.Row, b.Col, b.Val = b.Row[:0], b.Col[:0], b.Val[:0]
	dim := d.info.Dim
	b.X = grow(b.X, len(ids)*dim)
	if !d.texts {
		for k, i := range ids {
			copy(b.X[k*dim:(k+1)*dim], d.x[i*dim:])
		}
		return
	}
	clear(b.X)
	for k, i := range ids {
		dst := b.X[k*dim : (k+1)*dim]
		for j, v := range d.x[i*d.raw : (i+1)*d.raw] {
			p := d.place[j]
			if p.width == 0 {
				dst[p.off] = v
			} else if v == v {
				dst[p.off+int(v)] = 1
			}
		}
	}
}

func (d *table) gatherSparse(b *Batch, ids []int) {
	b.X = b.X[:0]
	b.Row = grow(b.Row, len(ids)+1)
	most := len(ids) * d.raw
	b.Col, b.Val = grow(b.Col, most), grow(b.Val, most)
	n := 0
	for k, i := range ids {
		b.Row[k] = n
		for j, v := range d.x[i*d.raw : (i+1)*d.raw] {
			p := d.place[j]
			switch {
			case p.width == 0 && v != 0:
				b.Col[n], b.Val[n] = int32(p.off), v
				n++
			case p.width > 0 && v == v:
				b.Col[n], b.Val[n] = int32(p.off+int(v)), 1
				n++
			}
		}
	}
	b.Row[len(ids)] = n
	b.Col, b.Val = b.Col[:n], b.Val[:n]
}

// tableBuilder collects a table line by line.
type tableBuilder struct {
	file    string
	h       head
	r       roles
	o       Options
	hash    *Hashing // or nil
	width   int
	cols    []column // features
	target  []column
	x       []float32
	row     []float32
	y       []float64
	rows    int // lines seen
	bare    int // of them, lines whose target is missing in data that is read as other data was
	kept    []bool
	line    []int32 // of each sample
	targets targets

	lost       int // missing values
	lostLine   int // the first one
	lostColumn string
}

func newTableBuilder(file string, h head, r roles, width int, o Options) (b *tableBuilder, err error) {
	b = &tableBuilder{file: file, h: h, r: r, o: o, width: width, hash: o.hashing()}
	slots := 0
	if b.hash != nil && o.Like == nil {
		if slots, err = b.hash.slotsOf(file, len(r.features)); err != nil {
			return nil, err
		}
	}
	limit := o.MaxCategories
	if limit == 0 {
		limit = 1000
	}
	for k, i := range r.features {
		c := column{name: h.name(i), limit: limit}
		if slices.ContainsFunc(o.Text, func(t string) bool { return b.is(t, i) }) {
			c.kind = textual
		}
		if o.Like != nil {
			like := o.Like.Features[k]
			c.name, c.kind, c.fixed, c.zero = like.Name, numeric, true, o.Unknown == "zero"
			slots, c.number = like.Slots, like.Number
			if slots > 0 && c.number == "" {
				c.kind = textual
			}
			if like.Texts != nil {
				c.kind, c.texts, c.codes = textual, like.Texts, map[string]int{}
				for code, s := range like.Texts {
					c.codes[s] = code
				}
			}
		}
		if slots > 0 {
			c.hash = b.hash.column(c.name, slots)
			if o.Like == nil {
				c.number = cmp.Or(o.Numbers, numbersByLog)
			}
		}
		b.cols = append(b.cols, c)
	}
	for _, i := range r.targets {
		b.target = append(b.target, column{name: h.name(i), limit: maxClasses})
	}
	b.row = make([]float32, len(b.cols))
	return b, nil
}

// add takes one line.
func (b *tableBuilder) add(f []string, line int) error {
	b.rows++
	whole := true
	for k, i := range b.r.features {
		s := f[i]
		c := &b.cols[k]
		if missing(s) {
			b.row[k] = float32(math.NaN())
			switch {
			case b.o.Missing != "keep":
				whole = false
				b.lose(c.name, line)
			case c.kind != numeric || c.number != numbersAsValues: // what is 0 is filled in later
				b.row[k] = float32(c.hash.text(""))
			}
			continue
		}
		v, err := c.put(s)
		if err != nil {
			return &Error{File: b.file, Line: line, Column: c.name, What: err.Error()}
		}
		b.row[k] = float32(v)
	}
	y := len(b.y)
	for k, i := range b.r.targets {
		s := f[i]
		if missing(s) {
			if k == 0 && b.o.Like != nil && b.bare == len(b.line) && b.o.Missing != "drop" { // no line before this one has a target
				b.bare++
				break
			}
			if b.o.Missing != "drop" {
				return &Error{File: b.file, Line: line, Column: b.target[k].name,
					What: fmt.Sprintf("the target is missing (%q): set missing to drop to leave such lines out", s)}
			}
			whole = false
			b.y = append(b.y, 0)
			continue
		}
		if b.bare > 0 {
			return &Error{File: b.file, Line: line, Column: b.target[k].name,
				What: fmt.Sprintf("holds a target, and the %d samples before do not: give all or none", b.bare)}
		}
		v, err := b.target[k].put(s)
		if err != nil {
			return &Error{File: b.file, Line: line, Column: b.target[k].name, What: "target: " + err.Error()}
		}
		b.y = append(b.y, v)
	}
	keep := whole || b.o.Missing != "drop"
	if b.o.targetBeside {
		b.kept = append(b.kept, keep)
	}
	if !keep {
		b.y = b.y[:y]
		return nil
	}
	b.x = append(b.x, b.row...)
	b.line = append(b.line, int32(line))
	return nil
}

func (b *tableBuilder) lose(column string, line int) {
	if b.lost++; b.lost == 1 {
		b.lostLine, b.lostColumn = line, column
	}
}

// targetsBeside reads the targets from a file of their own, one line a sample.
func (b *tableBuilder) targetsBeside(ctx context.Context, src source, o Options) error {
	in, err := src.read(ctx)
	if err != nil {
		return err
	}
	defer in.Close()
	t, err := newTableReader(in, o.Delimiter)
	if err != nil {
		return err
	}
	h, err := t.head(o.Header, nil)
	if err != nil {
		return err
	}
	b.line = b.line[:0] // messages about targets name the lines of this file
	for n := 0; ; n++ {
		f, line, err := t.next()
		if err == io.EOF {
			if n != b.rows {
				return bad(src.name, "holds %d targets, but %s holds %d samples", n, b.file, b.rows)
			}
			break
		}
		if err != nil {
			return err
		}
		if n == 0 {
			for i := range f {
				b.target = append(b.target, column{name: h.name(i), limit: maxClasses})
			}
		}
		if n >= len(b.kept) {
			return badLine(src.name, line, "there are more targets than the %d samples of %s", b.rows, b.file)
		}
		if !b.kept[n] {
			continue
		}
		for i, s := range f {
			if missing(s) {
				return &Error{File: src.name, Line: line, Column: h.name(i), What: fmt.Sprintf("the target is missing (%q)", s)}
			}
			v, err := b.target[i].put(s)
			if err != nil {
				return &Error{File: src.name, Line: line, Column: h.name(i), What: "target: " + err.Error()}
			}
			b.y = append(b.y, v)
		}
		b.line = append(b.line, int32(line))
	}
	b.targets.file = src.name
	return nil
}

// table finishes the data set.
func (b *tableBuilder) table(name string) (*table, error) {
	fix := "set missing to mean (fill in the column's mean) or drop (leave such lines out)"
	if b.hash != nil {
		fix = "set missing to keep (take it for a text of its own) or drop (leave such lines out)"
	}
	if b.lost > 0 && (b.o.Missing == "" || b.o.Missing == "error") {
		return nil, &Error{File: b.file, Line: b.lostLine, Column: b.lostColumn,
			What: fmt.Sprintf("a value is missing here, and %d in all: %s", b.lost, fix)}
	}
	if len(b.x) == 0 {
		if b.rows > 0 {
			return nil, bad(b.file, "each of its %d lines lacks a value, so none is left", b.rows)
		}
		return nil, bad(b.file, "holds no samples")
	}
	if b.bare > 0 {
		b.target = nil
	}
	d := &table{x: b.x, raw: len(b.cols)}
	d.file = b.file
	s := b.o.Like
	if s == nil {
		var err error
		if s, err = b.schema(); err != nil {
			return nil, err
		}
	}
	for i := range s.Features {
		d.texts = d.texts || s.Features[i].indicators() > 0
	}
	if d.texts || s.Sparse {
		off := 0
		for i := range s.Features {
			d.place = append(d.place, place{off, s.Features[i].indicators()})
			off += s.Features[i].span()
		}
	}
	b.targets.values, b.targets.line, b.targets.count = b.y, b.line, len(b.target)
	if b.targets.file == "" {
		b.targets.file = b.file
	}
	for _, c := range b.target {
		if b.targets.column = c.name; c.kind == textual {
			if len(b.target) > 1 {
				return nil, &Error{File: b.targets.file, Column: c.name, What: fmt.Sprintf("is text: several target columns (%d) must hold numbers", len(b.target))}
			}
			b.targets.texts = c.texts
		}
	}
	if len(b.h.labels) > 0 && b.targets.texts == nil && (b.o.Like == nil || b.o.Like.Labels != nil) && b.o.Classes == 0 && b.o.Task != Regression {
		if err := b.name(s); err != nil {
			return nil, err
		}
	}
	if err := b.targets.resolve(&d.base, s, b.o); err != nil {
		return nil, err
	}
	d.info = d.schema.Info(name)
	return d, nil
}

// name gives scikit-learn style class numbers their names.
func (b *tableBuilder) name(s *Schema) error {
	texts := b.h.labels
	for i, v := range b.y {
		if v != math.Floor(v) || v < 0 || v >= float64(len(texts)) {
			return &Error{File: b.file, Line: int(b.line[i]), Column: b.target[0].name,
				What: fmt.Sprintf("label %s is out of range, expected 0 to %d for the classes of line 1", label(v), len(texts)-1)}
		}
	}
	b.targets.texts, b.targets.ordered = texts, true
	return nil
}

// schema describes what was read and renumbers codes by the order of their texts, so that the columns do not depend on
// the order of lines.
func (b *tableBuilder) schema() (*Schema, error) {
	s := &Schema{Format: "csv", Named: b.h.names != nil, Width: b.width, Sparse: b.o.Sparse || b.hash != nil, Hash: b.hash}
	texts := slices.Clone(b.o.Text)
	for k := range b.cols {
		c := &b.cols[k]
		if c.kind == undecided {
			return nil, &Error{File: b.file, Column: c.name, What: "holds no value at all: drop the column"}
		}
		f := Feature{Name: c.name, Place: b.r.features[k]}
		if i := slices.IndexFunc(texts, func(t string) bool { return b.is(t, f.Place) }); i >= 0 {
			texts = slices.Delete(texts, i, i+1)
		}
		if f.Slots = int(c.hash.slots); f.Slots > 0 && c.kind == numeric {
			f.Number = c.number
		}
		if c.kind == textual && f.Slots == 0 {
			f.Texts = slices.Sorted(slices.Values(c.texts))
			code := make([]float32, len(c.texts))
			for old, text := range c.texts {
				at, _ := slices.BinarySearch(f.Texts, text)
				code[old] = float32(at)
			}
			for i := k; i < len(b.x); i += len(b.cols) {
				if v := b.x[i]; v == v {
					b.x[i] = code[int(v)]
				}
			}
		}
		s.Features = append(s.Features, f)
		s.Dim += f.span()
	}
	s.Shape = []int{s.Dim}
	for k, i := range b.r.targets {
		s.TargetNames = append(s.TargetNames, b.target[k].name)
		s.TargetPlaces = append(s.TargetPlaces, i)
	}
	if len(texts) > 0 {
		return nil, fmt.Errorf("%s: %w", b.file, spec.OneOf("text column", texts[0], b.names()...))
	}
	return s, nil
}

// is tells whether word names column i, by name or number.
func (b *tableBuilder) is(word string, i int) bool {
	return word == b.h.name(i) || word == fmt.Sprint(i+1)
}

func (b *tableBuilder) names() []string {
	var out []string
	for _, c := range b.cols {
		out = append(out, c.name)
	}
	return out
}

// fit finds, over the samples ids, what fills missing numbers and, when asked to, what standardizes columns, and puts it
// into the schema. Sums are float64, in the order of ids.
func (d *table) fit(ids []int, standardize bool) error {
	features := d.schema.Features
	mean, square := make([]float64, d.raw), make([]float64, d.raw)
	count := make([]int, d.raw)
	for _, i := range ids {
		for j, v := range d.x[i*d.raw : (i+1)*d.raw] {
			if v == v {
				mean[j] += float64(v)
				count[j]++
			}
		}
	}
	for j, f := range features {
		if f.indicators() > 0 {
			continue
		}
		if count[j] == 0 {
			return &Error{File: d.file, Column: f.Name, What: "holds no value in the training samples: drop the column"}
		}
		mean[j] /= float64(count[j])
		features[j].Fill = float32(mean[j])
	}
	if !standardize {
		return nil
	}
	for _, i := range ids {
		for j, v := range d.x[i*d.raw : (i+1)*d.raw] {
			if v == v {
				e := float64(v) - mean[j]
				square[j] += float64(e * e)
			}
		}
	}
	for j, f := range features {
		if f.indicators() > 0 {
			continue
		}
		deviation := float32(math.Sqrt(square[j] / float64(count[j])))
		if deviation == 0 {
			deviation = 1
		}
		features[j].Mean, features[j].Deviation = float32(mean[j]), deviation
	}
	return nil
}

// apply fills and standardizes all samples as the schema says.
func (d *table) apply() {
	for i := 0; i < len(d.x); i += d.raw {
		for j, v := range d.x[i : i+d.raw] {
			f := &d.schema.Features[j]
			if f.indicators() > 0 {
				continue
			}
			if v != v {
				v = f.Fill
			}
			if f.Deviation != 0 {
				v = (v - f.Mean) / f.Deviation
			}
			d.x[i+j] = v
		}
	}
}

// columnNames lists the columns that a model sees, nil when they are hashed.
func columnNames(features []Feature) []string {
	var out []string
	for _, f := range features {
		if f.Slots > 0 {
			return nil
		}
		if f.Texts == nil {
			out = append(out, f.Name)
		}
		for _, t := range f.Texts {
			out = append(out, f.Name+"="+strings.TrimSpace(t))
		}
	}
	return out
}
