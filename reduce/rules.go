package reduce

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/covey-ml/covey/compress"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/spec"
)

// way is how the bytes of a compressed segment go.
type way uint8

const (
	exactly way = iota // summed exactly
	twoWay             // each rank's code of each chunk to the chunk's owner, and the code of the sum back to all
	gather             // each rank's code to all
	lowRank            // two small exact sums: PowerSGD
	vote               // signs to the owner of a chunk, and the majority's signs back
)

// choice is how a segment is compressed, as a job writes it: topk:0.01+ef.
type choice struct {
	text     string
	way      way
	codec    compress.Compressor // of twoWay and gather
	feedback feedback
	rank     int                   // of lowRank
	momentum float32               // of vote and dgc
	warmup   int                   // sums over which dgc's ratio falls to what was asked for
	stages   []compress.Compressor // of dgc's warm-up
}

// feedback is what becomes of what a compressor drops.
type feedback uint8

const (
	forget    feedback = iota
	remember           // error feedback: it joins the next vector
	follow             // EF21: the code is of the difference from what all have already
	momentous          // DGC: momentum and its sum stay behind where nothing was sent
	smoothed           // vote: momentum is taken before the sign
)

// exchanges are the choices that are no compressor of package compress, since they are ways to sum.
var exchanges = []compress.Choice{
	{Name: "none", Help: "summed exactly"},
	{Name: "powersgd", Help: "rank-4 approximation of each matrix, in two small sums (or powersgd:2)"},
	{Name: "vote", Help: "signSGD with majority vote: one bit each way, for the optimizer sgd at a small rate; momentum=0"},
	{Name: "dgc", Help: "Deep Gradient Compression: the largest 1 % (or dgc:0.001) with momentum=0.9 of its own and a warm-up of warmup=0 steps, for the optimizer sgd"},
}

// Wrappers are what may follow a choice after a +.
var wrappers = []compress.Choice{
	{Name: "ef", Help: "error feedback: what a compressor drops joins the next vector"},
	{Name: "ef21", Help: "EF21: each worker compresses the difference from what it has sent so far"},
	{Name: "hosts", Help: "exact inside each host, compressed between hosts"},
}

// Names lists what may stand as a choice, and Wrappers what may follow it, for help texts.
func Names() []compress.Choice { return slices.Concat(exchanges, compress.Names()) }

// Wrappers lists what may follow a choice, after a +.
func Wrappers() []compress.Choice { return slices.Clone(wrappers) }

// rule gives segments whose names a pattern matches their choice.
type rule struct {
	pattern string
	choice  *choice
}

// Rules say how each segment of a layout is compressed, and whether sums inside a host are exact.
type Rules struct {
	text  string
	rules []rule
	Hosts bool // exact inside a host, compressed between hosts
}

// ParseRules reads one choice for all segments, as in topk:0.01+ef, or several with the names that they are for, the
// first that fits counting, as in "bias: none; *: powersgd:4+ef". Patterns are path.Match's, and fit a whole name or what
// comes after its last dot.
func ParseRules(text string) (Rules, error) {
	r := Rules{text: strings.TrimSpace(text)}
	for _, part := range strings.Split(text, ";") {
		part = strings.TrimSpace(part)
		if part == "" {
			return r, fmt.Errorf("%q: expected a choice, as in topk:0.01+ef, or pattern: choice; pattern: choice", text)
		}
		pattern, chosen, several := strings.Cut(part, ": ")
		if !several {
			pattern, chosen = "*", part
		}
		if _, err := path.Match(pattern, ""); err != nil {
			return r, fmt.Errorf("the pattern %q: %w", pattern, err)
		}
		c, hosts, err := parseChoice(strings.TrimSpace(chosen))
		if err != nil {
			return r, err
		}
		r.Hosts = r.Hosts || hosts
		r.rules = append(r.rules, rule{pattern, c})
	}
	return r, nil
}

// String is what ParseRules read.
func (r Rules) String() string { return r.text }

