package data

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"math"
	"math/bits"
	"runtime"
	"slices"
	"strconv"

	"github.com/covey-ml/covey/vec"
)

// LIBSVM text is one sample a line: a label, then index:value pairs with increasing indices from 1, separated by blanks;
// what is not written is zero. Text after # is a comment. (Chang and Lin, "LIBSVM: a library for support vector
// machines", ACM TIST 2011, and the README of its package.)

const maxIndex = math.MaxInt32 // columns are int32

// libsvm is a LIBSVM text on its way in.
type libsvm struct {
	name   string // for messages
	o      Options
	first  int    // index of the first column
	limit  int    // columns, when that is known
	hash   hasher // slots 0: indices are columns
	width  int    // highest column so far, and one
	bare   bool
	row    []int
	col    []int32
	val    []float32
	labels []float64
	where  []int32 // line of each sample
	later  bool    // of a piece that is not the file's first: that lines have labels, or that they do not, is known
}

// libsvmChunk is how many bytes of text a core parses in one go.
const libsvmChunk = 1 << 18

// libsvmSide is how many cores parse at most: beyond, they wait for the one that reads.
const libsvmSide = 8

// readLIBSVM reads a whole file. The width is the highest index of the file, o.Features when that is given, the training
// data's when o.Like is, or 2^o.Hash. With o.Like all lines may lack the label.
func readLIBSVM(ctx context.Context, name string, src source, o Options) (*sparse, error) {
	in, err := src.read(ctx)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	d := &libsvm{name: src.name, o: o, first: 1, limit: o.Features, row: []int{0}}
	if o.Like != nil {
		d.limit = o.Like.Dim
	}
	if o.ZeroBased {
		d.first = 0
	}
	hash := o.hashing()
	if hash != nil {
		d.hash, d.limit = hash.column("", 1<<hash.Bits), 0
	}
	pieces := make([]libsvm, min(runtime.GOMAXPROCS(0), libsvmSide))
	text := chunks{in: in.Reader, size: libsvmChunk / 4}
	line := 1
	for {
		p, err := text.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if line == 1 {
			p = bytes.TrimPrefix(p, []byte("\xef\xbb\xbf"))
		}
		first := len(d.labels) == 0
		if first || len(pieces) == 1 || len(p) < libsvmChunk/4 {
			line, err = d.parse(p, line)
		} else {
			line, err = d.sideBySide(pieces, p, line)
		}
		if err != nil {
			return nil, err
		}
		if first && len(d.labels) > 0 {
			if !in.gz {
				d.reserve(float64(in.size)/float64(len(p))*1.02 + 1)
			}
			text.size = libsvmChunk * len(pieces)
		}
	}
	return d.finish(name, hash)
}

// reserve makes room for so many times what there is, and a little more.
func (d *libsvm) reserve(times float64) {
	d.col, d.val = roomy(d.col, times), roomy(d.val, times)
	d.row, d.labels, d.where = roomy(d.row, times), roomy(d.labels, times), roomy(d.where, times)
}

// roomy is s with room for so many times its elements. Memory that is made costs nothing before it is touched; what
// slices.Grow makes has been.
func roomy[T any](s []T, times float64) []T {
	return append(make([]T, 0, int(float64(len(s))*times)+1024), s...)
}

