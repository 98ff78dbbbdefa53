package reduce

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/compress"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/vec"
)

// plan says which way each piece of a vector goes. It is made once for each part of the flat vector that is summed.
type plan struct {
	scattered []piece // two-way and vote
	gathered  []piece
	low       []piece
	exact     []piece // go along with the small sums of low
	flat      []float32
	factors   []float32
}

// piece is elements lo to hi of a vector: one segment, or exact elements in a row.
type piece struct {
	*segment
	lo, hi int
}

// segment is a segment of the layout, how it is summed, and what that keeps from one sum to the next. What is kept belongs
// to sums over total samples, and is scaled when there are more or fewer.
type segment struct {
	model.Segment
	*choice
	index int
	total float64

	kept []float32 // error feedback's residual; EF21's own estimate; DGC's unsent sum; vote's momentum
	both []float32 // the residual of sums that this rank owns; EF21's sum of all estimates; DGC's momentum
	list []int32   // of elements, while a call lasts
	q    []float32 // low rank: the factor to start from, rank rows of one element a column of the matrix
}

func newSegment(g comm.Group, s model.Segment, index int, c *choice) segment {
	seg := segment{Segment: s, choice: c, index: index}
	if c.feedback != forget {
		seg.kept = comm.Vector(g, s.Len)
	}
	if c.feedback == follow || c.feedback == momentous || c.feedback == remember && c.way == twoWay {
		seg.both = comm.Vector(g, s.Len)
	}
	if c.way == lowRank {
		_, cols := matrix(s)
		seg.q = make([]float32, c.rank*cols)
	}
	return seg
}

// raw sends exact elements along with codes.
var raw = &segment{choice: &choice{text: "none", codec: compress.Identity{}}, index: -1}

// aloneBytes is how many exact bytes may go to all along with sparse codes: a sum of their own would take messages, and
// fewer bytes when there are many ranks.
const aloneBytes = 64 << 10

// plan returns the plan for v's part of the flat vector.
func (r *Compressed) plan(v Vector) (*plan, error) {
	n := len(v.Parts[0])
	key := [3]int{v.Off, v.Head, n}
	if p := r.plans[key]; p != nil {
		return p, nil
	}
	p, err := lay(r.segments, v.Off, v.Head, n, r.active)
	if err == nil {
		r.plans[key] = p
	}
	return p, err
}

// lay makes the plan for a vector of n elements, of which the first head come before element off of the flat vector, that so
// many ranks have something to say about.
func lay(segments []segment, off, head, n, ranks int) (*plan, error) {
	p := &plan{}
	exact := func(lo, hi int) {
		if k := len(p.exact) - 1; k >= 0 && p.exact[k].hi == lo {
			p.exact[k].hi = hi
		} else if lo < hi {
			p.exact = append(p.exact, piece{raw, lo, hi})
		}
	}
	exact(0, head)
	at := head
	for i := range segments {
		s := &segments[i]
		if s.Off < off || s.Off >= off+n-head || s.Len == 0 {
			continue
		}
		if s.Off-off+head != at || at+s.Len > n {
			return nil, fmt.Errorf("reduce: a vector of %d elements from %d on does not hold whole segments: %s is %d to %d", n-head, off, s.Name, s.Off, s.Off+s.Len)
		}
		pc := piece{s, at, at + s.Len}
		switch at += s.Len; s.way {
		case exactly:
			exact(pc.lo, pc.hi)
		case lowRank:
			p.low = append(p.low, pc)
		case gather:
			p.gathered = append(p.gathered, pc)
		default:
			p.scattered = append(p.scattered, pc)
		}
	}
	if at != n {
		end := 0
		if k := len(segments) - 1; k >= 0 {
			end = segments[k].Off + segments[k].Len
		}
		return nil, fmt.Errorf("reduce: a vector of %d elements from %d on goes beyond the model's %d", n-head, off, end)
	}
	p.carry(ranks)
	return p, nil
}

