package optim

import (
	"fmt"
	"math"

	"github.com/covey-ml/covey/spec"
)

// Schedule is the rate as a pure function of the number of the update: it holds no position, so a resumed run needs
// nothing from it. It is safe for concurrent use.
type Schedule struct {
	peak   float64
	warmup int
	rest   int // updates after the warm-up; 0 when the total is not known
	shape  shape
}

// A shape is the rate after k updates of n, as a fraction of the rate of the first.
type shape func(k, n int) float64

var schedules = []struct {
	Choice
	bounded bool // needs to know the total
	make    func(p *params) shape
}{
	{Choice{"constant", "the base rate throughout"}, false, func(*params) shape {
		return func(int, int) float64 { return 1 }
	}},
	{Choice{"step", "times gamma=0.1 after every=N updates"}, false, func(p *params) shape {
		every, gamma := p.Int("every", 0), p.positive("gamma", 0.1)
		p.check(every >= 1, "every", every, "the number of updates between cuts, as in step:every=1000")
		return func(k, _ int) float64 { return power(gamma, k/max(every, 1)) }
	}},
	{Choice{"cosine", "half a cosine from the base rate down to final=0 times it (Loshchilov and Hutter 2017, equation 5)"}, true, func(p *params) shape {
		final := p.notNegative("final", 0)
		return func(k, n int) float64 {
			return final + float64((1-final)*(1+cosPi(float64(min(k, n))/float64(n)))/2)
		}
	}},
	{Choice{"linear", "a straight line from the base rate down to final=0 times it"}, true, func(p *params) shape {
		final := p.notNegative("final", 0)
		return func(k, n int) float64 {
			return final + float64((1-final)*(float64(n-min(k, n))/float64(n)))
		}
	}},
	{Choice{"invt", "the base rate over 1 + decay=1 times the updates made: base/t"}, false, func(p *params) shape {
		decay := p.notNegative("decay", 1)
		return func(k, _ int) float64 { return 1 / (1 + float64(decay*float64(k))) }
	}},
}

// Schedules lists the schedules. Each also takes warmup=N, the updates in which the rate rises in a straight line from
// base/N to the base rate, after which the schedule begins with the updates that are left; and scale=linear or
// scale=sqrt with base=256, which multiply the base rate by batch/256 (Goyal et al. 2017, arXiv 1706.02677, section
// 2.1) or by its square root (Krizhevsky 2014, arXiv 1404.5997, section 5; Hoffer, Hubara and Soudry 2017, arXiv
// 1705.08741, section 4).
func Schedules() []Choice {
	out := make([]Choice, len(schedules))
	for i, s := range schedules {
		out[i] = s.Choice
	}
	return out
}

// NewSchedule makes the schedule that s names: base is the rate before batch scaling, total the number of updates of
// the run (0: not known, which cosine and linear refuse) and batch the samples of an update. s is not changed. An
// unknown name or parameter, or a value out of range, is an error that says what is valid.
func NewSchedule(s *spec.Spec, base float64, total, batch int) (*Schedule, error) {
	names := make([]string, len(schedules))
	for i, c := range schedules {
		names[i] = c.Name
		if c.Name != s.Name {
			continue
		}
		if len(s.Args) > 0 {
			return nil, fmt.Errorf("%s: %q has no name: parameters are written name=value (%s)", s.Name, s.Args[0], c.Help)
		}
		p := read(s)
		out := &Schedule{peak: base, shape: c.make(p), warmup: p.Int("warmup", 0)}
		p.check(out.warmup >= 0, "warmup", out.warmup, "a number of updates")
		out.peak = scaled(p, base, batch)
		if err := p.done(); err != nil {
			return nil, err
		}
		if !(base >= 0 && out.peak <= math.MaxFloat32) {
			return nil, fmt.Errorf("%s: the rate is %v, %v after batch scaling: expected a number from 0 on", s.Name, base, out.peak)
		}
		out.rest = max(total-out.warmup, 0)
		if c.bounded && out.rest == 0 {
			if total <= 0 {
				return nil, fmt.Errorf("%s: the number of updates of the run must be known; constant, step and invt do not need it", s.Name)
			}
			return nil, fmt.Errorf("%s: warmup is %d, the run has %d updates: expected fewer", s.Name, out.warmup, total)
		}
		return out, nil
	}
	return nil, spec.OneOf("schedule", s.Name, names...)
}

// scaled is the base rate for this batch.
func scaled(p *params, base float64, batch int) float64 {
	rule := p.Word("scale", "none", "none", "linear", "sqrt")
	from := p.Int("base", 256)
	p.check(from >= 1, "base", from, "the batch size that the rate was chosen for, at least 1")
	if rule == "none" {
		return base
	}
	p.check(batch >= 1, "batch", batch, "at least 1")
	ratio := float64(batch) / float64(max(from, 1))
	if rule == "sqrt" {
		ratio = math.Sqrt(ratio)
	}
	return base * ratio
}

// Rate is the rate of update t, from 1 on: what Optimizer.Begin takes, as float32. Beyond the total it stays where the
// schedule ends.
func (s *Schedule) Rate(t int) float64 {
	if t < 1 {
		panic(fmt.Sprintf("optim: Schedule.Rate(%d): updates count from 1", t))
	}
	if t <= s.warmup {
		return s.peak * (float64(t) / float64(s.warmup))
	}
	return s.peak * s.shape(t-s.warmup-1, s.rest)
}

// cosPi is the cosine of pi*u for u from 0 to 1, within 1e-15, with the same bits on every processor (which math.Cos
// does not promise). Between an eighth and three eighths of a turn it is the sine of what is left to a quarter, so that
// the Taylor series sees arguments of at most pi/4 and what is cut off, from the 20th power on, is below 1e-20.
func cosPi(u float64) float64 {
	switch {
	case u > 0.75:
		return -cosPi(1 - u)
	case u > 0.25:
		return sinSeries(float64(math.Pi * (0.5 - u)))
	}
	x := float64(math.Pi * u)
	return horner(float64(x*x), 18)
}

func sinSeries(x float64) float64 { return float64(x * horner(float64(x*x), 19)) }

// horner is the Taylor series of cosine (last even) or of sine over its argument (last odd) for z, the argument's square,
// up to the power last. With n = last, last-2, ..., each bracket is 1 - z/((n-1)*n) times the one inside it.
func horner(z float64, last int) float64 {
	s := 1.0
	for n := last; n >= 2; n -= 2 {
		s = 1 - float64(z*s)/float64((n-1)*n)
	}
	return s
}
