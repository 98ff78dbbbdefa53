// Package adapt chooses how workers talk while they train, from what steps are measured to take: a bandit over a stated set
// of arms. Which one is best depends on the network, which may change; what it decides depends on time, so a run with it is
// not reproducible to the bit.
package adapt

import (
	"fmt"
	"math"

	"github.com/covey-ml/covey/vec"
)

// Bandit chooses the arm whose steps cost least, in seconds times the arm's price: discounted UCB (Garivier and Moulines,
// arXiv 0805.3415, section 2.2), turned round for costs. What was measured counts less with every choice since, by forget,
// so that an arm that was slow is tried again after a while. All of it is a function of what it is told: workers that
// are told the same choose the same, on all processors: every product is rounded before it is added to.
type Bandit struct {
	price []float64
	n     []float64 // discounted choices of each arm
	sum   []float64 // discounted seconds of a step
	arm   int
}

const (
	forget = 0.95
	wide   = 0.1 // of the confidence interval, relative to the cheapest arm
)

// NewBandit returns a bandit over arms with these prices, which are above 0. It begins with the first.
func NewBandit(price []float64) *Bandit {
	return &Bandit{price: price, n: make([]float64, len(price)), sum: make([]float64, len(price))}
}

// Arm is the arm to use.
func (b *Bandit) Arm() int { return b.arm }

// Observe is told how long a step of the arm in use takes, and chooses the arm for the steps to come. reason says why, in
// terms of names.
func (b *Bandit) Observe(seconds float64, names []string) (arm int, reason string) {
	for i := range b.n {
		b.n[i] = float64(b.n[i] * forget)
		b.sum[i] = float64(b.sum[i] * forget)
	}
	was := b.arm
	b.n[was]++
	b.sum[was] += seconds
	took := fmt.Sprintf("%s takes %s a step", names[was], milliseconds(seconds))
	for i, n := range b.n {
		if n == 0 {
			b.arm = i
			return i, fmt.Sprintf("%s; %s is not measured yet", took, names[i])
		}
	}
	best, cheapest, all := 0, math.Inf(1), 0.0
	for i, n := range b.n {
		if c := b.cost(i); c < cheapest {
			best, cheapest = i, c
		}
		all += n
	}
	low := math.Inf(1)
	for i, n := range b.n {
		margin := float64(wide * cheapest * math.Sqrt(vec.Log64(1+all)/n))
		if c := b.cost(i) - margin; c < low {
			low, b.arm = c, i
		}
	}
	switch {
	case b.arm != best:
		return b.arm, fmt.Sprintf("%s; %s was last measured long ago and may cost less by now", took, names[b.arm])
	case b.arm == was:
		return b.arm, fmt.Sprintf("%s, still the least at its price of %g", took, b.price[was])
	}
	return b.arm, fmt.Sprintf("%s; %s costs least: %s at a price of %g", took, names[best], milliseconds(b.sum[best]/b.n[best]), b.price[best])
}

// cost is the price of a step.
func (b *Bandit) cost(i int) float64 { return b.price[i] * b.sum[i] / b.n[i] }

func milliseconds(s float64) string { return fmt.Sprintf("%.3g ms", 1000*s) }
