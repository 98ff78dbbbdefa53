package reduce

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/compress"
	"github.com/covey-ml/covey/rng"
	"github.com/covey-ml/covey/vec"
)

// One way: where ranks do not sum with each other, but some take what others send, as a parameter server takes pushes, codes go
// from one rank to one other. A message has those of a range of the flat vector, which may begin and end within a segment: of
// each segment the code of what of it lies in the range, in order; segments that the rules leave exact as they are.

// codes are the segments of a part of the flat vector, cut to it, with their choices.
type codes struct {
	group    comm.Group
	hollow   bool
	segments []segment
	seed     uint64
	name     string // tells the draws of two of one run apart
	scratch  []float32
	codec    atomic.Int64 // nanoseconds
}

// CheckOneWay says why rules do not go one way; nil: they do.
func CheckOneWay(r Rules) error {
	for _, u := range r.rules {
		switch u.choice.way {
		case lowRank:
			return fmt.Errorf("%s is two small sums among workers, and here each is taken by itself: use topk:0.01+ef or uniform:8+ef", u.choice.text)
		case vote:
			return fmt.Errorf("%s is a majority among workers, and here each is taken by itself: use sign+ef, which is one bit, too", u.choice.text)
		}
	}
	if r.Hosts {
		return errors.New("+hosts sums inside a host, and here nobody sums but who takes it: leave it out")
	}
	return nil
}

// newCodes cuts the layout to elements lo to hi.
func newCodes(c Config, lo, hi int) *codes {
	o := &codes{group: c.Group, hollow: comm.IsHollow(c.Group), seed: c.Seed, name: c.Name}
	for i, s := range c.Layout {
		choice := c.Rules.of(s)
		if choice.way == exactly {
			choice = raw.choice
		}
		if from, to := max(s.Off, lo), min(s.Off+s.Len, hi); from < to {
			if to-from < s.Len {
				s.Shape = []int{to - from}
			}
			s.Off, s.Len = from, to-from
			o.segments = append(o.segments, segment{Segment: s, choice: choice, index: i})
		}
	}
	return o
}

// each calls f for the segments that have elements in a range: those from lo to hi of the segment.
func (o *codes) each(lo, hi int, f func(s *segment, lo, hi int) error) error {
	for i := range o.segments {
		s := &o.segments[i]
		if from, to := max(s.Off, lo), min(s.Off+s.Len, hi); from < to {
			if err := f(s, from-s.Off, to-s.Off); err != nil {
				return err
			}
		}
	}
	return nil
}

// Most is the most bytes of the codes of elements lo to hi.
func (o *codes) Most(lo, hi int) (n int) {
	o.each(lo, hi, func(s *segment, lo, hi int) error {
		n += s.most(hi - lo)
		return nil
	})
	return n
}

// encode appends the code of elements lo to hi of a segment, x, and returns it by itself, too.
func (o *codes) encode(dst []byte, s *segment, lo int, x []float32, step int) (all, code []byte, err error) {
	n := len(dst)
	key := rng.Key(o.seed, "reduce/oneway"+o.name, uint64(step), uint64(s.Off+lo), uint64(o.group.Rank()))
	if dst, err = s.encode(dst, x, key, step); err != nil {
		if errors.Is(err, compress.ErrNotFinite) {
			err = fmt.Errorf("%w: of %s", ErrNotFinite, s.Name)
		}
		return dst, nil, err
	}
	code, _, err = s.cut(dst[n:], len(x), step)
	return dst, code, err
}

// read calls f for the codes of elements lo to hi, with which p begins, and returns what follows.
func (o *codes) read(p []byte, lo, hi, step int, f func(s *segment, lo, hi int, code []byte) error) (rest []byte, err error) {
	err = o.each(lo, hi, func(s *segment, lo, hi int) error {
		code, n, err := s.cut(p, hi-lo, step)
		if err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
		p = p[n:]
		return f(s, lo, hi, code)
	})
	return p, err
}

// timed runs f and books its time, and tells the clock what the codes of elements lo to hi cost: an element so many bytes, and
// keeping more where something is kept.
func (o *codes) timed(lo, hi int, kept bool, f func() error) (err error) {
	t := o.group.Clock().Now()
	if !o.hollow {
		err = f()
	}
	var cost comm.Cost
	o.each(lo, hi, func(s *segment, lo, hi int) error {
		cost.Bytes += codeBytes * int64(hi-lo)
		if kept && s.feedback != forget {
			cost.Bytes += keptBytes * int64(hi-lo)
		}
		return nil
	})
	o.group.Clock().Spend(cost)
	o.codec.Add(int64(o.group.Clock().Now() - t))
	return err
}

