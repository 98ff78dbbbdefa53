package data

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/covey-ml/covey/spec"
)

// A table in text: one sample a line, columns separated by a tab, comma, semicolon, bar or blanks, fields that hold the
// separator in double quotes (RFC 4180), an optional first line of column names. The table files that scikit-learn
// ships have a first line of their own, "samples,features,class names...", and the class number in the last column.

// record hands out a table's lines as fields, valid until the next call.
type record interface {
	next() (fields []string, line int, err error)
}

type commas struct{ r *csv.Reader }

func (c commas) next() ([]string, int, error) {
	f, err := c.r.Read()
	line := 0
	if len(f) > 0 {
		line, _ = c.r.FieldPos(0)
	}
	return f, line, err
}

// blanks splits at runs of blanks and tabs and skips empty lines.
type blanks struct {
	l      lines
	fields []string
}

func (b *blanks) next() ([]string, int, error) {
	for {
		line, err := b.l.next()
		if err != nil {
			return nil, b.l.n, err
		}
		b.fields = b.fields[:0]
		for rest := line; ; {
			var word []byte
			if word, rest = field(rest); len(word) == 0 {
				break
			}
			b.fields = append(b.fields, string(word))
		}
		if len(b.fields) > 0 {
			return b.fields, b.l.n, nil
		}
	}
}

// tableReader reads records with two of lookahead, checks their width and keeps the first error.
type tableReader struct {
	in    *input
	rec   record
	ahead []aheadLine
	width int // fields in every line from here on, 0 before the first
	from  int // line that set it
}

type aheadLine struct {
	fields []string
	line   int
}

func newTableReader(in *input, delimiter string) (*tableReader, error) {
	start, err := in.Peek(1 << 16)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if bytes.HasPrefix(start, []byte("\xef\xbb\xbf")) {
		in.Discard(3)
		start = start[3:]
	}
	d, err := delimiterOf(delimiter, start)
	if err != nil {
		return nil, err
	}
	t := &tableReader{in: in}
	if d == ' ' {
		t.rec = &blanks{l: lines{in: in.Reader}}
		return t, nil
	}
	r := csv.NewReader(in)
	r.Comma, r.ReuseRecord, r.FieldsPerRecord, r.TrimLeadingSpace = d, true, -1, d != '\t'
	t.rec = commas{r}
	return t, nil
}

// delimiterOf returns the separator that is asked for, or the first of tab, comma, semicolon, bar, blank that the
// first line holds.
func delimiterOf(asked string, start []byte) (rune, error) {
	switch asked {
	case "tab", `\t`, "\t":
		return '\t', nil
	case "blank", "space", " ":
		return ' ', nil
	case "comma":
		return ',', nil
	case "":
		first, _, _ := bytes.Cut(start, []byte("\n"))
		for _, c := range []byte("\t,;|") {
			if bytes.IndexByte(first, c) >= 0 {
				return rune(c), nil
			}
		}
		if bytes.IndexByte(bytes.TrimSpace(first), ' ') >= 0 && !bytes.Contains(first, []byte(`"`)) {
			return ' ', nil
		}
		return ',', nil
	}
	r := []rune(asked)
	if len(r) != 1 || strings.ContainsRune("\"\r\n\uFFFD", r[0]) {
		return 0, fmt.Errorf("data: delimiter %q: expected one character, or comma, tab or blank", asked)
	}
	return r[0], nil
}

// raw returns the next record, trimmed, whatever its width.
func (t *tableReader) raw() ([]string, int, error) {
	f, line, err := t.rec.next()
	if err != nil {
		var pe *csv.ParseError
		if errors.As(err, &pe) {
			return nil, 0, &Error{File: t.in.name, Line: pe.Line, What: "is not a line of a table", Err: pe.Err}
		}
		return nil, 0, err
	}
	for i := range f {
		f[i] = strings.TrimSpace(f[i])
	}
	return f, line, nil
}

// peek makes sure that n records are ahead, or all that are left.
func (t *tableReader) peek(n int) error {
	for len(t.ahead) < n {
		f, line, err := t.raw()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		t.ahead = append(t.ahead, aheadLine{slices.Clone(f), line})
	}
	return nil
}

func (t *tableReader) next() (f []string, line int, err error) {
	if len(t.ahead) > 0 {
		f, line = t.ahead[0].fields, t.ahead[0].line
		t.ahead = t.ahead[1:]
	} else if f, line, err = t.raw(); err != nil {
		return nil, 0, err
	}
	if t.width == 0 {
		t.width, t.from = len(f), line
	}
	if len(f) != t.width {
		return nil, 0, badLine(t.in.name, line, "has %d fields, line %d has %d", len(f), t.from, t.width)
	}
	return f, line, nil
}

// head is what stands before the samples.
type head struct {
	names   []string // of the columns, or nil
	labels  []string // scikit-learn style: class names by number
	samples int      // scikit-learn style: samples promised, 0 otherwise
}

