package local

import (
	"fmt"
	"math"

	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/vec"
)

// byLoss is the period after a round of mean loss now, when the first round's was first: AdaComm's rule (Wang and Joshi,
// arXiv 1810.08313, section 4),
//
//	K = ceil(sqrt(now/first) k0), from 1 to k0:
//
// far from the optimum replicas may go far by themselves, near it their disagreement is what keeps the loss from falling.
// The paper's intervals are of time, and it shrinks K by a half when the loss does not; ours are rounds, and K follows the
// loss alone. A loss that is not positive leaves K at 1.
func byLoss(k0 int, first, now float64) (k int, why string) {
	if !(first > 0 && now > 0) {
		return 1, fmt.Sprintf("the round's loss is %.4g, the first round's was %.4g", now, first)
	}
	root := math.Sqrt(now/first) * float64(k0)
	k = int(-math.Floor(-min(root, float64(k0))))
	return max(1, k), fmt.Sprintf("the round's loss is %.3g of the first round's, and the root of that times %d is %.3g", now/first, k0, root)
}

// byDivergence is the period after a round of k steps at whose end the replicas' mean squared distance from their mean is
// spread, and the mean's squared distance from the round's start is moved. The rule is ours: K is halved when spread is
// above moved, for then replicas undo more of each other's work than they share, and doubled when it is below a quarter of
// moved. It stays from 1 to 8 k0.
func byDivergence(k0, k int, spread, moved float64) (next int, why string) {
	if !(moved > 0) {
		return k, "the replicas' mean did not move"
	}
	ratio := spread / moved
	switch {
	case ratio > 1:
		return max(1, k/2), fmt.Sprintf("the replicas' squared distance from their mean is %.3g times what the mean moved: above 1", ratio)
	case ratio < 0.25:
		return min(2*k, 8*k0), fmt.Sprintf("the replicas' squared distance from their mean is %.3g times what the mean moved: below 1/4", ratio)
	}
	return k, fmt.Sprintf("the replicas' squared distance from their mean is %.3g times what the mean moved: from 1/4 to 1", ratio)
}

// decide sets the period of the rounds to come from what an exchange brought.
func (s *Strategy) decide(fl *flight, sum []float32) *strategy.Decision {
	was, why := s.k, ""
	switch s.cfg.Period {
	case ByLoss:
		now := float64(sum[strategy.HeadLoss]) / float64(fl.samples)
		if s.first[0] == 0 {
			s.first[0] = now
		}
		s.k, why = byLoss(s.cfg.K, s.first[0], now)
	case ByDivergence:
		moved := vec.SumSquares(sum[head:]) / fl.total / fl.total
		s.k, why = byDivergence(s.cfg.K, s.k, max(0, float64(sum[headSpread])/fl.total-moved), moved)
	}
	return &strategy.Decision{What: fmt.Sprintf("K=%d", s.k), Why: why, New: s.k != was}
}
