package fault

import (
	"fmt"
	"math"

	"github.com/covey-ml/covey/rng"
	"github.com/covey-ml/covey/spec"
)

// corruption is what a worker does to its gradient.
type corruption struct {
	name   string
	amount float64 // of scale and noise
}

// corruptions are the names; those that take a number have an example of it.
var corruptions = []struct{ name, example string }{{"sign-flip", ""}, {"zero", ""}, {"scale", "scale:100"}, {"noise", "noise:10"}, {"nan", ""}}

func parseCorruption(how string) (corruption, error) {
	names := make([]string, len(corruptions))
	for i, c := range corruptions {
		names[i] = c.name
	}
	s, err := spec.Parse(how)
	if err != nil {
		return corruption{}, err
	}
	if err := spec.OneOf("corruption", s.Name, names...); err != nil {
		return corruption{}, err
	}
	c := corruption{name: s.Name}
	for _, known := range corruptions {
		if known.name != s.Name || known.example == "" {
			continue
		}
		if len(s.Args) != 1 {
			return corruption{}, fmt.Errorf("%s needs a number, as in %s", s.Name, known.example)
		}
		c.amount = s.Float(s.Name, 0)
		if err := s.Done(); err != nil {
			return corruption{}, err
		}
		if !(math.Abs(c.amount) <= 1e30) || s.Name == "noise" && c.amount <= 0 {
			return corruption{}, fmt.Errorf("%s:%s is out of range: expected as in %s", s.Name, s.Args[0], known.example)
		}
	}
	return c, s.Done()
}

func (c corruption) String() string {
	if c.name == "scale" || c.name == "noise" {
		return c.name + ":" + printNumber(c.amount)
	}
	return c.name
}

// Spoil changes a gradient in place as How of a fault says:
//
//	sign-flip   -g
//	zero        0
//	scale:100   100 g
//	noise:10    g and, to each value, a draw of mean 0 and standard deviation 10
//	nan         what is no number
//
// The draw is a sum of twelve uniform ones, which has the mean and deviation of the normal distribution, its shape but for
// tails beyond six deviations, and the same bits on every processor. It depends on key alone, which should say seed, rank,
// step and microshard (rng.Key). Blanchard et al. (Machine learning with adversaries, 2017) send noise of deviation 200
// in the gradient's place; added to it, so much of it leaves as little of the gradient.
func Spoil(how string, g []float32, key uint64) error {
	c, err := parseCorruption(how)
	if err != nil {
		return err
	}
	switch c.name {
	case "sign-flip":
		for i, x := range g {
			g[i] = -x
		}
	case "zero":
		clear(g)
	case "scale":
		by := float32(c.amount)
		for i := range g {
			g[i] *= by
		}
	case "noise":
		draw := rng.New(key, "fault/noise")
		for i := range g {
			// The sum of twelve 32-bit numbers is exact, and 2^32 is the width of one.
			var sum int64
			for range 6 {
				u := draw.Uint64()
				sum += int64(u>>32) + int64(u&(1<<32-1))
			}
			z := float64(2*sum-12*(1<<32-1)) / (1 << 33)
			g[i] += float32(z * c.amount)
		}
	case "nan":
		for i := range g {
			g[i] = math.Float32frombits(0x7fc00000)
		}
	}
	return nil
}

// Corruptions returns the numbers of the faults that corrupt the gradient of a rank at a step (from 1), in the order in
// which they do. It allocates only when there are any.
func (s Script) Corruptions(rank, step int) []int {
	var out []int
	for i := range s {
		f := &s[i]
		if f.Kind == Corrupt && step >= f.From.Step && (f.To.Step == 0 || step < f.To.Step) && has(f.Ranks, rank) {
			out = append(out, i)
		}
	}
	return out
}
