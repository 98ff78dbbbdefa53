package train

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/optim"
)

// batches say which samples the microshards of a run's steps hold, counting steps from 0. Workers of one process share them: Shard
// is called for a leaf by one goroutine, its worker's feed; all else may be called at any time.
type batches interface {
	At(step int) (epoch, used int) // epochs done before a step, and samples used of the one under way: 0 in its first step alone
	Steps(epochs int) int          // of so many epochs
	Size(step int) int             // samples of a step
	Count(step, leaf int) int      // of them, those of a microshard
	Share(leaf int) int            // samples of an epoch that are a microshard's
	Shard(step, leaf int) []int
}

// sliced cuts batches of all samples into microshards.
type sliced struct {
	samples *data.Sampler
	shards  int
	pace    Pace // from whose step on it is asked
}

func (s sliced) At(step int) (epoch, used int) { return s.pace.at(step, s.samples.Len()) }

func (s sliced) Steps(epochs int) int { return s.pace.steps(epochs, s.samples.Len()) }

func (s sliced) Size(step int) int {
	_, used := s.At(step)
	return min(s.pace.Batch, s.samples.Len()-used)
}

func (s sliced) Count(step, leaf int) int {
	lo, hi := data.Slice(leaf, s.shards, s.Size(step))
	return hi - lo
}

func (s sliced) Share(leaf int) int {
	lo, hi := data.Slice(leaf, s.shards, s.samples.Len())
	return hi - lo
}

func (s sliced) Shard(step, leaf int) []int {
	epoch, used := s.At(step)
	lo, hi := data.Slice(leaf, s.shards, s.Size(step))
	return s.samples.Range(epoch, used+lo, used+hi)
}

// owned hands out to each microshard what its client owns.
type owned struct {
	clients *data.ClientSampler
	n       int // samples of all
}

func (o owned) At(step int) (epoch, used int) {
	per := o.clients.Steps()
	return step / per, o.n * (step % per) / per // about: each client rounds by itself
}

func (o owned) Steps(epochs int) int     { return epochs * o.clients.Steps() }
func (o owned) Size(step int) int        { return o.clients.Size(step % o.clients.Steps()) }
func (o owned) Count(step, leaf int) int { return o.clients.Count(step%o.clients.Steps(), leaf) }
func (o owned) Share(leaf int) int       { return o.clients.Share(leaf) }
func (o owned) Shard(step, leaf int) []int {
	per := o.clients.Steps()
	return o.clients.Shard(step/per, step%per, leaf)
}

// shared is what the workers of one process have in common: the first that asks for something makes it.
type shared struct {
	mu        sync.Mutex
	batches   batches
	optimizer optim.Optimizer // of a hollow group, where it is never applied
}

// batches makes the run's, or returns those that another worker of this process has made.
func (c *Config) batches() (b batches, err error) {
	s := c.shared
	if s == nil {
		return c.newBatches()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.batches == nil {
		s.batches, err = c.newBatches()
	}
	return s.batches, err
}

func (c *Config) newBatches() (batches, error) {
	if c.Clients != nil {
		s, err := data.NewClientSampler(c.Clients, c.Train.Len(), c.Batch, c.Seed)
		if err != nil {
			return nil, &ConfigError{Key: "partition", Err: err}
		}
		return owned{s, c.Train.Len()}, nil
	}
	s, err := data.NewSampler(c.Train.Len(), c.Batch, c.Seed)
	if err != nil {
		return nil, &ConfigError{Key: "batch", Err: err}
	}
	return sliced{s, c.Microshards, Pace{Batch: c.Batch, Rate: 1}}, nil
}

// clients names the partition of the data, for a checkpoint to be held to: empty when there is none.
func (c *Config) clients() string {
	if c.Clients == nil {
		return ""
	}
	h := sha256.New()
	var b []byte
	for _, ids := range c.Clients {
		b = binary.AppendUvarint(b[:0], uint64(len(ids)))
		for _, id := range ids {
			b = binary.AppendUvarint(b, uint64(id))
		}
		h.Write(b)
	}
	return fmt.Sprintf("%d parts, SHA-256 %.12x", len(c.Clients), h.Sum(nil))
}