// Lossy tells whether any segment may be compressed.
func (r Rules) Lossy() bool {
	return slices.ContainsFunc(r.rules, func(u rule) bool { return u.choice.way != exactly })
}

// Momentum names the first choice that keeps momentum of its own, "" when none does: an optimizer with momentum would
// then take it twice.
func (r Rules) Momentum() string { return r.first(func(c *choice) bool { return c.momentum > 0 }) }

// Signs names the first choice whose sum is of signs alone, "" when none is.
func (r Rules) Signs() string { return r.first(func(c *choice) bool { return c.way == vote }) }

// Follows names the first choice by EF21, whose codes are of differences from what was sent before, "" when none is.
func (r Rules) Follows() string { return r.first(func(c *choice) bool { return c.feedback == follow }) }

// Varies names the first choice whose codes have no fixed length, "" when all have.
func (r Rules) Varies() string {
	return r.first(func(c *choice) bool {
		_, fixed := c.codec.(compress.Fixed)
		return c.codec != nil && !fixed
	})
}

func (r Rules) first(is func(*choice) bool) string {
	for _, u := range r.rules {
		if is(u.choice) {
			return u.choice.text
		}
	}
	return ""
}

// least is the elements below which a segment is summed exactly: it fits in a few packets, and what compressing it would
// save is less than a message costs.
const least = 1024

// of returns how a segment is summed.
func (r Rules) of(s model.Segment) *choice {
	for _, u := range r.rules {
		whole, _ := path.Match(u.pattern, s.Name)
		last, _ := path.Match(u.pattern, s.Name[strings.LastIndexByte(s.Name, '.')+1:])
		if whole || last {
			return u.choice.of(s)
		}
	}
	return none
}

// of returns what the choice means for a segment: none when that would save nothing. Momentum that is taken before the sum
// is taken for small segments too, and a vote is taken on all, since one rate must suit them.
func (c *choice) of(s model.Segment) *choice {
	_, fixed := c.codec.(compress.Fixed)
	switch {
	case c.way == vote:
		return c
	case c.feedback == momentous && s.Len < least:
		return &choice{text: c.text, way: gather, codec: compress.Identity{}, feedback: smoothed, momentum: c.momentum}
	case s.Len < least, c.way == lowRank && !c.saves(s), fixed && c.codec.MaxLen(s.Len) > 4*s.Len:
		return none
	}
	return c
}

var none = &choice{text: "none"}

// matrix is the segment as rows and columns: the first dimension, and all others.
func matrix(s model.Segment) (rows, cols int) {
	if len(s.Shape) == 0 || s.Len == 0 {
		return 1, s.Len
	}
	return s.Shape[0], s.Len / s.Shape[0]
}

// saves tells whether two factors of so low a rank are smaller than the matrix.
func (c *choice) saves(s model.Segment) bool {
	rows, cols := matrix(s)
	return c.rank*(rows+cols) < rows*cols
}

// parseChoice reads one choice with its wrappers.
func parseChoice(text string) (c *choice, hosts bool, err error) {
	parts := strings.Split(text, "+")
	s, err := spec.Parse(parts[0])
	if err != nil {
		return nil, false, err
	}
	c = &choice{text: text}
	switch s.Name {
	case "none":
	case "powersgd":
		c.way = lowRank
		if c.rank = s.Int("rank", 4); c.rank < 1 || c.rank > 64 {
			err = fmt.Errorf("powersgd: a rank of %d, expected 1 to 64", c.rank)
		}
	case "vote":
		c.way = vote
		if m := s.Float("momentum", 0); m != 0 {
			c.momentum, c.feedback = float32(m), smoothed
		}
	case "dgc":
		c.way, c.feedback = gather, momentous
		err = c.parseDGC(s)
	default:
		if !slices.ContainsFunc(Names(), func(n compress.Choice) bool { return n.Name == s.Name }) {
			all := Names()
			names := make([]string, len(all))
			for i, n := range all {
				names[i] = n.Name
			}
			return nil, false, spec.OneOf("compressor", s.Name, names...)
		}
		if c.codec, err = compress.New(s); err == nil {
			c.way = twoWay
			if _, sparse := c.codec.(compress.Sparse); sparse {
				c.way = gather
			}
		}
	}
	if done := s.Done(); done != nil {
		return nil, false, done
	}
	if err != nil {
		return nil, false, err
	}
	if c.momentum < 0 || c.momentum >= 1 {
		return nil, false, fmt.Errorf("%s: momentum is %v, expected 0 to below 1", s.Name, c.momentum)
	}
	for _, w := range parts[1:] {
		switch w = strings.TrimSpace(w); w {
		case "hosts":
			hosts = true
		case "ef", "ef21":
			if err := c.wrap(s.Name, w); err != nil {
				return nil, false, err
			}
		default:
			return nil, false, fmt.Errorf("%s: %w", text, spec.OneOf("wrapper", w, "ef", "ef21", "hosts"))
		}
	}
	return c, hosts, nil
}

