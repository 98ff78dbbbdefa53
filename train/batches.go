package train

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/optim"
)

// batches say which samples a step's microshards hold. Workers of one process share them: Shard is called for a leaf by one
// goroutine, its worker's feed; all else may be called at any time.
type batches interface {
	Steps() int               // of an epoch
	Size(step int) int        // samples of an epoch's step
	Count(step, leaf int) int // of them, those of a microshard
	Share(leaf int) int       // samples of an epoch that are a microshard's
	Shard(epoch, step, leaf int) []int
}

var _ batches = (*data.ClientSampler)(nil)

// sliced cuts batches of all samples into microshards.
type sliced struct {
	*data.Sampler
	shards int
}

func (s sliced) Count(step, leaf int) int {
	lo, hi := data.Slice(leaf, s.shards, s.Size(step))
	return hi - lo
}

func (s sliced) Share(leaf int) int {
	lo, hi := data.Slice(leaf, s.shards, s.Len())
	return hi - lo
}

func (s sliced) Shard(epoch, step, leaf int) []int {
	ids := s.Batch(epoch, step)
	lo, hi := data.Slice(leaf, s.shards, len(ids))
	return ids[lo:hi]
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
		return s, nil
	}
	s, err := data.NewSampler(c.Train.Len(), c.Batch, c.Seed)
	if err != nil {
		return nil, &ConfigError{Key: "batch", Err: err}
	}
	return sliced{s, c.Microshards}, nil
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
