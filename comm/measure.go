package comm

import (
	"context"
	"encoding/binary"
	"math"
	"slices"
	"time"

	"github.com/covey-ml/covey/vec"
)

// How MeasureCosts measures: so many times each, of which the slowest of the fastest quarter counts, for what other
// programs of the machine add is not the transport's.
const (
	probeTurns = 128      // exchanges of almost nothing
	probeBurst = 32       // messages in a burst
	probeBytes = 1 << 20  // a large message
	probeLarge = 8        // large exchanges
	probeFloat = 64 << 10 // elements of the vectors that are added, which fit in any second cache
)

// MeasureCosts measures what messages cost between ranks 0 and 1 of g while the others wait, and what additions cost on
// rank 0, and returns the same Costs on every rank. Every rank must call it, as a collective, whose errors it has. It
// takes some milliseconds and moves about 20 MB each way. A group of one measures additions only. Cache and Far, which
// a pair of ranks cannot tell, are CostsOf's.
func MeasureCosts(ctx context.Context, g Group) (Costs, error) {
	costs := CostsOf(g)
	c, err := enter(ctx, g, OpAllToAll, nil)
	if err != nil {
		return Costs{}, err
	}
	var numbers [4]float64
	if c.rank < 2 && c.size > 1 {
		Announce(g, c.op, Bill{{probeTurns + probeBurst*probeTurns/8, 4}, {probeLarge, probeBytes}})
		err = c.probe(&numbers)
	}
	if err := c.leave(err); err != nil {
		return Costs{}, err
	}
	if g.Rank() == 0 {
		numbers[3] = probeAdd(g.Clock())
	}
	p := make([]byte, 8*len(numbers))
	for i, x := range numbers {
		binary.LittleEndian.PutUint64(p[8*i:], math.Float64bits(x))
	}
	if err := Broadcast(ctx, g, 0, p); err != nil {
		return Costs{}, err
	}
	for i := range numbers {
		numbers[i] = math.Float64frombits(binary.LittleEndian.Uint64(p[8*i:]))
	}
	return costs.Measured(numbers[0], numbers[1], numbers[2], numbers[3]), nil
}

// probe exchanges messages with the other of ranks 0 and 1 and finds Alpha, Message and Beta.
func (c *call) probe(numbers *[4]float64) error {
	clock, peer := c.g.Clock(), 1-c.rank
	out, in := make([]byte, probeBytes), make([]byte, probeBytes)
	exchange := func(messages, size int) (time.Duration, error) {
		start, first := clock.Now(), len(c.waits)
		for i := range messages {
			c.post(peer, uint32(i), in[i*size:(i+1)*size])
		}
		for i := range messages {
			if err := c.send(peer, uint32(i), out[i*size:(i+1)*size]); err != nil {
				return 0, err
			}
		}
		err := c.all(first)
		c.waits = c.waits[:first]
		return clock.Now() - start, err
	}
	quartile := func(turns, messages, size int) (float64, error) {
		took := make([]time.Duration, turns)
		for i := range took {
			var err error
			if took[i], err = exchange(messages, size); err != nil {
				return 0, err
			}
		}
		slices.Sort(took)
		return took[turns/4].Seconds(), nil
	}
	one, err := quartile(probeTurns, 1, 4)
	if err != nil {
		return err
	}
	burst, err := quartile(probeTurns/8, probeBurst, 4)
	if err != nil {
		return err
	}
	large, err := quartile(probeLarge, 1, probeBytes)
	if err != nil {
		return err
	}
	numbers[0] = one
	numbers[1] = max(0, burst-one) / (2 * (probeBurst - 1))
	numbers[2] = max(0, large-one) / probeBytes
	return nil
}

// probeAdd finds Gamma.
func probeAdd(clock Clock) float64 {
	x, y := make([]float32, probeFloat), make([]float32, probeFloat)
	took := make([]time.Duration, 2*probeLarge)
	for i := range took {
		start := clock.Now()
		vec.Add(x, y)
		took[i] = clock.Now() - start
	}
	slices.Sort(took)
	return took[len(took)/4].Seconds() / (word * probeFloat)
}
