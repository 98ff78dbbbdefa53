package fault

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/covey-ml/covey/spec"
)

// What a script may hold, so that a wrong file costs no memory.
const (
	maxText   = 1 << 20            // bytes
	maxFaults = 100_000            // lines with a fault
	maxRank   = 1_000_000          // ranks are below
	maxRanks  = 4_000_000          // ranks named by all lines together
	maxStep   = 1_000_000_000      // steps are at most
	maxTime   = 87_600 * time.Hour // ten years
	maxFactor = 1_000_000          // of Slow
	maxRate   = 1e14               // bits a second
	maxLink   = 200                // bytes of a link's name
	maxWord   = 1000               // bytes of a word, but for lists of ranks
)

// Load reads a script from a file.
func Load(path string) (Script, error) {
	f, err := os.Open(path)
	if err != nil {
		if near := spec.NearestPath(path); near != "" && errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("%w: did you mean %s?", err, near)
		}
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxText+1))
	if err != nil {
		return nil, err
	}
	return Parse(path, text)
}

// Parse reads a script. Its error says name:line, what is wrong there, and the nearest right choice.
func Parse(name string, text []byte) (Script, error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("%s: more than %d bytes", name, maxText)
	}
	if !utf8.Valid(text) {
		return nil, fmt.Errorf("%s: not a text file in UTF-8", name)
	}
	var script Script
	left, number := maxRanks, 0
	for line := range strings.Lines(string(text)) {
		number++
		line, _, _ = strings.Cut(line, "#")
		if strings.TrimSpace(line) == "" {
			continue
		}
		if len(script) == maxFaults {
			return nil, fmt.Errorf("%s:%d: more than %d faults", name, number, maxFaults)
		}
		p := parser{words: words(line), left: left}
		f, err := p.fault()
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, number, err)
		}
		f.Line, left = number, p.left
		script = append(script, f)
	}
	return script, nil
}

// words cuts a line at blanks, but not within braces, where blanks mean nothing.
func words(line string) []string {
	var out []string
	var word []rune
	depth := 0
	end := func() {
		if len(word) > 0 {
			out = append(out, string(word))
		}
		word = word[:0]
	}
	for _, r := range line {
		switch {
		case unicode.IsSpace(r) && depth == 0:
			end()
			continue
		case unicode.IsSpace(r):
			continue
		case r == '{':
			depth++
		case r == '}':
			depth = max(0, depth-1)
		}
		word = append(word, r)
	}
	end()
	return out
}

// parser reads the words of one line, first to last.
type parser struct {
	words []string
	left  int // ranks that lines may still name
}

// next takes a word, which the error calls what.
func (p *parser) next(what, example string) (string, error) {
	if len(p.words) == 0 {
		return "", fmt.Errorf("the line ends where %s should be, as in %q", what, example)
	}
	w := p.words[0]
	p.words = p.words[1:]
	if len(w) > maxWord && w[0] != '{' {
		return "", fmt.Errorf("a word of %d bytes stands where %s should be, as in %q", len(w), what, example)
	}
	return w, nil
}

// expect takes words that must be there as they are.
func (p *parser) expect(example string, want ...string) error {
	for _, w := range want {
		got, err := p.next(strconv.Quote(w), example)
		if err != nil {
			return err
		}
		if got != w {
			if spec.Nearest(got, []string{w}) != "" {
				return fmt.Errorf("unknown word %q: did you mean %q? (%s)", got, w, example)
			}
			return fmt.Errorf("%q stands where %q should be, as in %q", got, w, example)
		}
	}
	return nil
}

// examples are what errors show, by kind.
var examples = []string{
	"kill 3 at step 120",
	"stop 2 at 10s for 5s",
	"slow 2 x5 from 10s to 60s",
	"partition {0-3} {4-7} at 30s for 20s",
	"drop 1% on link a-b",
	"delay 50ms on link a-b",
	"limit 10Mbit/s on link a-b",
	"corrupt gradient of 5 sign-flip",
}

