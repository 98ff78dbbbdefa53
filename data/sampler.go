package data

import (
	"fmt"
	"sync"

	"github.com/covey-ml/covey/rng"
)

// Sampler says which samples the global batch of a step holds, from (seed, epoch, step) alone: it does not know how
// many workers there are, and what it hands out does not depend on what it was asked before. An epoch is a random
// order of all samples cut into batches, so each sample is used exactly once an epoch; when the batch does not divide
// the number of samples, the last batch of the epoch is short.
//
// A Sampler keeps the orders of the last two epochs that it was asked for, so that workers of one process can share it, some
// of them an epoch ahead of others. All methods may be called from several goroutines.
type Sampler struct {
	n, batch int
	seed     uint64

	mu     sync.Mutex
	orders [2]order // the newest first
}

// order is all samples in an epoch's order. Nobody changes it.
type order struct {
	epoch int
	perm  []int // nil: there is none
}

// NewSampler returns the sampler of n samples in batches of batch. It fails when batch is not in 1 to n.
func NewSampler(n, batch int, seed uint64) (*Sampler, error) {
	switch {
	case n <= 0:
		return nil, fmt.Errorf("there are no samples to draw batches from")
	case batch <= 0:
		return nil, fmt.Errorf("batch is %d, expected 1 to %d", batch, n)
	case batch > n:
		return nil, fmt.Errorf("batch is %d and there are only %d samples: use a batch of at most %d", batch, n, n)
	}
	return &Sampler{n: n, batch: batch, seed: seed}, nil
}

// Len returns the number of samples.
func (s *Sampler) Len() int { return s.n }

// Steps returns the number of batches in an epoch.
func (s *Sampler) Steps() int { return (s.n + s.batch - 1) / s.batch }

// Size returns how many samples the batch of an epoch's step holds, counting steps from 0.
func (s *Sampler) Size(step int) int { return min(s.batch, s.n-step*s.batch) }

// Batch returns the sample numbers of the global batch of one step, counting epochs and steps from 0. The caller must not
// change them. Asking for an epoch that the Sampler has costs nothing; another one shuffles all sample numbers once.
func (s *Sampler) Batch(epoch, step int) []int {
	if epoch < 0 || step < 0 || step >= s.Steps() {
		panic(fmt.Sprintf("data: batch of epoch %d, step %d: an epoch has steps 0 to %d", epoch, step, s.Steps()-1))
	}
	lo := step * s.batch
	return s.Range(epoch, lo, min(lo+s.batch, s.n))
}

// Range returns the sample numbers from place lo up to hi of an epoch's order, whatever batches others cut it into. It is Batch
// otherwise, for a run whose batches are not all of one size.
func (s *Sampler) Range(epoch, lo, hi int) []int { return s.order(epoch)[lo:hi:hi] }

// order returns all samples in the order of an epoch. What was handed out before may be in use, so a new one has memory of
// its own.
func (s *Sampler) order(epoch int) []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.orders {
		if o.perm != nil && o.epoch == epoch {
			return o.perm
		}
	}
	perm := make([]int, s.n)
	for i := range perm {
		perm[i] = i
	}
	shuffle(perm, s.seed, "data/epoch", uint64(epoch))
	s.orders[1] = s.orders[0]
	s.orders[0] = order{epoch, perm}
	return perm
}

// shuffle puts p in the order that (seed, purpose, keys) say: Fisher and Yates, from the end.
func shuffle(p []int, seed uint64, purpose string, keys ...uint64) {
	r := rng.New(seed, purpose, keys...)
	for i := len(p) - 1; i > 0; i-- {
		j := int(r.Uint64N(uint64(i + 1)))
		p[i], p[j] = p[j], p[i]
	}
}

// Slice returns the bounds of microshard i of m in a batch of n samples: lo = i*n/m, hi = (i+1)*n/m, whole numbers
// rounded down. The slices cover the batch in order, without overlap, and their lengths differ by at most one. A batch
// of fewer than m samples (the short last one of an epoch, say) leaves some microshards empty, lo == hi; an empty
// microshard's gradient sum is zero.
func Slice(i, m, n int) (lo, hi int) {
	return i * n / m, (i + 1) * n / m
}
