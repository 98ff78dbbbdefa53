package reduce

import (
	"context"
	"math"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/rng"
	"github.com/covey-ml/covey/vec"
)

// PowerSGD (Vogels, Karimireddy and Jaggi, arXiv 1905.13727): a matrix M [rows, cols] of gradients, each rank's own, is
// replaced by P Q', with P [rows, rank] orthonormal and Q [cols, rank]. One step of subspace iteration (algorithm 1): P = M Q
// summed over the ranks and made orthonormal, Q = M'P summed over the ranks, which is where the next step starts from. Both
// sums are of few numbers, and the result is the projection of the exact sum: what is linear can be summed first. The words
// here: p and q hold the factors turned, one row for each of the rank's columns.
//
// With error feedback a rank keeps what the projection took off its own matrix, M - P P'M (algorithm 2, line 8). The first
// Q is drawn; a column that comes out as zero, since M has a lower rank, is drawn anew for the next step. Of a column only the
// direction matters to P, so its length is taken off, by a power of two, which changes no bit of the result: P would
// otherwise have the square of M's size, which float32 may not hold.
//
// A rank sends two small all-reduces a call, of rank (rows + exact elements) and rank cols elements, whatever the number of
// segments.
func (r *Compressed) lowRank(ctx context.Context, p *plan, x []float32, v Vector) error {
	if len(p.low)+len(p.exact) == 0 {
		return nil
	}
	flat := p.flat
	at := 0
	for _, pc := range p.exact {
		at += r.move(flat[at:], x[pc.lo:pc.hi])
	}
	first := at
	low := p.low
	if !r.speaks() {
		low = nil // what this rank sends does not count, and it keeps nothing
	}
	r.timed(func() error {
		for _, pc := range low {
			r.product(pc)
			if pc.feedback == remember {
				r.cost.Bytes += keptBytes * int64(pc.hi-pc.lo)
			}
			if r.hollow {
				continue
			}
			rows, cols := matrix(pc.Segment)
			m := pc.input(x, v)
			r.start(pc, v.Step)
			vec.MatMulNT(flat[at:at+pc.rank*rows], pc.q, m, pc.rank, rows, cols, false)
			at += pc.rank * rows
		}
		return nil
	})
	if err := r.sumExactly(ctx, flat); err != nil {
		return err
	}
	at = 0
	for _, pc := range p.exact {
		at += r.move(x[pc.lo:pc.hi], flat[at:at+pc.hi-pc.lo])
	}
	if len(p.low) == 0 {
		return nil
	}
	if !r.hollow && !vec.Finite(flat[first:]) { // all ranks see the same sum
		return ErrNotFinite
	}
	n := len(p.factors) / 2
	q, own := p.factors[:n], p.factors[n:]
	r.timed(func() error {
		at, qat := first, 0
		for _, pc := range p.low {
			r.product(pc)
			if r.hollow {
				continue
			}
			rows, cols := matrix(pc.Segment)
			orthonormal(flat[at:at+pc.rank*rows], pc.rank, rows)
			m := x[pc.lo:pc.hi]
			if pc.feedback == remember {
				m = pc.kept
			}
			vec.MatMul(q[qat:qat+pc.rank*cols], flat[at:at+pc.rank*rows], m, pc.rank, cols, rows, false)
			at, qat = at+pc.rank*rows, qat+pc.rank*cols
		}
		return nil
	})
	copy(own, q)
	if err := r.sumExactly(ctx, q); err != nil {
		return err
	}
	if !r.hollow && !vec.Finite(q) {
		return ErrNotFinite
	}
	return r.timed(func() error {
		at, qat := first, 0
		for _, pc := range p.low {
			rows, cols := matrix(pc.Segment)
			r.product(pc)
			if pc.feedback == remember {
				r.product(pc)
			}
			if r.hollow {
				continue
			}
			f, g := flat[at:at+pc.rank*rows], q[qat:qat+pc.rank*cols]
			if pc.feedback == remember {
				mine := own[qat : qat+pc.rank*cols]
				vec.Scale(-1, mine)
				vec.MatMulTN(pc.kept, f, mine, rows, cols, pc.rank, true)
			}
			vec.MatMulTN(x[pc.lo:pc.hi], f, g, rows, cols, pc.rank, false)
			copy(pc.q, g)
			directions(pc.q, pc.rank, cols)
			at, qat = at+pc.rank*rows, qat+pc.rank*cols
		}
		return nil
	})
}

// sumExactly sums one vector of each rank.
func (r *Compressed) sumExactly(ctx context.Context, x []float32) error {
	r.vector[0] = x
	return comm.AllReduce(ctx, r.c.Group, r.one, r.vector[:])
}

// start draws the columns of a factor that are zero: all of them at first.
func (r *Compressed) start(pc piece, step int) {
	_, cols := matrix(pc.Segment)
	for k := range pc.rank {
		q := pc.q[k*cols : (k+1)*cols]
		if vec.MaxAbs(q) > 0 {
			continue
		}
		draw := rng.New(r.c.Seed, "reduce/powersgd"+r.c.Name, uint64(step), uint64(pc.index), uint64(k))
		for i := range q {
			q[i] = normal(draw)
		}
	}
}

// directions brings each of the rows of q, of n elements, to a largest element of 1/2 to 1, by a power of two. Zeros stay.
func directions(q []float32, rows, n int) {
	for k := range rows {
		row := q[k*n : (k+1)*n]
		_, exp := math.Frexp(float64(vec.MaxAbs(row)))
		vec.Scale(float32(math.Ldexp(1, -max(exp, -126))), row) // 2^127 is the largest
	}
}

// normal draws from the normal distribution by Marsaglia's polar method, through vec's logarithm.
func normal(draw interface{ Float64() float64 }) float32 {
	for {
		u, w := float64(2*draw.Float64())-1, float64(2*draw.Float64())-1
		s := float64(u*u) + float64(w*w)
		if s > 0 && s < 1 {
			return float32(u * math.Sqrt(float64(-2*vec.Log64(s))/s))
		}
	}
}

// orthonormal makes the rows of p, of n elements each, orthogonal to each other and 1 long: Gram and Schmidt, twice, which is
// enough (Giraud, Langou and Rozloznik, The loss of orthogonality in the Gram-Schmidt process, 2005). A row that depends
// on those before it, to rounding, becomes 0, and so does one that is too short for numbers with all their bits.
func orthonormal(p []float32, rows, n int) {
	for i := range rows {
		a := p[i*n : (i+1)*n]
		before := math.Sqrt(vec.SumSquares(a))
		for range 2 {
			for j := range i {
				b := p[j*n : (j+1)*n]
				vec.Axpy(-vec.Dot(b, a), b, a)
			}
		}
		norm := math.Sqrt(vec.SumSquares(a))
		if !(norm > 1e-5*before && norm > 0x1p-100) {
			clear(a)
			continue
		}
		vec.Scale(float32(1/norm), a)
	}
}