// Codec implements Coder.
func (o *codes) Codec() time.Duration { return time.Duration(o.codec.Swap(0)) }

// temp returns n elements that are free until temp is called again.
func (o *codes) temp(n int) []float32 {
	o.scratch = vec.Resized(o.scratch, n)
	return o.scratch
}

// OneWay is a rank's end of vectors that ranks send to others by codes: a sender's, who keeps what error feedback says, or a
// receiver's, who adds several senders' up by itself. Decode may be called from several goroutines, also beside the other methods.
type OneWay struct {
	*codes
	x    []float32 // that is sent
	sums []float32 // of EF21: what all senders' codes have come to, on ranks that receive; nil for others
}

var (
	_ Coder         = (*OneWay)(nil)
	_ ckpt.Stateful = (*OneWay)(nil)
)

// NewOneWay returns a rank's end of what c describes, whose Tree and Exact are of no use here.
func NewOneWay(c Config) (*OneWay, error) {
	if err := CheckOneWay(c.Rules); err != nil {
		return nil, err
	}
	o := &OneWay{codes: newCodes(c, 0, c.Layout.Len())}
	for i := range o.segments {
		s := &o.segments[i]
		if s.feedback != forget {
			s.kept = comm.Vector(c.Group, s.Len)
		}
		switch s.feedback {
		case momentous:
			s.both = comm.Vector(c.Group, s.Len)
		case follow:
			if o.sums == nil {
				o.sums = comm.Vector(c.Group, c.Layout.Len())
			}
			s.both = o.sums[s.Off : s.Off+s.Len]
		}
	}
	return o, nil
}

// Begin takes the next vector that is to be sent, x, which whoever adds it up divides by total samples. x is used as scratch
// until all of it was encoded.
func (o *OneWay) Begin(x []float32, total float64) {
	if o.hollow {
		return
	}
	o.x = x
	for i := range o.segments {
		s := &o.segments[i]
		s.rescale(total)
		piece{s, s.Off, s.Off + s.Len}.input(x, Vector{})
	}
}

// Encode appends the codes of elements lo to hi, and takes what they say off what is kept. step keys draws. The error is ErrNotFinite
// when there is a NaN or an infinity that has no code; on a hollow group as many bytes come as there may be.
func (o *OneWay) Encode(dst []byte, lo, hi, step int) ([]byte, error) {
	err := o.timed(lo, hi, true, func() error {
		return o.each(lo, hi, func(s *segment, lo, hi int) (err error) {
			in := s.kept
			if s.feedback == forget || s.feedback == follow {
				in = o.x[s.Off : s.Off+s.Len]
			}
			var code []byte
			if dst, code, err = o.encode(dst, s, lo, in[lo:hi], step); err == nil {
				err = s.sent(lo, hi, code, step, o.temp(hi-lo))
			}
			return err
		})
	})
	if o.hollow {
		dst = hollowBytes(o.group, len(dst)+o.Most(lo, hi))
	}
	return dst, err
}

// Decode overwrites x with elements lo to hi of a vector, by its codes, with which p begins, and returns what follows. The error says
// what is wrong with them, and x is then undefined; nothing else changes.
func (o *OneWay) Decode(x []float32, p []byte, lo, hi, step int) (rest []byte, err error) {
	err = o.timed(lo, hi, false, func() error {
		rest, err = o.read(p, lo, hi, step, func(s *segment, from, to int, code []byte) error {
			return s.at(step).Decode(x[s.Off+from-lo:s.Off+to-lo], code)
		})
		return err
	})
	return rest, err
}

// Follows tells whether codes are of differences from what was sent before, so that whoever adds them up has to call Took.
func (o *OneWay) Follows() bool { return o.sums != nil }

// Rescale brings the sums of what was sent so far to so many samples, once a sum.
func (o *OneWay) Rescale(total float64) {
	for i := range o.segments {
		if s := &o.segments[i]; s.feedback == follow && !o.hollow {
			s.rescale(total)
		}
	}
}

// Took turns x, elements lo to hi of the sum of what all senders' codes say, into the sum of what they are of.
func (o *OneWay) Took(x []float32, lo, hi int) {
	o.each(lo, hi, func(s *segment, from, to int) error {
		if s.feedback == follow {
			x, both := x[s.Off+from-lo:s.Off+to-lo], s.both[from:to]
			vec.Add(both, x)
			copy(x, both)
		}
		return nil
	})
}

// Sums is, for all elements, what all senders' codes have come to, as Took has it: a receiver has those of its own range. nil: Follows
// is false.
func (o *OneWay) Sums() []float32 { return o.sums }

