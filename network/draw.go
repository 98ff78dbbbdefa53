package network

import (
	"fmt"
	"math"
	"path"
	"strconv"
	"time"

	"github.com/covey-ml/covey/rng"
	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/vec"
)

// Spread is how the speeds of hosts differ. The zero value is not at all.
type Spread struct {
	Kind      string  // "", "uniform" or "lognormal"
	Low, High float64 // of uniform: the factor is between them
	Sigma     float64 // of lognormal: the factor is e^(Sigma z) with a standard normal z, so that its median is 1
}

// ParseSpread reads none, uniform:0.8,1.2 or lognormal:0.3.
func ParseSpread(text string) (Spread, error) {
	s, err := spec.Parse(text)
	if err != nil {
		return Spread{}, err
	}
	if err := spec.OneOf("spread", s.Name, "none", "uniform", "lognormal"); err != nil {
		return Spread{}, err
	}
	var v Spread
	switch s.Name {
	case "uniform":
		v = Spread{Kind: s.Name, Low: s.Float("low", 0.8), High: s.Float("high", 1.2)}
	case "lognormal":
		v = Spread{Kind: s.Name, Sigma: s.Float("sigma", 0.3)}
	}
	if err := s.Done(); err != nil {
		return Spread{}, err
	}
	if v.Kind == "uniform" && !(v.Low >= 1e-6 && v.Low <= v.High && v.High <= 1e6) {
		return Spread{}, fmt.Errorf("%q: expected two factors above 0, the lower first, as in uniform:0.8,1.2", text)
	}
	if !(v.Sigma >= 0 && v.Sigma <= 3) {
		return Spread{}, fmt.Errorf("%q: sigma is %v, expected 0 to 3, as in lognormal:0.3", text, v.Sigma)
	}
	return v, nil
}

// String prints the spread so that ParseSpread reads it back.
func (s Spread) String() string {
	switch s.Kind {
	case "uniform":
		return "uniform:" + short(s.Low) + "," + short(s.High)
	case "lognormal":
		return "lognormal:" + short(s.Sigma)
	}
	return "none"
}

func short(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }

// Factor is the speed of a host beside that of its Machine. It depends on seed and host alone.
func (s Spread) Factor(seed uint64, host int) float64 {
	switch s.Kind {
	case "uniform":
		u := unit(rng.Key(seed, "speed", uint64(host)))
		return s.Low + float64(u*(s.High-s.Low))
	case "lognormal":
		return vec.Exp64(float64(s.Sigma * normal(rng.Key(seed, "speed", uint64(host)))))
	}
	return 1
}

// Slow is a slow-down by schedule: computations take Factor times as long.
type Slow struct {
	Factor   float64
	From, To time.Duration // of the run; To 0: to its end
	Hosts    string        // a pattern as of path.Match, as written; "": all
}

// applies tells whether the pattern, which is well formed, means the host.
func (s Slow) applies(host string) bool {
	if s.Hosts == "" {
		return true
	}
	ok, _ := path.Match(s.Hosts, host)
	return ok
}

// SlowAt is by what factor computations are slower at a time by schedule, the product of the slow-downs that overlap,
// and when that may change next (0: never).
func (m *Machine) SlowAt(t time.Duration) (factor float64, until time.Duration) {
	factor = 1
	soonest := func(d time.Duration) {
		if d > t && (until == 0 || d < until) {
			until = d
		}
	}
	for _, s := range m.Slow {
		if t >= s.From && (s.To == 0 || t < s.To) {
			factor *= s.Factor
		}
		soonest(s.From)
		soonest(s.To)
	}
	return factor, until
}

// Tail slows some computations down. The zero value slows none.
type Tail struct {
	Probability float64 // that a computation is slowed
	Shape       float64 // of the Pareto distribution: the factor is above f with probability f^-Shape
	Most        float64 // the factor is cut here
}

// Factor is by what a computation is slower, from 1 to Most. The key names the computation, as rng.Key(seed, "tail",
// rank, step) does.
func (t Tail) Factor(key uint64) float64 {
	if t.Probability == 0 || unit(key) >= t.Probability {
		return 1
	}
	u := 1 - unit(rng.Mix(key)) // above 0
	return min(t.Most, vec.Exp64(-vec.Log64(u)/t.Shape))
}

// unit turns a well mixed key into a number from 0 up to but not 1.
func unit(key uint64) float64 { return float64(rng.Mix(key)>>11) / (1 << 53) }

// normal turns a key into a standard normal number by the polar method (Marsaglia and Bray, SIAM Review 1964), with
// functions that have the same bits on all processors.
func normal(key uint64) float64 {
	for {
		a := 2*unit(key) - 1
		key = rng.Mix(key)
		b := 2*unit(key) - 1
		key = rng.Mix(key)
		if r := float64(a*a) + float64(b*b); r > 0 && r < 1 {
			return float64(a * math.Sqrt(-2*vec.Log64(r)/r))
		}
	}
}
