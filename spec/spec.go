// Package spec parses a choice with parameters, as jobs and flags write them:
//
//	adam                          a name
//	mlp:128,64                    a name and values
//	ps:servers=2,mode=ssp         a name and named values
//
// It also finds the nearest valid word, so that every error about an unknown name can say what was meant.
package spec

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// Spec is a name, values and named values. The reader of a Spec takes what it knows (Int, Float, ...) and then
// asks Done, which reports what was given and nobody took.
type Spec struct {
	Name string
	Args []string          // values without a name, in order
	Opts map[string]string // values with a name

	taken map[string]bool
	args  int
	err   error
}

// Parse reads name:value,key=value. Values cannot hold a comma.
func Parse(s string) (*Spec, error) {
	name, rest, some := strings.Cut(strings.TrimSpace(s), ":")
	if name == "" {
		return nil, fmt.Errorf("%q: expected a name, as in mlp:128 or adam", s)
	}
	sp := &Spec{Name: name, Opts: map[string]string{}}
	if !some {
		return sp, nil
	}
	for _, part := range strings.Split(rest, ",") {
		key, value, named := strings.Cut(part, "=")
		switch {
		case strings.TrimSpace(part) == "":
			return nil, fmt.Errorf("%q: empty value after %q", s, name+":")
		case !named:
			sp.Args = append(sp.Args, strings.TrimSpace(part))
		default:
			key = strings.TrimSpace(key)
			if _, twice := sp.Opts[key]; twice {
				return nil, fmt.Errorf("%q: %s is given twice", s, key)
			}
			sp.Opts[key] = strings.TrimSpace(value)
		}
	}
	return sp, nil
}

// String prints the choice so that Parse reads it back: values first, then named values by name.
func (s *Spec) String() string {
	parts := slices.Clone(s.Args)
	keys := make([]string, 0, len(s.Opts))
	for k := range s.Opts {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		parts = append(parts, k+"="+s.Opts[k])
	}
	if len(parts) == 0 {
		return s.Name
	}
	return s.Name + ":" + strings.Join(parts, ",")
}

// Int takes the named value, or the next unnamed one when it has no name of its own, or def.
func (s *Spec) Int(key string, def int) int {
	v, ok := s.take(key)
	if !ok {
		return def
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		s.fail(key, v, "a whole number")
	}
	return n
}

// Float takes a number as Int does.
func (s *Spec) Float(key string, def float64) float64 {
	v, ok := s.take(key)
	if !ok {
		return def
	}
	x, err := strconv.ParseFloat(v, 64)
	if err != nil || x != x {
		s.fail(key, v, "a number")
	}
	return x
}

// Bool takes true or false as Int does.
func (s *Spec) Bool(key string, def bool) bool {
	v, ok := s.take(key)
	if !ok {
		return def
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		s.fail(key, v, "true or false")
	}
	return b
}

// Word takes one of the choices as Int does.
func (s *Spec) Word(key, def string, choices ...string) string {
	v, ok := s.take(key)
	if !ok {
		return def
	}
	if err := OneOf(key, v, choices...); err != nil && s.err == nil {
		s.err = fmt.Errorf("%s: %w", s.Name, err)
	}
	return v
}

// Text takes a value as it is written, as Int does.
func (s *Spec) Text(key, def string) string {
	if v, ok := s.take(key); ok {
		return v
	}
	return def
}

// Ints takes all unnamed values, which must be positive whole numbers.
func (s *Spec) Ints(what string) []int {
	var out []int
	for ; s.args < len(s.Args); s.args++ {
		n, err := strconv.Atoi(s.Args[s.args])
		if err != nil || n <= 0 {
			s.fail(what, s.Args[s.args], "a positive whole number")
		}
		out = append(out, n)
	}
	return out
}

// Given tells whether the named value was written.
func (s *Spec) Given(key string) bool {
	_, ok := s.Opts[key]
	return ok
}

// Done returns the first thing that was wrong, or what was given and is not known.
func (s *Spec) Done() error {
	if s.err != nil {
		return s.err
	}
	if s.args < len(s.Args) {
		return fmt.Errorf("%s: does not take the value %q", s.Name, s.Args[s.args])
	}
	keys := make([]string, 0, len(s.Opts))
	for k := range s.Opts {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		if !s.taken[k] {
			known := make([]string, 0, len(s.taken))
			for t := range s.taken {
				known = append(known, t)
			}
			sort.Strings(known)
			if len(known) == 0 {
				return fmt.Errorf("%s: takes no parameter %q", s.Name, k)
			}
			return fmt.Errorf("%s: %w", s.Name, OneOf("parameter", k, known...))
		}
	}
	return nil
}

func (s *Spec) take(key string) (string, bool) {
	if s.taken == nil {
		s.taken = map[string]bool{}
	}
	s.taken[key] = true
	if v, ok := s.Opts[key]; ok {
		return v, true
	}
	if s.args < len(s.Args) {
		s.args++
		return s.Args[s.args-1], true
	}
	return "", false
}

func (s *Spec) fail(key, value, want string) {
	if s.err == nil {
		s.err = fmt.Errorf("%s: %s is %q, expected %s", s.Name, key, value, want)
	}
}

// OneOf returns nil when word is one of the choices, and otherwise an error that names the nearest.
func OneOf(what, word string, choices ...string) error {
	if slices.Contains(choices, word) {
		return nil
	}
	near := Nearest(word, choices)
	switch {
	case near != "" && len(choices) > 12: // a long list hides the answer
		return fmt.Errorf("unknown %s %q: did you mean %q?", what, word, near)
	case near != "":
		return fmt.Errorf("unknown %s %q: did you mean %q? (%s)", what, word, near, strings.Join(choices, ", "))
	}
	return fmt.Errorf("unknown %s %q (%s)", what, word, strings.Join(choices, ", "))
}

// Nearest returns the choice with the fewest edits from word, or "" when all are far: more edits
// than half of the longer word.
func Nearest(word string, choices []string) string {
	best, edits := "", 0
	for _, c := range choices {
		d := distance(strings.ToLower(word), strings.ToLower(c))
		if strings.HasPrefix(c, word) && word != "" {
			d = 1
		}
		if 2*d <= max(len(word), len(c)) && (best == "" || d < edits) {
			best, edits = c, d
		}
	}
	return best
}

// NearestPath returns path with its last part replaced by the nearest name that its folder holds, or "" when none is near.
func NearestPath(path string) string {
	dir, name := filepath.Split(filepath.Clean(path))
	entries, err := os.ReadDir(filepath.Clean(dir + "."))
	if err != nil {
		return ""
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if near := Nearest(name, names); near != "" {
		return dir + near
	}
	return ""
}

// distance counts insertions, deletions, substitutions and swaps of neighbours (optimal string alignment).
func distance(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := last[j]
			if a[i] != b[j] {
				cost = 1 + min(last[j], row[j], last[j+1])
			}
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				cost = min(cost, before[j-1]+1)
			}
			row[j+1] = cost
		}
		before, last = last, row
	}
	return last[len(b)]
}