// State implements ckpt.Stateful: what a sender keeps is Summed.
func (o *OneWay) State() []ckpt.Tensor {
	var ts []ckpt.Tensor
	totals := make([]float64, len(o.segments))
	for i := range o.segments {
		s := &o.segments[i]
		totals[i] = s.total
		if s.kept != nil {
			ts = append(ts, ckpt.Float32s("kept/"+s.Name, s.Shape, s.kept).With(ckpt.Summed))
		}
		if s.feedback == momentous {
			ts = append(ts, ckpt.Float32s("both/"+s.Name, s.Shape, s.both).With(ckpt.Summed))
		}
	}
	if o.sums != nil {
		ts = append(ts, ckpt.Float32s("sums", nil, o.sums))
	}
	if len(ts) > 0 {
		ts = append(ts, ckpt.Float64s("totals", nil, totals))
	}
	return ts
}

// Load implements ckpt.Stateful.
func (o *OneWay) Load(ts []ckpt.Tensor) error {
	live := o.State()
	totals, err := loadTotals(ts, live, len(o.segments))
	if err != nil || len(live) == 0 {
		return err
	}
	for i, n := range totals {
		o.segments[i].total = n
	}
	return nil
}

// Shadow is what another rank has of a range of a vector, on the rank that has the vector, and on that one. The codes are of how the
// vector differs from it, by a contraction, so what one code leaves out is in the next one's difference. This is EF21-P (Gruntkowska,
// Tyurin and Richtarik, EF21-P and friends, ICML 2023, arXiv 2209.15218, algorithm 1): error feedback for parameters that come down
// from a server, as EF21 is for gradients that go up to it.
type Shadow struct {
	*codes
	lo   int
	have []float32
}

// ParseShadow reads a compressor for a Shadow.
func ParseShadow(text string) (Rules, error) {
	r, err := ParseRules(text)
	if err != nil {
		return r, err
	}
	for _, u := range r.rules {
		switch c := u.choice; {
		case c.way == exactly && len(r.rules) == 1:
			return r, errors.New("none: what is exact has nothing to follow: leave it out")
		case c.way == lowRank, c.way == vote, c.momentum > 0:
			return r, fmt.Errorf("%s is a way to sum workers' vectors, and this one comes from a server alone: use uniform:8 or topk:0.05", c.text)
		case c.feedback != forget || r.Hosts:
			return r, fmt.Errorf("%s: codes of how parameters differ from what a worker has keep nothing besides: leave out what follows the +", c.text)
		}
	}
	return ParseRules(text + "+ef21")
}

// NewShadow returns the shadow of elements lo to lo+len(have), which is have from the start.
func NewShadow(c Config, lo int, have []float32) *Shadow {
	return &Shadow{newCodes(c, lo, lo+len(have)), lo, have}
}

// Encode appends codes that bring the shadow nearer to x, as long as it, and moves it so. Errors are as OneWay's.
func (s *Shadow) Encode(dst []byte, x []float32, step int) ([]byte, error) {
	lo, hi := s.lo, s.lo+len(s.have)
	err := s.timed(lo, hi, true, func() error {
		return s.each(lo, hi, func(g *segment, from, to int) (err error) {
			x, have := x[g.Off+from-lo:g.Off+to-lo], s.have[g.Off+from-lo:g.Off+to-lo]
			if g.feedback != follow {
				copy(have, x)
				dst, _, err = s.encode(dst, g, from, x, step)
				return err
			}
			room := s.temp(2 * len(x))
			diff := room[:len(x)]
			copy(diff, x)
			vec.Axpy(-1, have, diff)
			var code []byte
			if dst, code, err = s.encode(dst, g, from, diff, step); err != nil {
				return err
			}
			return compress.Add(g.at(step), have, code, 1, room[len(x):])
		})
	})
	if s.hollow {
		dst = hollowBytes(s.group, len(dst)+s.Most(lo, hi))
	}
	return dst, err
}

// Decode moves elements lo to hi of the shadow by codes, with which p begins, and returns what follows. After an error the shadow is
// undefined.
func (s *Shadow) Decode(p []byte, lo, hi, step int) (rest []byte, err error) {
	err = s.timed(lo, hi, true, func() error {
		rest, err = s.read(p, lo, hi, step, func(g *segment, from, to int, code []byte) error {
			have := s.have[g.Off+from-s.lo : g.Off+to-s.lo]
			if g.feedback != follow {
				return g.at(step).Decode(have, code)
			}
			return compress.Add(g.at(step), have, code, 1, s.temp(to-from))
		})
		return err
	})
	return rest, err
}

// hollowBytes is so many bytes of a message that nobody writes or reads: all workers of this process have the same.
func hollowBytes(g comm.Group, n int) []byte { return vec.Bytes(comm.Vector(g, n/4+1))[:n] }
