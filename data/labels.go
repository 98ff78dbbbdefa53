package data

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
)

var (
	errNaN      = errors.New("is not a number (NaN)")
	errInfinite = errors.New("is infinite, or beyond the range of float32 (3.4e38)")
	errNumber   = errors.New("is not a number")
)

// targets is what a file says is to be predicted, before it is known whether that is classes or numbers.
type targets struct {
	file    string
	column  string    // for messages
	values  []float64 // numbers, count a sample; or, when texts is not nil, codes
	count   int
	texts   []string // text of each code
	ordered bool     // texts stand in the order of their classes
	line    []int32  // of each sample
}

// The rule by which labels that are numbers become classes.
const (
	maxClasses      = 1000
	maxOddClasses   = 100 // when they are not 0,1,2... or 1,2,3...
	rowsAnOddClass  = 10
	rowsAnEvenClass = 2
)

// resolve decides between classes and numbers, fills in d's labels or targets and finishes s, which becomes d's
// schema; with o.Like, that takes its place and decides. Labels that are numbers are classes when all are whole and
// they are two at most, or a run 0,1,2... or 1,2,3... with two samples a class, or up to a hundred with ten samples a
// class. Classes are numbered in increasing order of label.
func (t *targets) resolve(d *base, s *Schema, o Options) error {
	d.schema = s
	if o.Like != nil {
		d.schema, s = o.Like, o.Like
		if t.count == 0 {
			return nil // no labels: to be predicted
		}
		if s.Task == Regression {
			return t.numbers(d, s.Targets)
		}
		return t.classes(d, s.Labels)
	}
	n := len(t.values) / max(t.count, 1)
	if t.texts != nil {
		if o.Task == Regression {
			return &Error{File: t.file, Column: t.column, Line: int(t.line[0]),
				What: fmt.Sprintf("target %q is text: regression needs numbers", t.texts[int(t.values[0])])}
		}
		s.Task, s.Labels = Classification, slices.Clone(t.texts)
		if !t.ordered {
			slices.Sort(s.Labels)
		}
		s.Classes = len(s.Labels)
		if o.Classes > 0 && o.Classes != s.Classes {
			return &Error{File: t.file, Column: t.column,
				What: fmt.Sprintf("holds %d different labels, but the classes are set to %d", s.Classes, o.Classes)}
		}
		return t.classes(d, s.Labels)
	}
	if o.Classes > 0 {
		if o.Task == Regression {
			return fmt.Errorf("data: regression has no classes: leave the task or the number of classes out")
		}
		for i, v := range t.values {
			if v != math.Floor(v) || v < 0 || v >= float64(o.Classes) {
				return t.at(i, "label %s is out of range, expected a whole number from 0 to %d", label(v), o.Classes-1)
			}
		}
		s.Task, s.Classes = Classification, o.Classes
		for c := range o.Classes {
			s.Labels = append(s.Labels, strconv.Itoa(c))
		}
		return t.classes(d, s.Labels)
	}
	distinct := map[float64]bool{}
	var recent few
	isWhole := true
	for i, v := range t.values {
		if v != math.Floor(v) {
			isWhole = false
			if o.Task == Classification {
				return t.at(i, "label %s is not a whole number, so it is no class", label(v))
			}
			break
		}
		if _, known := recent.find(v); !known && len(distinct) <= 1<<16 {
			distinct[v] = true
			recent.put(v, 0)
		}
	}
	sorted := make([]float64, 0, len(distinct))
	for v := range distinct {
		sorted = append(sorted, v)
	}
	slices.Sort(sorted)
	k := len(sorted)
	run := k > 0 && (sorted[0] == 0 || sorted[0] == 1) && sorted[k-1]-sorted[0] == float64(k-1)
	looks := isWhole && t.count == 1 && (k <= 2 || run && k <= maxClasses && k*rowsAnEvenClass <= n || k <= maxOddClasses && k*rowsAnOddClass <= n)
	if o.Task == Regression || o.Task == "" && !looks {
		s.Task, s.Targets = Regression, t.count
		return t.numbers(d, t.count)
	}
	if t.count != 1 {
		return bad(t.file, "%d target columns: classification takes one", t.count)
	}
	if k > maxClasses {
		return bad(t.file, "holds more than %d different labels (%s, %s, %s ...): is this regression?", maxClasses, label(sorted[0]), label(sorted[1]), label(sorted[2]))
	}
	s.Task = Classification
	s.Labels = make([]string, 0, k)
	for _, v := range sorted {
		s.Labels = append(s.Labels, label(v))
	}
	if k == 2 && sorted[0] == -1 && sorted[1] == 1 {
		s.Labels[1] = "+1"
	}
	s.Classes = k
	return t.classes(d, s.Labels)
}

// numbers fills in regression targets.
func (t *targets) numbers(d *base, count int) error {
	if t.texts != nil {
		return t.at(0, "target %q is text, expected a number as in the training data", t.texts[int(t.values[0])])
	}
	if t.count != count {
		return bad(t.file, "has %d target columns, expected %d as in the training data", t.count, count)
	}
	d.y = make([]float32, len(t.values))
	for i, v := range t.values {
		d.y[i] = float32(v)
	}
	return nil
}

// classes fills in class numbers: positions in names.
func (t *targets) classes(d *base, names []string) error {
	number := make(map[string]int32, len(names))
	for i, name := range names {
		number[name] = int32(i)
	}
	if i, ok := number["+1"]; ok {
		number["1"] = i
	}
	d.class = make([]int32, len(t.values))
	if t.texts != nil {
		code := make([]int32, len(t.texts))
		for c, text := range t.texts {
			code[c] = -1
			if k, ok := number[text]; ok {
				code[c] = k
			}
		}
		for i, v := range t.values {
			if d.class[i] = code[int(v)]; d.class[i] < 0 {
				return t.unknown(i, t.texts[int(v)], names)
			}
		}
		return nil
	}
	seen := map[float64]int32{}
	var recent few
	for i, v := range t.values {
		k, ok := recent.find(v)
		if !ok {
			if k, ok = seen[v]; !ok {
				if k, ok = number[label(v)]; !ok {
					return t.unknown(i, label(v), names)
				}
				seen[v] = k
				recent.put(v, k)
			}
		}
		d.class[i] = k
	}
	return nil
}

// few remembers the class numbers of the first few labels that were put in: a map is slow for the two that most data has.
type few struct {
	n     int
	label [8]float64
	class [8]int32
}

func (f *few) put(label float64, class int32) {
	if f.n < len(f.label) {
		f.label[f.n], f.class[f.n] = label, class
		f.n++
	}
}

func (f *few) find(label float64) (class int32, ok bool) {
	for i := range f.n {
		if f.label[i] == label {
			return f.class[i], true
		}
	}
	return 0, false
}

func (t *targets) unknown(i int, text string, names []string) error {
	show := names
	more := ""
	if len(show) > 20 {
		show, more = show[:20], " ..."
	}
	return t.at(i, "label %q is not one of the training data's %d classes: %v%s", text, len(names), show, more)
}

// at says what is wrong with value number i.
func (t *targets) at(i int, format string, args ...any) error {
	return &Error{File: t.file, Line: int(t.line[i/t.count]), Column: t.column, What: fmt.Sprintf(format, args...)}
}

func label(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
