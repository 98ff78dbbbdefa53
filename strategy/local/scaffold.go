package local

import (
	"context"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/reduce"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/vec"
)

// SCAFFOLD (Karimireddy et al., arXiv 1910.06378, algorithm 1) with every client in every round. A client keeps a control
// variate c_i, a guess at the gradient of its own data, and all keep c, their mean. A local step is
//
//	y -= rate (g(y) - c_i + c)
//
// and at the end of a round, x being the common parameters at its start,
//
//	option 1   c_i+ = the mean gradient at x of the samples that the client used in the round: of exactly the batches of
//	           its steps, each of which is computed a second time, at x. It doubles the gradients
//	option 2   c_i+ = c_i - c + (x - y)/R, R being the sum of the rates of the client's steps in the round
//	           (the paper's K times eta, when the rate changes)
//	c += sum p_i (c_i+ - c_i)    x += rate sum p_i (y_i - x)
//
// All start at 0. The paper's p_i are equal; ours are the clients' parts of the training set, for x and c alike and the
// same in every round, so that c stays the mean of the c_i by p_i (section 4, which equal p_i of unequal clients would also
// keep, but for another objective). A client without samples in a round keeps its c_i.
//
// The c_i travel as a second vector, by a reducer of its own. The paper sends them together, which is the same bytes.
type scaffold struct {
	c  []float32
	cs []float32 // c_i of this worker's replicas, one after the other
	// Of the round under way, by replica:
	rates     []float64 // sum of the rates
	gradients []float32 // option 1: sum of the samples' gradients at x; nil otherwise
}

func newScaffold(w *strategy.Worker, n, mine, option int) *scaffold {
	s := &scaffold{c: comm.Vector(w.Group, n), cs: comm.Vector(w.Group, mine*n), rates: make([]float64, mine)}
	if option == 1 {
		s.gradients = comm.Vector(w.Group, mine*n)
	}
	return s
}

// begin starts a round.
func (s *scaffold) begin() {
	clear(s.rates)
	clear(s.gradients)
}

// of is replica i's part of a vector of all.
func (s *scaffold) of(all []float32, i int) []float32 { return all[i*len(s.c) : (i+1)*len(s.c)] }

// correct turns the mean gradient g of replica i into its local step's, at a rate.
func (s *scaffold) correct(g []float32, i int, rate float32) {
	own := s.of(s.cs, i)
	for k := range g {
		g[k] += s.c[k] - own[k]
	}
	s.rates[i] += float64(rate)
}

// add joins a sum of gradients at the round's start to replica i's.
func (s *scaffold) add(g []float32, i int) { vec.Add(s.of(s.gradients, i), g) }

// exchangeVariates renews the control variates at the end of a round.
func (s *Strategy) exchangeVariates(ctx context.Context) (time.Duration, error) {
	red, err := s.w.Another("variates")
	if err != nil {
		return 0, err
	}
	v, f := s.scaffold, s.fragments[0]
	weight := 0.0
	parts := s.fold(len(v.c), func(r *replica, delta []float32) {
		i := r.leaf - s.firstLeaf
		p := float64(s.w.Share(r.leaf))
		weight += p
		s.w.Pass(len(delta), 4, func() { s.renew(r, delta) })
		s.w.Add(v.of(v.cs, i), delta)
		s.w.Pass(len(delta), 2, func() { vec.Scale(float32(p), delta) })
	})
	clock := s.w.Group.Clock()
	t := clock.Now()
	total := float64(s.w.Total)
	err = red.Sum(ctx, reduce.Vector{Name: f.name, Parts: parts, Weight: weight, Total: total, Step: f.turn})
	if err == nil {
		s.w.Pass(len(v.c), 3, func() { vec.Axpy(float32(1/total), parts[0], v.c) })
	}
	return clock.Now() - t, err
}

// renew sets delta to what a replica's control variate is to change by.
func (s *Strategy) renew(r *replica, delta []float32) {
	v, x, i := s.scaffold, s.w.X, r.leaf-s.firstLeaf
	n := s.fragments[0].counts[r.leaf]
	switch {
	case n == 0 || v.rates[i] == 0:
		clear(delta)
	case v.gradients != nil:
		copy(delta, v.of(v.gradients, i))
		vec.Scale(1/float32(n), delta)
		if s.pen != nil {
			s.pen.AddPenaltyGrad(x, delta, 0)
		}
		for k, own := range v.of(v.cs, i) {
			delta[k] -= own
		}
	default:
		inv := float32(1 / v.rates[i])
		for k := range delta {
			delta[k] = float32(inv*(x[k]-r.x[k])) - v.c[k]
		}
	}
}