// head reads what stands before the samples. mode is Options.Header; like may be nil.
func (t *tableReader) head(mode string, like *Schema) (head, error) {
	var h head
	if err := t.peek(2); err != nil {
		return h, err
	}
	if len(t.ahead) == 0 {
		return h, bad(t.in.name, "holds no samples")
	}
	first := t.ahead[0].fields
	named := mode == "yes"
	if mode == "" || mode == "auto" {
		if len(t.ahead) > 1 {
			if n, ok := scikit(first, t.ahead[1].fields); ok {
				t.ahead = t.ahead[1:]
				h.samples, h.labels = n, first[2:]
				if h.labels = slices.DeleteFunc(h.labels, func(s string) bool { return s == "" }); len(h.labels) < 2 {
					h.labels = nil
				}
				return h, nil
			}
		}
		named = !slices.ContainsFunc(first, isNumber) &&
			(len(t.ahead) == 1 || slices.ContainsFunc(t.ahead[1].fields, isNumber) || like.names(first))
	}
	if named {
		h.names = first
		t.width, t.from = len(first), t.ahead[0].line
		t.ahead = t.ahead[1:]
		seen := map[string]int{}
		for i, name := range first {
			if k, twice := seen[name]; twice && name != "" {
				return h, badLine(t.in.name, t.from, "columns %d and %d have the same name %q", k+1, i+1, name)
			}
			seen[name] = i
		}
	}
	return h, nil
}

// names tells whether a line holds the names of all features.
func (s *Schema) names(line []string) bool {
	return s != nil && s.Named && !slices.ContainsFunc(s.Features, func(f Feature) bool { return !slices.Contains(line, f.Name) })
}

// scikit recognises "samples,features,class names..." above lines of numbers, features and a class.
func scikit(first, second []string) (samples int, ok bool) {
	if len(first) < 3 {
		return 0, false
	}
	samples, ok1 := whole([]byte(first[0]))
	features, ok2 := whole([]byte(first[1]))
	if !ok1 || !ok2 || samples == 0 || features == 0 || len(second) != features+1 {
		return 0, false
	}
	notNumber := func(s string) bool { return !isNumber(s) }
	if slices.ContainsFunc(first[2:], isNumber) || slices.ContainsFunc(second, notNumber) {
		return 0, false
	}
	return samples, true
}

func isNumber(s string) bool {
	_, err := strconv.ParseFloat(s, 64)
	return err == nil || errors.Is(err, strconv.ErrRange)
}

// missing tells whether a field says that there is no value.
func missing(s string) bool {
	if len(s) > 4 {
		return false
	}
	switch strings.ToLower(s) {
	case "", "?", "na", "n/a", "nan", "null":
		return true
	}
	return false
}

// column turns the fields of one column into numbers: themselves, codes of texts in order of first appearance, or hashes.
// Whether it is numbers or text is decided by its first field that is not missing.
type column struct {
	name  string
	kind  kind
	codes map[string]int
	texts []string
	limit int  // most different texts
	fixed bool // texts are those of the training data
	zero  bool // fixed: an unknown text is all zeros, not an error

	hash   hasher // slots 0: not
	number string // hashed: as in Feature
}

type kind int

const (
	undecided kind = iota
	numeric
	textual
)

// put returns the value of a field that is not missing; NaN for a text that has no code.
func (c *column) put(s string) (float64, error) {
	if c.kind == undecided {
		c.kind = textual
		if isNumber(s) {
			c.kind = numeric
		}
	}
	if c.kind == numeric {
		if len(s) < 8 {
			n := 0
			for i := 0; i < len(s); i++ {
				if s[i] < '0' || s[i] > '9' {
					n = -1
					break
				}
				n = n*10 + int(s[i]-'0')
			}
			if n >= 0 {
				return c.hashed(float64(n)), nil
			}
		}
		v, err := parse(s)
		if err == errNumber {
			err = fmt.Errorf("%w, as the values before it are; when the column is text, list it under text", err)
			if c.fixed {
				err = fmt.Errorf("%w, as the training data's values are", errNumber)
			}
		}
		if err != nil {
			return 0, fmt.Errorf("%s %w", quote([]byte(s)), err)
		}
		return c.hashed(v), nil
	}
	if c.hash.slots > 0 {
		return float64(c.hash.text(s)), nil
	}
	if code, ok := c.codes[s]; ok {
		return float64(code), nil
	}
	if c.fixed {
		if c.zero {
			return math.NaN(), nil
		}
		return 0, fmt.Errorf("text %s does not occur in the training data; to read such texts as all zeros, set unknown to zero", quote([]byte(s)))
	}
	if len(c.texts) == c.limit {
		return 0, fmt.Errorf("more than %d different texts (%s, %s ... %s): drop the column, or raise the limit on categories",
			c.limit, quote([]byte(c.texts[0])), quote([]byte(c.texts[1])), quote([]byte(s)))
	}
	if c.codes == nil {
		c.codes = map[string]int{}
	}
	s = strings.Clone(s)
	c.codes[s] = len(c.texts)
	c.texts = append(c.texts, s)
	return float64(len(c.texts) - 1), nil
}

// roles says what each column of a file is for.
type roles struct {
	features []int // raw feature number to column of the file
	targets  []int
}

