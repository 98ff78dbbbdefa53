package convex

import (
	"context"
	"fmt"
	"math"

	"github.com/covey-ml/covey/model"
)

// cgRoom is the vectors of conjugate gradients.
type cgRoom struct{ r, p, hp, inverse []float64 }

const (
	cgMost = 500 // iterations
	loose  = 0.1 // residual of the first systems, relative to the gradient
)

// newton sets d to a solution of H d = -g.
func (s *Strategy) newton(ctx context.Context) error {
	if s.by == Cholesky {
		return s.direct(ctx)
	}
	return s.truncated(ctx)
}

// few is up to how many parameters Cholesky is taken unasked.
const few = 512

// mostCholesky is the largest number of parameters that it is taken for: the triangle then has 32 MiB.
const mostCholesky = 2895

// choose decides how the system is solved, from what all workers have in common.
func (s *Strategy) choose(m model.Curved) error {
	_, written := m.(model.Hessian)
	switch written = written && m.Margins() == 1; {
	case s.o.Solve != Cholesky && (s.o.Solve == CG || !written || len(s.x) > few):
		s.by = CG
	case !written:
		return fmt.Errorf("newton: the Hessian of a model of %d margins a sample is not written down: use solve=cg", m.Margins())
	case len(s.x) > mostCholesky:
		return fmt.Errorf("newton: the Hessian of %d parameters is too large to factor (%d are the most): use solve=cg", len(s.x), mostCholesky)
	default:
		s.by = Cholesky
	}
	return nil
}

// direct sums the Hessian and factors it. Where it is singular, or as good as that, its diagonal is raised until it is not:
// the direction still goes down.
func (s *Strategy) direct(ctx context.Context) error {
	n := len(s.x)
	if s.tri == nil {
		s.tri = make([]float64, n*(n+1)/2)
	}
	for raise := 0.0; ; raise = max(100*raise, 1e-12) {
		// The sum lies in the oracle's own memory, and is asked for again only if it must be.
		if err := s.eval.hessian(ctx, s.tri); err != nil {
			return err
		}
		if factor(s.tri, n, raise) || raise > 1 {
			break
		}
	}
	for i, v := range s.g {
		s.d[i] = -v
	}
	solve(s.tri, s.d)
	return nil
}

const (
	chordsMost = 2   // steps with a factor after the one that it was made for
	chordsPay  = 0.5 // the largest part of the gradient that the last one may have left, for another to be tried
)

// chords goes on with the same factor, for an evaluation a step and no new Hessian, as long as that pays (Shamanskii, A
// modification of Newton's method, 1967): few such steps are as good as a step of Newton's.
func (s *Strategy) chords(ctx context.Context) error {
	for range chordsMost {
		norm := math.Sqrt(dot(s.g, s.g))
		if norm <= s.o.Tol*s.marks[markStart] {
			return nil
		}
		for i, v := range s.g {
			s.d[i] = -v
		}
		solve(s.tri, s.d)
		for i, v := range s.x {
			s.xTry[i] = v + s.d[i]
		}
		if err := s.try(ctx); err != nil {
			return err
		}
		left := math.Sqrt(dot(s.gTry, s.gTry))
		if !(left < norm) || !s.good(1, dot(s.g, s.d), s.fTry.sum(), dot(s.gTry, s.d), flattened) {
			return nil
		}
		s.accept()
		if left > chordsPay*norm {
			return nil
		}
	}
	return nil
}

// factor overwrites the lower triangle a, row by row, of a symmetric matrix whose diagonal is first raised by that part of
// itself, by its Cholesky factor. A parameter that nothing depends on gets a zero row. It fails when a pivot is lost in
// rounding.
func factor(a []float64, n int, raise float64) bool {
	at := 0
	for i := range n {
		row := a[at : at+i+1]
		was := row[i]
		row[i] += float64(raise * was)
		top := 0
		for j := range i {
			other := a[top : top+j+1]
			top += j + 1
			if other[j] == 0 {
				row[j] = 0
				continue
			}
			row[j] = (row[j] - dot(row[:j], other[:j])) / other[j]
		}
		pivot := row[i] - dot(row[:i], row[:i])
		switch {
		case was == 0:
			clear(row)
		case pivot <= 1e-14*was || pivot != pivot:
			return false
		default:
			row[i] = math.Sqrt(pivot)
		}
		at += i + 1
	}
	return true
}

// solve overwrites b by the solution of L L' v = b.
func solve(l, b []float64) {
	at := 0
	for i := range b {
		row := l[at : at+i+1]
		at += i + 1
		if row[i] == 0 {
			b[i] = 0
			continue
		}
		b[i] = (b[i] - dot(row[:i], b[:i])) / row[i]
	}
	for i := len(b) - 1; i >= 0; i-- {
		at -= i + 1
		row := l[at : at+i+1]
		if row[i] == 0 {
			continue
		}
		b[i] /= row[i]
		axpy(-b[i], row[:i], b[:i])
	}
}

// truncated solves H d = -g by conjugate gradients, preconditioned by H's diagonal, until the residual is small beside the
// gradient, in the preconditioner's norm: the smaller, the nearer the optimum is, so that the last steps converge faster than linearly
// (Nocedal and Wright, section 7.1).
func (s *Strategy) truncated(ctx context.Context) error {
	n := len(s.x)
	c := &s.cg
	if c.r == nil {
		for _, v := range []*[]float64{&c.r, &c.p, &c.hp, &c.inverse} {
			*v = make([]float64, n)
		}
	}
	if err := s.eval.diagonal(ctx, c.inverse); err != nil {
		return err
	}
	for i, v := range c.inverse {
		if v > 0 {
			c.inverse[i] = 1 / v
		} else { // nothing depends on this parameter
			c.inverse[i] = 0
		}
	}
	clear(s.d)
	var rz float64
	for i, v := range s.g {
		c.r[i] = -v
		c.p[i] = -float64(c.inverse[i] * v)
		rz += float64(c.r[i] * c.p[i])
	}
	part := min(loose, math.Sqrt(s.relative()))
	end := rz * part * part
	for range min(cgMost, 2*n+10) {
		if !(rz > end) {
			break
		}
		if err := s.eval.bend(ctx, c.hp, c.p); err != nil {
			return err
		}
		curve := dot(c.p, c.hp)
		if !(curve > 0) {
			break
		}
		alpha := rz / curve
		axpy(alpha, c.p, s.d)
		axpy(-alpha, c.hp, c.r)
		was := rz
		rz = 0
		for i, r := range c.r {
			rz += float64(r * float64(c.inverse[i]*r))
		}
		beta := rz / was
		for i, r := range c.r {
			c.p[i] = float64(c.inverse[i]*r) + float64(beta*c.p[i])
		}
	}
	return nil
}
