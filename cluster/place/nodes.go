package place

import (
	"fmt"
	"strconv"
	"strings"
)

// Bounds of a list of nodes. Slurm's own limit is 65,533 nodes a cluster.
const (
	maxList   = 1 << 16 // bytes
	maxNodes  = 1 << 16
	maxDigits = 9 // of a number in brackets
)

// Nodes reads a list of hosts as Slurm writes it: names with commas, and in brackets numbers and ranges of numbers, which keep
// their leading zeros. node[01-03,7],gpu1 are node01, node02, node03, node7 and gpu1; rack[0-1]n[0-1] are four.
func Nodes(list string) ([]string, error) {
	names, err := parseNodes(list)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, n := range names {
		all = n.expand(all, "", 0)
	}
	return all, nil
}

// FirstNode is the first of Nodes.
func FirstNode(list string) (string, error) {
	names, err := parseNodes(list)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, p := range names[0] {
		b.WriteString(p.text)
		if p.ranges != nil {
			b.WriteString(p.ranges[0].number(0))
		}
	}
	return b.String(), nil
}

// nodeName is one name of a list: texts, each followed by a choice of numbers or by nothing.
type nodeName []nodePart

type nodePart struct {
	text   string
	ranges []numbers
}

// numbers are low, low+1 and so on, count in all, of at least width digits.
type numbers struct{ low, count, width int }

func (n numbers) number(i int) string { return fmt.Sprintf("%0*d", n.width, n.low+i) }

func (n nodeName) expand(all []string, before string, at int) []string {
	if at == len(n) {
		return append(all, before)
	}
	before += n[at].text
	if n[at].ranges == nil {
		return n.expand(all, before, at+1)
	}
	for _, r := range n[at].ranges {
		for i := range r.count {
			all = n.expand(all, before+r.number(i), at+1)
		}
	}
	return all
}

// parseNodes checks the whole list, also what it says together, before anything of it is made.
func parseNodes(list string) ([]nodeName, error) {
	if len(list) > maxList {
		return nil, fmt.Errorf("a list of nodes of %d bytes, more than %d", len(list), maxList)
	}
	var (
		all   []nodeName
		total int
		rest  = list
	)
	for {
		var (
			name  nodeName
			count = 1
			size  int
		)
		for {
			i := strings.IndexAny(rest, "[,")
			if i < 0 {
				i = len(rest)
			}
			part := nodePart{text: rest[:i]}
			size += i
			if part.text != "" || i < len(rest) && rest[i] == '[' {
				if err := checkText(part.text, list); err != nil {
					return nil, err
				}
			}
			rest = rest[i:]
			if !strings.HasPrefix(rest, "[") {
				if part.text != "" {
					name = append(name, part)
				}
				break
			}
			inside, after, closed := strings.Cut(rest[1:], "]")
			if !closed {
				return nil, fmt.Errorf("list of nodes %.80q: no ] after %.40q", list, rest)
			}
			n := 0
			for item := range strings.SplitSeq(inside, ",") {
				r, err := parseNumbers(item)
				if err != nil {
					return nil, fmt.Errorf("list of nodes %.80q: %w", list, err)
				}
				if n += r.count; n > maxNodes {
					return nil, fmt.Errorf("list of nodes %.80q: more than %d nodes", list, maxNodes)
				}
				part.ranges = append(part.ranges, r)
			}
			if count *= n; count > maxNodes {
				return nil, fmt.Errorf("list of nodes %.80q: more than %d nodes", list, maxNodes)
			}
			size += maxDigits
			name = append(name, part)
			rest = after
		}
		if len(name) == 0 {
			return nil, fmt.Errorf("list of nodes %.80q: an empty name", list)
		}
		if strings.HasPrefix(name[0].text, "-") {
			return nil, fmt.Errorf("list of nodes %.80q: a name that begins with -", list)
		}
		if size > 253 {
			return nil, fmt.Errorf("list of nodes %.80q: a name longer than a host's can be", list)
		}
		if total += count; total > maxNodes {
			return nil, fmt.Errorf("list of nodes %.80q: more than %d nodes", list, maxNodes)
		}
		all = append(all, name)
		if rest == "" {
			return all, nil
		}
		rest = rest[1:] // the comma
	}
}

func checkText(text, list string) error {
	for _, r := range text {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == '_') {
			return fmt.Errorf("list of nodes %.80q: %q in a name, expected names such as node[01-04,7]", list, r)
		}
	}
	return nil
}

func parseNumbers(item string) (numbers, error) {
	from, to, ranged := strings.Cut(item, "-")
	if !ranged {
		to = from
	}
	low, ok1 := digits(from)
	high, ok2 := digits(to)
	if !ok1 || !ok2 || high < low {
		return numbers{}, fmt.Errorf("%.40q in brackets, expected numbers and ranges such as 01-04,7", item)
	}
	return numbers{low, high - low + 1, len(from)}, nil
}

func digits(s string) (int, bool) {
	if s == "" || len(s) > maxDigits || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil
}