// wrap puts error feedback around a choice.
func (c *choice) wrap(name, w string) error {
	switch {
	case c.way == exactly:
		return fmt.Errorf("none+%s: nothing is lost that could be fed back: leave the +%s out", w, w)
	case c.way == vote:
		return fmt.Errorf("vote+%s: a majority of signs is no contraction, and what each worker lost is not known: leave the +%s out, or use sign+%s", w, w, w)
	case name == "dgc":
		return fmt.Errorf("dgc+%s: dgc keeps what it does not send already: leave the +%s out", w, w)
	case c.feedback != forget:
		return fmt.Errorf("%s: one of ef and ef21, not both", c.text)
	case c.way == lowRank && w == "ef21":
		return errors.New("powersgd+ef21: EF21 needs a compressor that is the same function at every step, and the warm start is not: use powersgd+ef")
	}
	c.feedback = remember
	if w == "ef21" {
		c.feedback, c.way = follow, gather
	}
	if c.codec == nil {
		return nil
	}
	if _, ok := c.codec.(compress.Contraction); ok {
		return nil
	}
	if _, ok := c.codec.(compress.Absolute); ok {
		if w == "ef21" {
			return fmt.Errorf("%s+ef21: EF21 needs a contraction, and %s may drop a small vector as a whole: use %s+ef", name, c.codec, c.codec)
		}
		return nil
	}
	if _, ok := c.codec.(compress.Unbiased); !ok {
		return fmt.Errorf("%s+%s: %s is neither a contraction nor unbiased, nor is its error bounded: error feedback needs one of them", name, w, name)
	}
	c.codec = compress.Shrink(c.codec)
	return nil
}

// parseDGC reads Deep Gradient Compression's parameters and makes the compressors of its warm-up: the paper's 25 %,
// 6.25 %, 1.5625 %, ..., each for an equal part of the steps, until the ratio asked for.
func (c *choice) parseDGC(s *spec.Spec) error {
	ratio := s.Float("ratio", 0.01)
	c.momentum = float32(s.Float("momentum", 0.9))
	c.warmup = s.Int("warmup", 0)
	if !(ratio > 0 && ratio <= 1) || c.warmup < 0 {
		return fmt.Errorf("dgc: ratio %v and warmup %d, expected a ratio above 0 and at most 1, and no negative warm-up", ratio, c.warmup)
	}
	top := func(r float64) (compress.Compressor, error) {
		return compress.New(&spec.Spec{Name: "topk", Opts: map[string]string{"ratio": fmt.Sprint(r)}})
	}
	for r := 0.25; r > ratio && c.warmup > 0; r /= 4 {
		t, err := top(r)
		if err != nil {
			return err
		}
		c.stages = append(c.stages, t)
	}
	var err error
	c.codec, err = top(ratio)
	return err
}

// at is the compressor of a step.
func (c *choice) at(step int) compress.Compressor {
	if step < c.warmup && len(c.stages) > 0 {
		return c.stages[step*len(c.stages)/c.warmup]
	}
	return c.codec
}
