package data

import (
	"bytes"
	"context"
	"io"
	"math"
	"strconv"
)

// LIBSVM text is one sample a line: a label, then index:value pairs with increasing indices from 1, separated by blanks;
// what is not written is zero. Text after # is a comment. (Chang and Lin, "LIBSVM: a library for support vector
// machines", ACM TIST 2011, and the README of its package.)

const maxIndex = math.MaxInt32 // columns are int32

// readLIBSVM reads a whole file. The width is the highest index of the file, o.Features when that is given, or the
// training data's when o.Like is. With o.Like all lines may lack the label.
func readLIBSVM(ctx context.Context, name string, src source, o Options) (*sparse, error) {
	in, err := src.read(ctx)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	d := &sparse{row: []int{0}}
	var labels []float64
	var where []int32 // line of each sample
	width, limit := 0, o.Features
	if o.Like != nil {
		limit = o.Like.Dim
	}
	first := 1
	if o.ZeroBased {
		first = 0
	}
	text := lines{in: in.Reader}
	bare := false // lines have no labels
	for {
		line, err := text.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if k := bytes.IndexByte(line, '#'); k >= 0 {
			line = line[:k]
		}
		token, rest := field(line)
		if len(token) == 0 {
			continue
		}
		if o.Like != nil && len(d.row) == 1 {
			bare = bytes.IndexByte(token, ':') >= 0
		}
		var label float64
		if bare {
			rest = line
		} else if label, err = number(token); err != nil {
			return nil, badLine(src.name, text.n, "label %s: %v (a line is: label index:value index:value ...)", quote(token), err)
		}
		last := -1
		for {
			token, rest = field(rest)
			if len(token) == 0 {
				break
			}
			colon := bytes.IndexByte(token, ':')
			if colon < 0 && bare {
				return nil, badLine(src.name, text.n, "%s is not index:value, and the lines before have no label", quote(token))
			}
			if colon < 0 {
				return nil, badLine(src.name, text.n, "%s is not index:value", quote(token))
			}
			index, ok := whole(token[:colon])
			if !ok || index > maxIndex {
				if string(token[:colon]) == "qid" {
					return nil, badLine(src.name, text.n, "%s: ranking data (qid) is not supported, expected index:value", quote(token))
				}
				return nil, badLine(src.name, text.n, "%s: index is not a whole number from %d to %d", quote(token), first, maxIndex)
			}
			col := index - first
			if col < 0 {
				return nil, badLine(src.name, text.n, "index 0: indices count from 1 (for a file that counts from 0, set zero_based)")
			}
			if col == last {
				return nil, badLine(src.name, text.n, "index %d is given twice", index)
			}
			if col < last {
				return nil, badLine(src.name, text.n, "index %d comes after %d: indices must increase", index, last+first)
			}
			last = col
			value, err := number(token[colon+1:])
			if err != nil {
				return nil, badLine(src.name, text.n, "value of %s: %v", quote(token), err)
			}
			if limit > 0 && col >= limit {
				what := "the training data has"
				if o.Like == nil {
					what = "the features are set to"
				}
				return nil, badLine(src.name, text.n, "index %d is beyond the %d features that %s: set the number of features to at least %d", index, limit, what, col+1)
			}
			width = max(width, col+1)
			if v := float32(value); v != 0 {
				d.col = append(d.col, int32(col))
				d.val = append(d.val, v)
			}
		}
		d.row = append(d.row, len(d.col))
		labels = append(labels, label)
		where = append(where, int32(text.n))
	}
	if len(labels) == 0 {
		return nil, bad(src.name, "holds no samples")
	}
	if limit > 0 {
		width = limit
	}
	if width == 0 {
		return nil, bad(src.name, "holds labels but not one feature")
	}
	t := targets{file: src.name, values: labels, line: where, count: 1}
	if bare {
		t.count = 0
	}
	s := &Schema{Format: "libsvm", Dim: width, Shape: []int{width}, Sparse: true}
	if err := t.resolve(&d.base, s, o); err != nil {
		return nil, err
	}
	d.info, d.file = d.schema.info(name), src.name
	return d, nil
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

// whole parses a whole number of at most 10 digits.
func whole(p []byte) (int, bool) {
	if len(p) == 0 || len(p) > 10 {
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