// carry chooses with what the exact pieces go.
func (p *plan) carry(ranks int) {
	bytes := 0
	for _, pc := range p.exact {
		bytes += 4 * (pc.hi - pc.lo)
	}
	switch {
	case len(p.low) > 0:
	case len(p.scattered) > 0:
		p.scattered, p.exact = append(p.exact, p.scattered...), nil
	case len(p.gathered) > 0 && bytes*(ranks-1) <= aloneBytes:
		p.gathered, p.exact = append(p.exact, p.gathered...), nil
	}
	n := 0
	for _, pc := range p.exact {
		n += pc.hi - pc.lo
	}
	q := 0
	for _, pc := range p.low {
		rows, cols := matrix(pc.Segment)
		n += pc.rank * rows
		q += pc.rank * cols
	}
	p.flat, p.factors = make([]float32, n), make([]float32, 2*q)
}

// rescale brings what all pieces keep to sums over another number of samples. All ranks do, those too that keep nothing but
// what all have alike.
func (p *plan) rescale(total float64) {
	for _, ps := range [][]piece{p.scattered, p.gathered, p.low} {
		for _, pc := range ps {
			pc.rescale(total)
		}
	}
}

// lossless tells whether nothing is compressed.
func (p *plan) lossless() bool { return len(p.scattered)+len(p.gathered)+len(p.low) == 0 }

// chunkMost is the most bytes that the codes of the chunks of one owner take.
func (p *plan) chunkMost(ranks int, owner comm.Rank) (most int) {
	for _, pc := range p.scattered {
		if lo, hi := comm.Chunk(pc.hi-pc.lo, ranks, owner); lo < hi {
			most += pc.most(hi - lo)
		}
	}
	return most
}

func (p *plan) gatherMost() (most int) {
	for _, pc := range p.gathered {
		most += pc.most(pc.hi - pc.lo)
	}
	return most
}

// fixed tells whether codes have no length in front of them: all of n elements are as long.
func (c *choice) fixed() bool {
	if c.way == vote {
		return true
	}
	_, ok := c.codec.(compress.Fixed)
	return ok && len(c.stages) == 0
}

// lossy tells whether codes stand for numbers near those that they are the codes of, which are never infinite.
func (c *choice) lossy() bool { return c.way != exactly && c.feedback != smoothed }

// most is the most bytes of a code of n elements, its length included.
func (c *choice) most(n int) int {
	if c.way == vote {
		return vec.PackedLen(n, 1)
	}
	most := c.codec.MaxLen(n)
	for _, s := range c.stages {
		most = max(most, s.MaxLen(n))
	}
	if !c.fixed() {
		most += 4
	}
	return most
}

// cut takes the code of n elements off the front of a message, and says how many bytes it took.
func (c *choice) cut(m []byte, n, step int) (code []byte, took int, err error) {
	if c.fixed() {
		if took = c.most(n); took > len(m) {
			return nil, 0, fmt.Errorf("a message ends in the middle of a code of %d bytes", took)
		}
		if c.way == vote && n%8 != 0 && m[took-1]>>(n%8) != 0 {
			return nil, 0, fmt.Errorf("votes behind the last of %d elements", n)
		}
		return m[:took], took, nil
	}
	if len(m) < 4 {
		return nil, 0, fmt.Errorf("a message ends where a code's length should stand")
	}
	size := binary.LittleEndian.Uint32(m)
	if int64(size) > int64(c.at(step).MaxLen(n)) || int64(size) > int64(len(m)-4) {
		return nil, 0, fmt.Errorf("a code of %d elements that says it has %d bytes, in %d", n, size, len(m)-4)
	}
	return m[4 : 4+size], 4 + int(size), nil
}

