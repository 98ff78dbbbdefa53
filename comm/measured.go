package comm

import (
	"fmt"
	"strconv"

	"github.com/covey-ml/covey/spec"
)

// Measured returns c with the prices that a machine was measured at. What is not measured, the cache and what lies beyond it,
// keeps its ratio.
func (c Costs) Measured(alpha, message, beta, gamma float64) Costs {
	grown := func(inside, beyond, now float64) float64 {
		if inside == 0 {
			return now
		}
		return now * beyond / inside
	}
	c.BetaBeyond, c.GammaBeyond = grown(c.Beta, c.BetaBeyond, beta), grown(c.Gamma, c.GammaBeyond, gamma)
	c.Alpha, c.Message, c.Beta, c.Gamma = alpha, message, beta, gamma
	c.Name = "measured " + c.Name
	return c
}

// Text writes the prices that Measured sets as With reads them: measured:alpha=1.4e-05,beta=...
func (c Costs) Text() string {
	s := spec.Spec{Name: "measured", Opts: map[string]string{}}
	for key, x := range map[string]float64{"alpha": c.Alpha, "message": c.Message, "beta": c.Beta, "gamma": c.Gamma} {
		s.Opts[key] = strconv.FormatFloat(x, 'g', -1, 64)
	}
	return s.String()
}

// With returns c with the prices of a text that Text wrote.
func (c Costs) With(text string) (Costs, error) {
	s, err := spec.Parse(text)
	if err != nil {
		return c, err
	}
	if err := spec.OneOf("costs", s.Name, "measured"); err != nil {
		return c, err
	}
	alpha, message, beta, gamma := s.Float("alpha", c.Alpha), s.Float("message", c.Message), s.Float("beta", c.Beta), s.Float("gamma", c.Gamma)
	if err := s.Done(); err != nil {
		return c, err
	}
	for _, x := range []float64{alpha, message, beta, gamma} {
		if !(x >= 0 && x <= 100) {
			return c, fmt.Errorf("measured: a price of %v, expected seconds from 0 to 100", x)
		}
	}
	if alpha == 0 {
		return c, fmt.Errorf("measured: alpha is 0: no message takes no time")
	}
	return c.Measured(alpha, message, beta, gamma), nil
}
