package data

import (
	"fmt"
	"sync/atomic"
)

// ClientSampler says which samples of its own each client uses in a step, from (seed, client, epoch, step) alone. An epoch
// of a client is a random order of its samples, of which step t of S uses those from t*n/S to (t+1)*n/S, n being how many
// it has: each sample is used exactly once an epoch, and a client's part of a batch is in proportion to its data. A client
// of fewer samples than there are steps has none in some of them.
//
// A ClientSampler keeps, of each client, the order of the epoch that it was asked for last: Shard may be called from several
// goroutines for different clients, and the other methods for any.
type ClientSampler struct {
	parts [][]int // by client, the samples that it owns
	n     int
	steps int
	seed  uint64
	epoch []int // by client, whose order its perm holds, -1 at first
	perm  [][]int
	sizes []atomic.Int64 // by step, what Size says; 0: not known yet
}

// NewClientSampler returns the sampler of clients that own parts of n samples, as Partition makes them, in steps of about
// batch samples over all. It fails when a part is empty, names a sample twice or one that is not there, or when the parts
// leave one out.
func NewClientSampler(parts [][]int, n, batch int, seed uint64) (*ClientSampler, error) {
	if batch < 1 || batch > n {
		return nil, fmt.Errorf("batch is %d, expected 1 to %d", batch, n)
	}
	owned := make([]bool, n)
	sum := 0
	for c, p := range parts {
		if len(p) == 0 {
			return nil, fmt.Errorf("client %d owns no sample", c)
		}
		for _, id := range p {
			if id < 0 || id >= n || owned[id] {
				return nil, fmt.Errorf("client %d owns sample %d, which is another's too or none of the %d", c, id, n)
			}
			owned[id] = true
		}
		sum += len(p)
	}
	if sum != n {
		return nil, fmt.Errorf("the clients own %d of %d samples", sum, n)
	}
	s := &ClientSampler{parts: parts, n: n, steps: (n + batch - 1) / batch, seed: seed, perm: make([][]int, len(parts))}
	s.sizes = make([]atomic.Int64, s.steps)
	for range parts {
		s.epoch = append(s.epoch, -1)
	}
	return s, nil
}

// Steps returns the number of steps in an epoch: as many as batches hold all samples.
func (s *ClientSampler) Steps() int { return s.steps }

// Size returns how many samples all clients together use in an epoch's step, counting steps from 0.
func (s *ClientSampler) Size(step int) int {
	if n := s.sizes[step].Load(); n > 0 {
		return int(n)
	}
	n := 0
	for c := range s.parts {
		n += s.Count(step, c)
	}
	s.sizes[step].Store(int64(n))
	return n
}

// Count returns how many samples a client uses in an epoch's step.
func (s *ClientSampler) Count(step, client int) int {
	lo, hi := Slice(step, s.steps, len(s.parts[client]))
	return hi - lo
}

// Share returns how many samples a client owns.
func (s *ClientSampler) Share(client int) int { return len(s.parts[client]) }

// Shard returns the numbers of a client's samples of a step. The slice belongs to the ClientSampler and is valid until
// Shard is called for the same client in another epoch; the caller must not change it.
func (s *ClientSampler) Shard(epoch, step, client int) []int {
	if epoch < 0 || step < 0 || step >= s.steps {
		panic(fmt.Sprintf("data: samples of epoch %d, step %d: an epoch has steps 0 to %d", epoch, step, s.steps-1))
	}
	if s.epoch[client] != epoch {
		s.perm[client] = append(s.perm[client][:0], s.parts[client]...)
		shuffle(s.perm[client], s.seed, "data/client", uint64(client), uint64(epoch))
		s.epoch[client] = epoch
	}
	lo, hi := Slice(step, s.steps, len(s.parts[client]))
	return s.perm[client][lo:hi:hi]
}
