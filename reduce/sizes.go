package reduce

import (
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/rng"
)

// Sizes are what Compressed sends in one sum, worked out and not looked at. The numbers are of ranks that have something to
// say; the others send nothing but their part in the exact sums.
type Sizes struct {
	// Exactly says that nothing is compressed: the sum is the exact reducer's, and all else here is 0.
	Exactly bool
	// Flat and Factors are the elements of the exact all-reduces before the codes, one vector a rank: what is summed exactly
	// beside the codes together with PowerSGD's first factors, and its second factors. 0 is none.
	Flat, Factors int
	// Chunk is, by rank, the bytes of one rank's codes of the chunks that this rank owns, and as many has its code of their
	// sum; nil when nothing goes two-way.
	Chunk []int
	// All is the bytes of a rank's codes that go to all.
	All int
	// Codes says that there are codes: a message of them ends with Ending bytes, which Chunk and All do not count.
	Codes bool
	// Fixed says that the bytes are exact. Otherwise they are those of vectors of normally distributed numbers: the lengths
	// of these codes depend on the data.
	Fixed bool
}

// Ending is the bytes at the end of a message of codes that say whether its sender had any.
const Ending = 1

// Sizes returns what a sum of n elements takes, of which the first head come before element off of the flat vector, when so
// many ranks have something to say. The error is that of a vector that does not hold whole segments.
func (r Rules) Sizes(layout model.Layout, off, head, n, ranks int) (Sizes, error) {
	segments := make([]segment, len(layout))
	for i, s := range layout {
		segments[i] = segment{Segment: s, choice: r.of(s), index: i}
	}
	p, err := lay(segments, off, head, n, ranks)
	if err != nil {
		return Sizes{}, err
	}
	s := Sizes{Exactly: p.lossless(), Fixed: true}
	if s.Exactly {
		return s, nil
	}
	s.Flat, s.Factors = len(p.flat), len(p.factors)/2
	s.Codes = len(p.scattered)+len(p.gathered) > 0
	if len(p.scattered) > 0 {
		s.Chunk = make([]int, ranks)
	}
	for _, pc := range p.scattered {
		bytes := map[int]int{} // by elements, of which chunks have two numbers
		for rank := range s.Chunk {
			lo, hi := comm.Chunk(pc.hi-pc.lo, ranks, comm.Rank(rank))
			if lo == hi {
				continue
			}
			b, known := bytes[hi-lo]
			if !known {
				b = pc.length(hi - lo)
				bytes[hi-lo] = b
			}
			s.Chunk[rank] += b
		}
		s.Fixed = s.Fixed && pc.fixed()
	}
	for _, pc := range p.gathered {
		s.All += pc.length(pc.hi - pc.lo)
		s.Fixed = s.Fixed && pc.fixed()
	}
	return s, nil
}

// sampled bounds the vector whose code tells how long codes are.
const sampled = 1 << 16

// length is the bytes of a code of n elements, its length included: exact where all are as long, else those of normally
// distributed numbers.
func (c *choice) length(n int) int {
	if c.fixed() {
		return c.most(n)
	}
	draw := rng.New(0, "reduce/sizes", uint64(n))
	x := make([]float32, min(n, sampled))
	for i := range x {
		x[i] = normal(draw)
	}
	code, err := c.codec.Encode(nil, x, rng.Key(0, "reduce/sizes", uint64(n)))
	if err != nil { // no number of these is infinite: it is too large for this code
		return c.most(n)
	}
	return 4 + int(float64(len(code))*(float64(n)/float64(len(x))))
}
