package compress

import (
	"fmt"
	"math/bits"

	"github.com/covey-ml/covey/vec"
)

// EliasQSGD is QSGD with a code of varying length (section 3.2 of its paper): the steps, 4 bytes a bucket, and then, for each
// element that is not 0, its distance from the one before in Elias' omega code (IEEE Transactions on Information Theory
// 21, 1975), a bit for its sign, and its level in the same code. The first one's distance is from just before the vector; at
// the end stands the distance of the place just behind it. With few levels most elements are 0: on average at most
// s(s+sqrt(b)) of a bucket of b are not (lemma 3.1).
//
// Omega code writes 1 as a zero, and a number of m bits as the code of m-1 without its last zero, the m bits, and a zero. No n
// elements take more than those of which all have the highest level s: a bit for each distance, one for the sign and |s| for
// the level, and one for the end; for a distance d takes at most 2d-1 bits, fewer than elements on the way would. So MaxLen
// is 4 bytes a bucket and (2+|s|) n + 1 bits.
type EliasQSGD struct{ q QSGD }

// String implements Compressor.
func (c *EliasQSGD) String() string {
	return fmt.Sprintf("qsgd:levels=%d,code=elias%s", c.q.top, c.q.bucket.suffix(buckets))
}

// Omega implements Unbiased.
func (c *EliasQSGD) Omega(n int) float64 { return c.q.Omega(n) }

// MaxLen implements Compressor.
func (c *EliasQSGD) MaxLen(n int) int {
	if n == 0 {
		return 0
	}
	_, size := omega(uint64(c.q.top))
	return 4*c.q.bucket.count(n) + ((2+size)*n+1+7)/8
}

// omega is the code of v, at least 1 and below 2^32, as a number whose highest bit of size is sent first.
func omega(v uint64) (code uint64, size int) {
	size = 1 // the zero at the end
	for v > 1 {
		n := bits.Len64(v)
		code |= v << size
		size += n
		v = uint64(n - 1)
	}
	return code, size
}

// bitWriter appends numbers, the highest bit first, filling bytes from the highest bit down.
type bitWriter struct {
	p    []byte
	word uint64 // the last bits, size of them
	size int
}

func (w *bitWriter) put(code uint64, size int) {
	w.word = w.word<<size | code
	for w.size += size; w.size >= 8; w.size -= 8 {
		w.p = append(w.p, byte(w.word>>(w.size-8)))
	}
}

// Encode implements Compressor.
func (c *EliasQSGD) Encode(dst []byte, x []float32, key uint64) ([]byte, error) {
	n := len(x)
	if n == 0 {
		return dst, nil
	}
	g := &c.q.grid
	head := 4 * g.bucket.count(n)
	w := bitWriter{p: extend(dst, head)}
	s := scratches.Take()
	defer scratches.Put(s)
	done, ok, last := 0, true, -1
	for at := 0; at < n; at += block {
		hi := min(at+block, n)
		if done, ok = g.steps(w.p[len(dst):], x, done, hi); !ok {
			return dst, ErrNotFinite
		}
		code := g.levels(w.p[len(dst):], x, key, at, hi, s)
		for i, l := range code {
			if int(l) == g.top {
				continue
			}
			gap, size := omega(uint64(at + i - last))
			last = at + i
			level, sign := int(l)-g.top, uint64(0)
			if level < 0 {
				level, sign = -level, 1
			}
			word, more := omega(uint64(level))
			w.put(gap, size)
			w.put(sign<<more|word, 1+more)
		}
	}
	w.put(omega(uint64(n - last)))
	w.put(0, -w.size&7)
	return w.p, nil
}

// bitReader reads what bitWriter wrote.
type bitReader struct {
	p  []byte
	at int // bits
}

// bit is the next one; -1 when there is none.
func (r *bitReader) bit() int {
	if r.at >= 8*len(r.p) {
		return -1
	}
	b := r.p[r.at>>3] >> (7 - r.at&7) & 1
	r.at++
	return int(b)
}

// number reads an omega code of at most most, or gives 0.
func (r *bitReader) number(most int) int {
	v := 1
	for {
		switch r.bit() {
		case 0:
			if v > most {
				return 0
			}
			return v
		case -1:
			return 0
		}
		// A group of v+1 bits that begins with a one: v grows, so that a wrong code ends here.
		if v >= 32 {
			return 0
		}
		group := 1
		for range v {
			b := r.bit()
			if b < 0 {
				return 0
			}
			group = group<<1 | b
		}
		v = group
	}
}

// entries calls f for the elements in p that are not 0, in order, and says what is wrong.
func (c *EliasQSGD) entries(p []byte, n int, f func(i, level int)) (wrong string) {
	g := &c.q.grid
	if n == 0 {
		return checkLen(p, 0)
	}
	head := 4 * g.bucket.count(n)
	if len(p) <= head || len(p) > c.MaxLen(n) {
		return fmt.Sprintf("%d bytes, want %d to %d", len(p), head+1, c.MaxLen(n))
	}
	if wrong := g.checkSteps(p, n); wrong != "" {
		return wrong
	}
	r := bitReader{p: p[head:]}
	for i := -1; ; {
		gap := r.number(n - i)
		if gap == 0 {
			return "a distance that leads out of the vector, or none"
		}
		if i += gap; i == n {
			break
		}
		sign := r.bit()
		level := r.number(g.top)
		if sign < 0 || level == 0 {
			return fmt.Sprintf("no level from 1 to %d", g.top)
		}
		if sign == 1 {
			level = -level
		}
		f(i, level)
	}
	if rest := 8*len(r.p) - r.at; rest >= 8 {
		return fmt.Sprintf("%d bits behind the end", rest)
	}
	for b := 0; b >= 0; b = r.bit() {
		if b == 1 {
			return notPadded
		}
	}
	return ""
}

// Decode implements Compressor.
func (c *EliasQSGD) Decode(x []float32, p []byte) error {
	clear(x)
	b := c.q.bucket.size(len(x))
	if wrong := c.entries(p, len(x), func(i, level int) { x[i] = float32(level) * getFloat(p, i/b) }); wrong != "" {
		return &CorruptError{c.String(), len(x), wrong}
	}
	return nil
}

// Add implements Adder, in time that grows with the elements that are not 0.
func (c *EliasQSGD) Add(x []float32, p []byte, scale float32) error {
	b := c.q.bucket.size(len(x))
	wrong := c.entries(p, len(x), func(i, level int) {
		x[i] = vec.FMA(scale, float32(level)*getFloat(p, i/b), x[i])
	})
	if wrong != "" {
		return &CorruptError{c.String(), len(x), wrong}
	}
	return nil
}

var (
	_ Unbiased = (*EliasQSGD)(nil)
	_ Adder    = (*EliasQSGD)(nil)
)