// encode appends the code of x, with its length where that varies.
func (c *choice) encode(dst []byte, x []float32, key uint64, step int) ([]byte, error) {
	if c.way == vote {
		if !vec.Finite(x) {
			return dst, compress.ErrNotFinite
		}
		n := len(dst)
		dst = slices.Grow(dst, vec.PackedLen(len(x), 1))[:n+vec.PackedLen(len(x), 1)]
		vec.PackSigns(dst[n:], x)
		return dst, nil
	}
	n := len(dst)
	if !c.fixed() {
		dst = append(dst, 0, 0, 0, 0)
	}
	dst, err := c.at(step).Encode(dst, x, key)
	if err == nil && !c.fixed() {
		binary.LittleEndian.PutUint32(dst[n:], uint32(len(dst)-n-4))
	}
	return dst, err
}

// total is the samples behind a sum; where they are not known, all sums count as alike.
func (v Vector) total() float64 {
	if v.Total > 0 {
		return v.Total
	}
	return 1
}

// input returns what of x is to be encoded: x itself, or what is kept with x added to it.
func (pc piece) input(x []float32, v Vector) []float32 {
	x = x[pc.lo:pc.hi]
	switch pc.feedback {
	case remember:
		vec.Add(pc.kept, x)
		return pc.kept
	case follow: // x becomes the difference from the estimate
		vec.Axpy(-1, pc.kept, x)
		return x
	case momentous:
		vec.Scale(pc.momentum, pc.both)
		vec.Add(pc.both, x)
		vec.Add(pc.kept, pc.both)
		return pc.kept
	case smoothed:
		vec.Scale(pc.momentum, pc.kept)
		vec.Add(pc.kept, x)
		return pc.kept
	}
	return x
}

// rescale brings what is kept to sums over another number of samples.
func (s *segment) rescale(total float64) {
	if s.kept == nil {
		return
	}
	if s.total != 0 && s.total != total {
		by := float32(total / s.total)
		vec.Scale(by, s.kept)
		if s.both != nil {
			vec.Scale(by, s.both)
		}
	}
	s.total = total
}

// sent takes what was sent of elements lo to hi, as code, off what is kept.
func (s *segment) sent(lo, hi int, code []byte, step int, scratch []float32) error {
	switch s.feedback {
	case remember:
		return compress.Add(s.at(step), s.kept[lo:hi], code, -1, scratch)
	case follow:
		return compress.Add(s.at(step), s.kept[lo:hi], code, 1, scratch)
	case momentous:
		codec := s.at(step).(compress.Sparse)
		var err error
		if s.list, err = codec.Kept(s.list[:0], code, hi-lo); err == nil {
			err = codec.Add(s.kept[lo:hi], code, -1)
		}
		for _, i := range s.list { // momentum factor masking
			s.both[lo+int(i)] = 0
		}
		return err
	}
	return nil
}

// encodeSum appends the code of elements lo to hi of the sum, which this rank owns.
func (s *segment) encodeSum(dst []byte, sum []float32, lo, hi int, key uint64, step int, scratch []float32) ([]byte, error) {
	if s.feedback != remember {
		return s.encode(dst, sum, key, step)
	}
	lost := s.both[lo:hi]
	vec.Add(lost, sum)
	n := len(dst)
	dst, err := s.encode(dst, lost, key, step)
	if err != nil {
		return dst, err
	}
	code, _, err := s.cut(dst[n:], hi-lo, step)
	if err == nil {
		err = compress.Add(s.at(step), lost, code, -1, scratch)
	}
	return dst, err
}

// decodeSum reads the code of a sum.
func (s *segment) decodeSum(x []float32, code []byte, v Vector) error {
	if s.way == vote {
		vec.UnpackSigns(x, code, float32(v.total()))
		return nil
	}
	return s.at(v.Step).Decode(x, code)
}

// took turns the sum of codes into the sum of what they stand for.
func (s *segment) took(x []float32) {
	if s.feedback == follow {
		vec.Add(s.both, x)
		copy(x, s.both)
	}
}
