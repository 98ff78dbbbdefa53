package convex

import (
	"context"
	"errors"
	"math"
)

// errStuck says that no point along the direction is better than the point.
var errStuck = errors.New("convex: no decrease along the direction")

const (
	enough    = 1e-4 // of the decrease that the slope promises: Armijo's rule, Nocedal and Wright (3.6a)
	flattened = 0.9  // of the slope may be left: the strong curvature condition, (3.7b)
	centred   = 0.5  // the same inside a search, which costs little
	trials    = 60
)

// search finds the trial point: x + d where that will do, else x + t d. It leaves it in xTry, evaluated. The direction must go
// down. F is convex, so the sign of its slope along d says on which side of t the minimum lies.
func (s *Strategy) search(ctx context.Context) error {
	slope := dot(s.g, s.d)
	if !(slope < 0) || !finite(s.d) {
		return errStuck
	}
	for i, v := range s.x {
		s.xTry[i] = v + s.d[i]
	}
	if err := s.try(ctx); err != nil {
		return err
	}
	end := dot(s.gTry, s.d)
	if s.good(1, slope, s.fTry.sum(), end, flattened) {
		return nil
	}
	// The penalty along d is a parabola.
	var middle, quadratic float64
	for i, d := range s.eval.strength {
		pull := float64(d * s.d[i])
		middle += float64(pull * s.x[i])
		quadratic += float64(pull * s.d[i])
	}
	s.eval.aim()
	low, high := 0.0, math.Inf(1)
	if end < 0 {
		low = 1
	} else {
		high = 1
	}
	t := -slope / (end - slope) // where a parabola with both slopes has its minimum
	for range trials {
		if !(t > low && t < high) {
			if t = (low + high) / 2; math.IsInf(high, 1) {
				t = 4 * max(low, 1)
			}
		}
		t = min(t, 10*max(low, 1))
		f, df, bend, err := s.eval.along(ctx, t)
		if err != nil {
			return err
		}
		f += s.f.penalty + float64(t*(middle+float64(t/2*quadratic)))
		df += middle + float64(t*quadratic)
		bend += quadratic
		if s.good(t, slope, f, df, centred) {
			low = t
			break
		}
		if df < 0 {
			low = t
		} else {
			high = t
		}
		if high-low <= 1e-15*high {
			break
		}
		t -= df / bend
	}
	if low == 0 {
		return errStuck
	}
	for i, v := range s.x {
		s.xTry[i] = v + float64(low*s.d[i])
	}
	return s.try(ctx)
}

// good tells whether x + t d, with objective f and slope df there, is low enough and, for LBFGS, flat enough. Where f's
// rounding hides whether it is low enough, slopes tell (Hager and Zhang, A new conjugate gradient method with guaranteed
// descent and an efficient line search, 2005, section 4).
func (s *Strategy) good(t, slope, f, df, flat float64) bool {
	was := s.f.sum()
	low := f <= was+float64(enough*t*slope) || f <= was+float64(1e-14*math.Abs(was)) && df <= (2*enough-1)*slope
	return low && (s.o.Method != LBFGS || math.Abs(df) <= -flat*slope)
}