// sideBySide is parse, piece by piece on all cores.
func (d *libsvm) sideBySide(pieces []libsvm, p []byte, number int) (int, error) {
	texts := make([][]byte, len(pieces))
	rest := p
	for i := range pieces {
		n := len(rest) / (len(pieces) - i)
		if k := bytes.IndexByte(rest[n:], '\n'); k >= 0 {
			n += k + 1
		} else {
			n = len(rest)
		}
		texts[i], rest = rest[:n], rest[n:]
	}
	lines, errs := make([]int, len(pieces)), make([]error, len(pieces))
	vec.SideBySide(len(pieces), func(i int) {
		q := &pieces[i]
		*q = libsvm{name: d.name, o: d.o, first: d.first, limit: d.limit, hash: d.hash, bare: d.bare, later: true,
			row: q.row[:0], col: q.col[:0], val: q.val[:0], labels: q.labels[:0], where: q.where[:0]}
		lines[i], errs[i] = q.parse(texts[i], 0)
	})
	for i := range pieces {
		q := &pieces[i]
		if errs[i] != nil { // once more, to say in which line of the file
			return d.parse(texts[i], number)
		}
		base := len(d.col)
		for _, r := range q.row {
			d.row = append(d.row, base+r)
		}
		for _, n := range q.where {
			d.where = append(d.where, int32(number)+n)
		}
		d.col, d.val = append(d.col, q.col...), append(d.val, q.val...)
		d.labels = append(d.labels, q.labels...)
		d.width = max(d.width, q.width)
		number += lines[i]
	}
	return number, nil
}

// finish makes the data set.
func (d *libsvm) finish(name string, hash *Hashing) (*sparse, error) {
	if len(d.labels) == 0 {
		return nil, bad(d.name, "holds no samples")
	}
	width := d.width
	switch {
	case hash != nil:
		width = 1 << hash.Bits
	case d.limit > 0:
		width = d.limit
	}
	if width == 0 {
		return nil, bad(d.name, "holds labels but not one feature")
	}
	t := targets{file: d.name, values: d.labels, line: d.where, count: 1}
	if d.bare {
		t.count = 0
	}
	out := &sparse{row: d.row, col: d.col, val: d.val}
	s := &Schema{Format: "libsvm", Dim: width, Shape: []int{width}, Sparse: true, Hash: hash}
	if err := t.resolve(&out.base, s, d.o); err != nil {
		return nil, err
	}
	out.info, out.file = out.schema.Info(name), d.name
	return out, nil
}

// parse adds the samples of whole lines, of which the first has that number, and returns the number of the next. Lines
// as programs write them take the short way through; every other goes to line, which knows all that a line may be
// and says what is wrong with it.
func (d *libsvm) parse(p []byte, number int) (int, error) {
	// A pair takes four bytes, as in " 1:2", so that there is room for all.
	d.col, d.val = slices.Grow(d.col, len(p)/4+1), slices.Grow(d.val, len(p)/4+1)
	for len(p) > 0 {
		n := 0
		if !d.bare && (d.later || len(d.labels) > 0 || d.o.Like == nil) {
			n = d.plain(p)
		}
		if n > 0 {
			d.where = append(d.where, int32(number))
		} else {
			if n = bytes.IndexByte(p, '\n'); n < 0 {
				n = len(p) - 1
			}
			n++
			if err := d.line(bytes.TrimRight(p[:n], "\r\n"), number); err != nil {
				return 0, err
			}
		}
		p = p[n:]
		number++
	}
	return number, nil
}

// plain adds the sample of p's first line and returns the line's length, or 0 and adds nothing when the line is not plain: a
// label, then pairs of an increasing index and a number that decimal reads, blanks between them, and a line feed that is
// not among the last bytes of p.
func (d *libsvm) plain(p []byte) int {
	label, i := decimal(p)
	if i == 0 {
		return 0
	}
	at := len(d.col)
	col, val := d.col[:cap(d.col)], d.val[:cap(d.val)]
	val = val[:min(len(col), len(val))]
	last := d.first - 1
	limit := maxIndex + d.first
	if d.limit > 0 {
		limit = d.limit + d.first
	}
	for i+24 <= len(p) {
		switch p[i] {
		case ' ':
			i++
			continue
		case '\n':
			d.width = max(d.width, last-d.first+1)
			d.col, d.val = d.col[:at], d.val[:at]
			d.endRow()
			d.labels = append(d.labels, label)
			return i + 1
		}
		word := binary.LittleEndian.Uint64(p[i:])
		n := first(word, ':')
		index, ok := digits8(word, n)
		if !ok || n == 0 || index <= last || index >= limit {
			return 0
		}
		last = index
		i += n + 1
		var v float64
		if c := p[i] - '0'; c <= 9 && p[i+1] <= ' ' {
			v = float64(c)
			i++
		} else if v, n = decimal(p[i:]); n > 0 {
			i += n
		} else {
			return 0
		}
		if p[i] != ' ' && p[i] != '\n' {
			return 0
		}
		if v := float32(v); v != 0 {
			col[at], val[at] = d.column(index-d.first), v
			at++
		}
	}
	return 0
}