func (p *parser) fault() (Fault, error) {
	var f Fault
	word, err := p.next("a fault", examples[0])
	if err != nil {
		return f, err
	}
	if err := spec.OneOf("fault", word, kinds...); err != nil {
		return f, err
	}
	f.Kind = Kind(slices.Index(kinds, word))
	eg := examples[f.Kind]
	switch f.Kind {
	case Kill, Stop:
		f.Ranks, err = p.ranks(eg)
	case Slow:
		if f.Ranks, err = p.ranks(eg); err == nil {
			f.Factor, err = p.factor(eg)
		}
	case Partition:
		if f.Ranks, err = p.ranks(eg); err == nil {
			f.Others, err = p.ranks(eg)
		}
	case Drop, Delay, Limit:
		err = p.link(&f, eg)
	case Corrupt:
		if err = p.expect(eg, "gradient", "of"); err != nil {
			break
		}
		if f.Ranks, err = p.ranks(eg); err == nil {
			f.How, err = p.how(eg)
		}
	}
	if err == nil {
		err = p.when(&f, eg)
	}
	if err == nil {
		err = f.valid()
	}
	return f, err
}

// ranks takes 3 or {0-3,7}.
func (p *parser) ranks(example string) ([]int, error) {
	word, err := p.next("a rank", example)
	if err != nil {
		return nil, err
	}
	inner, braced := strings.CutPrefix(word, "{")
	if braced {
		if inner, braced = strings.CutSuffix(inner, "}"); !braced {
			return nil, fmt.Errorf("the ranks %s have no closing brace", clip(word))
		}
	}
	var out []int
	for part := range strings.SplitSeq(inner, ",") {
		first, last, ranged := strings.Cut(part, "-")
		if first == "" {
			first, ranged = part, false
		}
		if ranged && !braced {
			return nil, fmt.Errorf("more than one rank goes in braces: {%s}", word)
		}
		lo, err := parseRank(first)
		if err != nil {
			return nil, err
		}
		hi := lo
		if ranged {
			if hi, err = parseRank(last); err != nil {
				return nil, err
			}
		}
		if hi < lo {
			return nil, fmt.Errorf("the ranks %s run backwards: write %d-%d", clip(part), hi, lo)
		}
		if p.left -= hi - lo + 1; p.left < 0 {
			return nil, fmt.Errorf("the script names more than %d ranks", maxRanks)
		}
		for r := lo; r <= hi; r++ {
			out = append(out, r)
		}
	}
	slices.Sort(out)
	for i := 1; i < len(out); i++ {
		if out[i] == out[i-1] {
			return nil, fmt.Errorf("rank %d stands twice in %s", out[i], clip(word))
		}
	}
	if len(out) > 1 && !braced {
		return nil, fmt.Errorf("more than one rank goes in braces: {%s}", word)
	}
	return out, nil
}

// clip keeps a long list of ranks from filling the screen.
func clip(word string) string {
	if len(word) > 80 {
		return word[:80] + "..."
	}
	return word
}

func parseRank(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is not a rank, as in 3 or {0-3,7}", clip(s))
	}
	if n >= maxRank {
		return 0, fmt.Errorf("rank %s: ranks are below %d", s, maxRank)
	}
	return int(n), nil
}

// factor takes x5.
func (p *parser) factor(example string) (float64, error) {
	word, err := p.next("how many times slower", example)
	if err != nil {
		return 0, err
	}
	x, err := parseFloat(strings.TrimPrefix(word, "x"))
	if err != nil || !strings.HasPrefix(word, "x") {
		return 0, fmt.Errorf("%q is not how many times slower, as in x5", word)
	}
	return x, nil
}

