package fault

import (
	"math/rand/v2"
	"time"

	"github.com/covey-ml/covey/rng"
)

// Chaos says what random scripts may hold.
type Chaos struct {
	Workers int           // ranks are 0 to Workers-1
	Steps   int           // of the run; 0: no moment is a step
	Span    time.Duration // about how long the run takes; 0: no moment is a time
	Links   []string      // names of links; none: no fault is on a link
	Kinds   []Kind        // nil: all that the rest has room for
	Faults  int           // at most so many; at least one is drawn where any kind fits
}

// What is drawn is round, for people to read: the sizes at which a fault is a nuisance, a burden and a disaster.
var (
	someFactors = []float64{2, 3, 5, 10, 30, 100}
	someShares  = []float64{0.001, 0.01, 0.05, 0.2, 0.5, 1}
	someDelays  = []time.Duration{time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond}
	someLimits  = []float64{1e5, 1e6, 1e7, 1e8, 1e9}
	someHows    = []string{"sign-flip", "zero", "scale:100", "scale:-1", "noise:10", "nan"}
)

// Random draws a script, a pure function of its arguments. It passes Check for the same workers, steps and links. No rank
// is killed twice, and one at least is never killed.
func Random(seed uint64, c Chaos) Script {
	fit := c.fit()
	if len(fit) == 0 || c.Faults < 1 {
		return nil
	}
	killed := map[int]bool{}
	var s Script
	for i := range 1 + rng.New(seed, "fault/count").IntN(c.Faults) {
		draw := rng.New(seed, "fault/draw", uint64(i))
		f := Fault{Kind: fit[draw.IntN(len(fit))]}
		switch f.Kind {
		case Kill:
			r := draw.IntN(c.Workers)
			if killed[r] || len(killed) == c.Workers-1 {
				continue
			}
			killed[r] = true
			f.Ranks = []int{r}
		case Stop:
			f.Ranks = someRanks(draw, c.Workers, 1)
		case Slow:
			f.Ranks, f.Factor = someRanks(draw, c.Workers, c.Workers), pick(draw, someFactors)
		case Partition:
			f.Ranks, f.Others = someSides(draw, c.Workers)
		case Drop:
			f.Amount = pick(draw, someShares)
		case Delay:
			f.Delay = pick(draw, someDelays)
		case Limit:
			f.Amount = pick(draw, someLimits)
		case Corrupt:
			f.Ranks, f.How = someRanks(draw, c.Workers, max(1, c.Workers/3)), pick(draw, someHows)
		}
		if f.Kind.OnLink() {
			f.Link = pick(draw, c.Links)
		}
		c.when(draw, &f)
		s = append(s, f)
	}
	return s
}

// fit returns the kinds that a script may hold.
func (c Chaos) fit() []Kind {
	ask := c.Kinds
	if ask == nil {
		for k := range kinds {
			ask = append(ask, Kind(k))
		}
	}
	var fit []Kind
	for _, k := range ask {
		ok := c.Workers > 0
		switch {
		case k.OnLink():
			ok = len(c.Links) > 0
		case k == Kill || k == Partition:
			ok = c.Workers > 1 && (c.Steps > 0 || c.Span > 0)
		case k == Stop:
			ok = ok && c.Span > 0 // a stopped worker comes to no step at which it could go on
		}
		if ok {
			fit = append(fit, k)
		}
	}
	return fit
}

// when draws the moments of a fault: by step or by time, as the kind and the run have room; of those that need none, one
// in four holds all the run.
func (c Chaos) when(draw *rand.Rand, f *Fault) {
	steps, span := c.Steps, c.Span
	switch {
	case f.Kind.OnLink():
		steps = 0
	case f.Kind == Corrupt:
		span = 0
	}
	if steps == 0 && span == 0 || f.Kind.timed() == always && draw.IntN(4) == 0 {
		return
	}
	tick := max(1, span/1000, min(span, time.Millisecond)) // times are whole thousandths of the span, or milliseconds
	if steps > 0 && (span == 0 || draw.IntN(2) == 0) {
		f.From.Step = 1 + draw.IntN(steps)
	} else {
		f.From.Time = tick * time.Duration(draw.Int64N(int64(span/tick)))
	}
	if f.Kind == Kill {
		return
	}
	length := tick * time.Duration(1+draw.Int64N(max(1, int64(span/tick/4))))
	switch {
	case f.From.Step == 0:
		f.To.Time = f.From.Time + length
	case f.Kind == Stop: // a stopped worker comes to no step
		f.For = length
	case span > 0 && draw.IntN(2) == 0:
		f.For = length
	default:
		f.To.Step = f.From.Step + 1 + draw.IntN(max(1, steps/4))
	}
}

func pick[T any](draw *rand.Rand, from []T) T { return from[draw.IntN(len(from))] }

// someRanks draws one rank, or as often a run of up to most of them.
func someRanks(draw *rand.Rand, workers, most int) []int {
	first, n := draw.IntN(workers), 1
	if most > 1 && draw.IntN(2) == 0 {
		n = 1 + draw.IntN(min(most, workers-first))
	}
	return consecutive(first, n)
}

// someSides draws two sides: one rank and the rest, or all ranks cut in two.
func someSides(draw *rand.Rand, workers int) (a, b []int) {
	cut := 1 + draw.IntN(workers-1)
	if draw.IntN(2) == 0 {
		return consecutive(0, cut), consecutive(cut, workers-cut)
	}
	alone := draw.IntN(workers)
	return []int{alone}, append(consecutive(0, alone), consecutive(alone+1, workers-alone-1)...)
}

// consecutive returns n ranks, first, first+1, ...
func consecutive(first, n int) []int {
	ranks := make([]int, n)
	for i := range ranks {
		ranks[i] = first + i
	}
	return ranks
}