// name returns what a column is called in messages and in the schema.
func (h head) name(i int) string {
	if h.names != nil && h.names[i] != "" {
		return h.names[i]
	}
	return strconv.Itoa(i + 1)
}

// find returns the column with this name or, from 1, number.
func (h head) find(file, what, want string, width int) (int, error) {
	if i := slices.Index(h.names, want); i >= 0 && want != "" {
		return i, nil
	}
	if n, err := strconv.Atoi(want); err == nil {
		if n >= 1 && n <= width {
			return n - 1, nil
		}
		return 0, fmt.Errorf("%s: %s %d: the file has columns 1 to %d", file, what, n, width)
	}
	if h.names == nil {
		return 0, fmt.Errorf("%s: unknown %s %q: the file has no line of column names, so give a number from 1 to %d", file, what, want, width)
	}
	return 0, fmt.Errorf("%s: %w", file, spec.OneOf(what, want, h.names...))
}

// assign decides the roles in a file that is read for training.
func (h head) assign(file string, width int, o Options) (roles, error) {
	var r roles
	drop := make([]bool, width)
	for _, want := range o.Drop {
		i, err := h.find(file, "column to drop", want, width)
		if err != nil {
			return r, err
		}
		drop[i] = true
	}
	switch {
	case o.targetBeside:
	case len(o.Target) == 0:
		last := width - 1
		for last >= 0 && drop[last] {
			last--
		}
		if last < 0 {
			return r, fmt.Errorf("%s: all %d columns are dropped", file, width)
		}
		r.targets = []int{last}
	default:
		for _, want := range o.Target {
			i, err := h.find(file, "target column", want, width)
			if err != nil {
				return r, err
			}
			if slices.Contains(r.targets, i) {
				return r, fmt.Errorf("%s: target column %q is given twice", file, want)
			}
			if drop[i] {
				return r, fmt.Errorf("%s: column %q is the target and cannot be dropped", file, want)
			}
			r.targets = append(r.targets, i)
		}
	}
	for i := range width {
		if !drop[i] && !slices.Contains(r.targets, i) {
			r.features = append(r.features, i)
		}
	}
	if len(r.features) == 0 {
		return r, bad(file, "has %d columns and none is left for features", width)
	}
	return r, nil
}

// assignLike decides the roles in a file that is read as the training data was: by name when both have names, otherwise
// by place. A file that has only the features is read without labels.
func (h head) assignLike(file string, width int, s *Schema, o Options) (roles, error) {
	var r roles
	if h.names != nil && s.Named {
		for _, c := range s.Features {
			i := slices.Index(h.names, c.Name)
			if i < 0 {
				return r, bad(file, "lacks a column of the training data: %v", spec.OneOf("column", c.Name, h.names...))
			}
			r.features = append(r.features, i)
		}
		for _, name := range s.TargetNames {
			if i := slices.Index(h.names, name); i >= 0 {
				r.targets = append(r.targets, i)
			}
		}
		if len(r.targets) != 0 && len(r.targets) != len(s.TargetNames) {
			return r, bad(file, "holds only %d of the target columns %v", len(r.targets), s.TargetNames)
		}
		return r, nil
	}
	switch width {
	case s.Width:
		for _, c := range s.Features {
			r.features = append(r.features, c.Place)
		}
		if !o.targetBeside {
			r.targets = append(r.targets, s.TargetPlaces...)
		}
	case len(s.Features):
		for i := range s.Features {
			r.features = append(r.features, i)
		}
	default:
		return r, bad(file, "has %d columns, expected %d as in the training data (or the %d features alone)", width, s.Width, len(s.Features))
	}
	return r, nil
}

// readCSV reads a whole file. Samples keep their missing values as NaN; Open fills them.
func readCSV(ctx context.Context, name string, src source, beside *source, o Options) (*table, error) {
	in, err := src.read(ctx)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	t, err := newTableReader(in, o.Delimiter)
	if err != nil {
		return nil, err
	}
	h, err := t.head(o.Header, o.Like)
	if err != nil {
		return nil, err
	}
	if err := t.peek(1); err != nil {
		return nil, err
	}
	if len(t.ahead) == 0 {
		return nil, bad(src.name, "holds a line of column names and no samples")
	}
	width := len(t.ahead[0].fields)
	if t.width > 0 && t.width != width {
		_, _, err := t.next()
		return nil, err
	}
	o.targetBeside = beside != nil
	var r roles
	if o.Like != nil {
		r, err = h.assignLike(src.name, width, o.Like, o)
	} else {
		r, err = h.assign(src.name, width, o)
	}
	if err != nil {
		return nil, err
	}
	b, err := newTableBuilder(src.name, h, r, width, o)
	if err != nil {
		return nil, err
	}
	for {
		f, line, err := t.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if err := b.add(f, line); err != nil {
			return nil, err
		}
	}
	if h.samples > 0 && h.samples != b.rows {
		return nil, badLine(src.name, 1, "promises %d samples, but %d lines follow", h.samples, b.rows)
	}
	if beside != nil {
		if err := b.targetsBeside(ctx, *beside, o); err != nil {
			return nil, err
		}
	}
	return b.table(name)
}