// The next three work on eight bytes of text at once, the first in the lowest byte of a word.
const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// first is the place of the first byte c, 8 when there is none.
func first(word uint64, c byte) int {
	x := word ^ ones*uint64(c)
	return bits.TrailingZeros64((x-ones)&^x&highs) / 8
}

// blank is the place of the first byte below '!', 8 when there is none.
func blank(word uint64) int {
	return bits.TrailingZeros64((word-ones*'!')&^word&highs) / 8
}

// digits8 is the whole number that the first n bytes spell, and whether all are digits; n is at most 8.
func digits8(word uint64, n int) (int, bool) {
	d := (word ^ ones*'0') << (64 - 8*n)
	ok := (d|(d+ones*0x76))&highs == 0
	d = d * (10<<8 + 1) >> 8 & 0x00ff00ff00ff00ff
	d = d * (100<<16 + 1) >> 16 & 0x0000ffff0000ffff
	d = d * (10000<<32 + 1) >> 32
	return int(d), ok
}

// tens are the powers of ten that float64 holds exactly.
var tens = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22}

// decimal reads a number at the beginning of p, up to a blank or a line end, and returns how long it is; 0 when it is not a sign,
// digits, a point and digits with at most 15 digits in all. Such a number is a whole number that float64 holds divided by a
// power of ten that it holds too, so that the quotient is the nearest float64, as strconv.ParseFloat would have it (Clinger,
// How to read floating point numbers accurately, 1990).
func decimal(p []byte) (v float64, n int) {
	if len(p) >= 11 && p[0] == '0' && p[1] == '.' { // as most are written
		word := binary.LittleEndian.Uint64(p[2:])
		if n := blank(word); n > 0 {
			if whole, ok := digits8(word, n); ok && (n < 8 || p[10] == ' ' || p[10] == '\n') && (n == 8 || p[2+n] == ' ' || p[2+n] == '\n') {
				return float64(whole) / tens[n], 2 + n
			}
		}
	}
	i := 0
	negative := false
	if i < len(p) && (p[i] == '-' || p[i] == '+') {
		negative = p[i] == '-'
		i++
	}
	var whole uint64
	begin := i
	for i < len(p) && p[i]-'0' <= 9 {
		whole = whole*10 + uint64(p[i]-'0')
		i++
	}
	digits, fraction := i-begin, 0
	if i < len(p) && p[i] == '.' {
		i++
		begin = i
		for i < len(p) && p[i]-'0' <= 9 {
			whole = whole*10 + uint64(p[i]-'0')
			i++
		}
		fraction = i - begin
		digits += fraction
	}
	if digits == 0 || digits > 15 || i >= len(p) || p[i] != ' ' && p[i] != '\n' {
		return 0, 0
	}
	v = float64(whole)
	if fraction > 0 {
		v /= tens[fraction]
	}
	if negative {
		v = -v
	}
	return v, i
}