// link takes what a fault does to a link, and on which.
func (p *parser) link(f *Fault, example string) error {
	word, err := p.next("how much", example)
	if err != nil {
		return err
	}
	switch f.Kind {
	case Drop:
		f.Amount, err = parsePercent(word)
	case Delay:
		f.Delay, err = parseTime(word)
	case Limit:
		f.Amount, err = parseRate(word)
	}
	if err == nil {
		err = p.expect(example, "on", "link")
	}
	if err == nil {
		f.Link, err = p.next("the link's name", example)
	}
	return err
}

func (p *parser) how(example string) (string, error) {
	word, err := p.next("what becomes of the gradient", example)
	if err != nil {
		return "", err
	}
	c, err := parseCorruption(word)
	if err != nil {
		return "", err
	}
	return c.String(), nil
}

// when takes the rest of the line.
func (p *parser) when(f *Fault, example string) error {
	given := map[string]bool{}
	var from, to Moment
	var lasts Moment // a length: steps or time
	for len(p.words) > 0 {
		word, err := p.next("", example)
		if err != nil {
			return err
		}
		if err := spec.OneOf("word", word, "at", "for", "from", "to"); err != nil {
			return err
		}
		written := word
		if word == "at" {
			word = "from" // the same
		}
		if given[word] {
			return fmt.Errorf("%q says again what the line has said", written)
		}
		given[word] = true
		switch word {
		case "from":
			from, err = p.moment(example)
		case "to":
			to, err = p.moment(example)
		case "for":
			lasts, err = p.length(example)
		}
		if err != nil {
			return err
		}
	}
	f.From, f.To = from, to
	switch {
	case f.Kind == Kill && (given["to"] || given["for"]):
		return fmt.Errorf("a kill has no end: write %q", Fault{Kind: Kill, Ranks: f.Ranks, From: from})
	case f.Kind.timed() != always && !given["from"]:
		return fmt.Errorf("it does not say when, as in %q", example)
	case given["to"] && given["for"]:
		return errors.New(`both "to" and "for": one says when it ends`)
	case !given["for"]:
		if given["to"] && to == (Moment{}) {
			return errors.New("it ends before it begins")
		}
	case lasts.Step > 0 && from.Step == 0:
		return fmt.Errorf(`"for %d steps" needs the step at which it begins, as in "from step 10"`, lasts.Step)
	case lasts.Step > 0:
		f.To.Step = from.Step + lasts.Step
	case from.Step > 0:
		f.For = lasts.Time
	default:
		f.To.Time = from.Time + lasts.Time
	}
	return nil
}

// moment takes "step 120" or "12s".
func (p *parser) moment(example string) (Moment, error) {
	word, err := p.next("a step or a time", example)
	if err != nil {
		return Moment{}, err
	}
	if word == "step" {
		if word, err = p.next("the step's number", "step 120"); err != nil {
			return Moment{}, err
		}
		n, err := parseStep(word)
		return Moment{Step: n}, err
	}
	if spec.Nearest(word, []string{"step"}) != "" {
		return Moment{}, fmt.Errorf("unknown word %q: did you mean \"step\"?", word)
	}
	d, err := parseTime(word)
	return Moment{Time: d}, err
}

// length takes "5s" or "10 steps".
func (p *parser) length(example string) (Moment, error) {
	word, err := p.next("a time", example)
	if err != nil {
		return Moment{}, err
	}
	if len(p.words) > 0 && (p.words[0] == "steps" || p.words[0] == "step") {
		p.words = p.words[1:]
		n, err := parseStep(word)
		return Moment{Step: n}, err
	}
	d, err := parseTime(word)
	if err == nil && d == 0 {
		err = fmt.Errorf("it lasts for %s, which is no time", word)
	}
	return Moment{Time: d}, err
}

func parseStep(s string) (int, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a step's number", s)
	}
	if n < 1 || n > maxStep {
		return 0, fmt.Errorf("step %s: steps are numbered from 1 to %d", s, int64(maxStep))
	}
	return int(n), nil
}