// line adds the sample of a line without its end, if it holds one.
func (d *libsvm) line(line []byte, n int) error {
	if k := bytes.IndexByte(line, '#'); k >= 0 {
		line = line[:k]
	}
	token, rest := field(line)
	if len(token) == 0 {
		return nil
	}
	if d.o.Like != nil && len(d.labels) == 0 && !d.later {
		d.bare = bytes.IndexByte(token, ':') >= 0
	}
	var label float64
	var err error
	if d.bare {
		rest = line
	} else if label, err = number(token); err != nil {
		return badLine(d.name, n, "label %s: %v (a line is: label index:value index:value ...)", quote(token), err)
	}
	last := -1
	for {
		token, rest = field(rest)
		if len(token) == 0 {
			break
		}
		colon := bytes.IndexByte(token, ':')
		if colon < 0 && d.bare {
			return badLine(d.name, n, "%s is not index:value, and the lines before have no label", quote(token))
		}
		if colon < 0 {
			return badLine(d.name, n, "%s is not index:value", quote(token))
		}
		index, ok := whole(token[:colon])
		if !ok || index > maxIndex && d.hash.slots == 0 {
			if string(token[:colon]) == "qid" {
				return badLine(d.name, n, "%s: ranking data (qid) is not supported, expected index:value", quote(token))
			}
			return badLine(d.name, n, "%s: index is not a whole number from %d to %d%s", quote(token), d.first, maxIndex, larger(ok))
		}
		col := index - d.first
		if col < 0 {
			return badLine(d.name, n, "index 0: indices count from 1 (for a file that counts from 0, set zero_based)")
		}
		if col == last {
			return badLine(d.name, n, "index %d is given twice", index)
		}
		if col < last {
			return badLine(d.name, n, "index %d comes after %d: indices must increase", index, last+d.first)
		}
		last = col
		value, err := number(token[colon+1:])
		if err != nil {
			return badLine(d.name, n, "value of %s: %v", quote(token), err)
		}
		if d.limit > 0 && col >= d.limit {
			what := "the training data has"
			if d.o.Like == nil {
				what = "the features are set to"
			}
			return badLine(d.name, n, "index %d is beyond the %d features that %s: set the number of features to at least %d", index, d.limit, what, col+1)
		}
		d.width = max(d.width, col+1)
		if v := float32(value); v != 0 {
			d.col = append(d.col, d.column(col))
			d.val = append(d.val, v)
		}
	}
	d.endRow()
	d.labels = append(d.labels, label)
	d.where = append(d.where, int32(n))
	return nil
}

// larger says what helps against an index that is whole, and too large.
func larger(whole bool) string {
	if whole {
		return " (set hash to bring larger ones down)"
	}
	return ""
}

// column is where index col, counted from 0, goes.
func (d *libsvm) column(col int) int32 {
	if d.hash.slots > 0 {
		return int32(d.hash.number(uint64(col)))
	}
	return int32(col)
}

// endRow ends a sample.
func (d *libsvm) endRow() {
	if d.hash.slots > 0 {
		at := 0
		if len(d.row) > 0 {
			at = d.row[len(d.row)-1]
		}
		n := at + fold(d.col[at:], d.val[at:])
		d.col, d.val = d.col[:n], d.val[:n]
	}
	d.row = append(d.row, len(d.col))
}

// field cuts the next word off line.
func field(line []byte) (word, rest []byte) {
	i := 0
	for i < len(line) && (line[i] == ' ' || line[i] == '\t') {
		i++
	}
	j := i
	for j < len(line) && line[j] != ' ' && line[j] != '\t' {
		j++
	}
	return line[i:j], line[j:]
}

// whole parses a whole number of at most 18 digits.
func whole(p []byte) (int, bool) {
	if len(p) == 0 || len(p) > 18 {
		return 0, false
	}
	n := 0
	for _, c := range p {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}

// number parses a finite number that float32 can hold, as float64.
func number(p []byte) (float64, error) {
	if len(p) < 8 {
		if n, ok := whole(p); ok {
			return float64(n), nil
		}
	}
	return parse(string(p))
}

func parse(s string) (float64, error) {
	x, err := strconv.ParseFloat(s, 64)
	switch {
	case math.IsNaN(x):
		return 0, errNaN
	case math.IsInf(x, 0) || math.Abs(x) > math.MaxFloat32:
		return 0, errInfinite
	case err != nil:
		return 0, errNumber
	}
	return x, nil
}

// quote shows at most 40 bytes of p.
func quote(p []byte) string {
	if len(p) > 40 {
		return strconv.Quote(string(p[:40])) + "..."
	}
	return strconv.Quote(string(p))
}
