package bench

import (
	"context"
	"fmt"
	"slices"

	"github.com/covey-ml/covey/comm"
)

// Collectives are the names that Collective.Op may have.
var Collectives = []string{"allreduce", "broadcast", "alltoall"}

// Collective is what to measure of the collectives: one row a size.
type Collective struct {
	Op        string         // one of Collectives
	Sizes     []int          // bytes of the vector: see Row.Bytes; all-reduce takes multiples of 4
	Algorithm comm.Algorithm // of an all-reduce
	Effort    Effort

	vector []float32 // as long as the longest
}

// Row is one size of one collective.
type Row struct {
	Op string `json:"op"`
	// Bytes is the vector's that is summed or copied, or what one rank sends to all of them together, itself included.
	Bytes     int    `json:"bytes"`
	Workers   int    `json:"workers"`
	Transport string `json:"transport,omitempty"` // the caller knows
	Algorithm string `json:"algorithm,omitempty"` // of an all-reduce: the one that was used
	Timing
	// AlgBW is Bytes by time in units of 1e9 bytes a second. BusBW is what a rank must at least send and receive, in the
	// same unit: 2(P-1)/P of it for an all-reduce, (P-1)/P for an all-to-all, all for a broadcast.
	AlgBW float64 `json:"algbw_gbps"`
	BusBW float64 `json:"busbw_gbps"`
}

// Run measures on g. tell, which may be nil, hears of each row as soon as it is there.
func (c Collective) Run(ctx context.Context, g comm.Group, tell func(Row)) ([]Row, error) {
	var rows []Row
	if c.Op == "allreduce" && len(c.Sizes) > 0 {
		c.vector = comm.Alloc(g, slices.Max(c.Sizes)/4) // once: such memory is not given back
	}
	for _, n := range c.Sizes {
		row := Row{Op: c.Op, Bytes: n, Workers: g.Size()}
		call, check, err := c.prepare(ctx, g, n, &row)
		if err != nil {
			return nil, err
		}
		if err := agree(ctx, g, check()); err != nil {
			return nil, fmt.Errorf("%s of %d bytes: %w", c.Op, n, err)
		}
		row.Timing, err = times(ctx, g, c.Effort, func(n int) error {
			for range n {
				if err := call(); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if err := agree(ctx, g, check()); err != nil {
			return nil, fmt.Errorf("%s of %d bytes, after all calls: %w", c.Op, n, err)
		}
		row.AlgBW = float64(n) / row.Us / 1e3
		row.BusBW = row.AlgBW * busShare(c.Op, float64(g.Size()))
		rows = append(rows, row)
		if tell != nil {
			tell(row)
		}
	}
	return rows, nil
}

func busShare(op string, p float64) float64 {
	switch op {
	case "allreduce":
		return 2 * (p - 1) / p
	case "alltoall":
		return (p - 1) / p
	}
	return 1
}

// prepare makes the buffers of one size. call is what is timed; check calls it on known values and says what is wrong.
func (c Collective) prepare(ctx context.Context, g comm.Group, n int, row *Row) (call, check func() error, err error) {
	switch c.Op {
	case "allreduce":
		return c.allReduce(ctx, g, n, row)
	case "broadcast":
		return broadcast(ctx, g, n)
	case "alltoall":
		return allToAll(ctx, g, n)
	}
	return nil, nil, fmt.Errorf("bench: no collective %q: want one of %v", c.Op, Collectives)
}

func (c Collective) allReduce(ctx context.Context, g comm.Group, n int, row *Row) (call, check func() error, err error) {
	if n%4 != 0 {
		return nil, nil, fmt.Errorf("bench: an all-reduce of %d bytes: float32s are 4 bytes each, so take %d", n, n&^3)
	}
	ranks := g.Size()
	tree := comm.NewTree(ranks, ranks)
	a := c.Algorithm
	if a == comm.Auto {
		a = comm.ChooseOn(g, tree, n)
	}
	row.Algorithm = a.String()
	x := c.vector[:n/4]
	parts := [][]float32{x}
	call = func() error { return comm.AllReduceBy(ctx, g, tree, parts, c.Algorithm) }
	check = func() error {
		for i := range x {
			x[i] = float32((int(g.Rank()) + 1) * (i%period + 1))
		}
		if err := call(); err != nil {
			return err
		}
		for i, v := range x {
			if want := float32(ranks * (ranks + 1) / 2 * (i%period + 1)); v != want {
				return fmt.Errorf("element %d is %v, want %v", i, v, want)
			}
		}
		clear(x) // sums of zeros stay what they are, however often they are added up
		return nil
	}
	return call, check, nil
}

// broadcast sends from another rank each time: with one root alone, that would run ahead of the others, and how long a
// copy takes to arrive would not be seen.
func broadcast(ctx context.Context, g comm.Group, n int) (call, check func() error, err error) {
	p := make([]byte, n)
	root := 0
	call = func() error {
		err := comm.Broadcast(ctx, g, comm.Rank(root), p)
		root = (root + 1) % g.Size()
		return err
	}
	return call, func() error {
		from := root
		for i := range p {
			p[i] = 0
			if int(g.Rank()) == from {
				p[i] = pattern(from, 0, i)
			}
		}
		if err := call(); err != nil {
			return err
		}
		return checkBytes(p, from, 0)
	}, nil
}

// period is a prime, so that no chunk begins where another does, and small enough for whole sums: period times
// MaxWorkers (MaxWorkers+1)/2 is below 2^24.
const period = 509

func allToAll(ctx context.Context, g comm.Group, n int) (call, check func() error, err error) {
	ranks, me := g.Size(), int(g.Rank())
	send, recv := make([][]byte, ranks), make([][]byte, ranks)
	for r := range ranks {
		send[r], recv[r] = make([]byte, share(n, ranks, r)), make([]byte, share(n, ranks, me))
	}
	call = func() error { return comm.AllToAll(ctx, g, send, recv) }
	return call, func() error {
		for r := range ranks {
			for i := range send[r] {
				send[r][i] = pattern(me, r, i)
			}
			clear(recv[r])
		}
		if err := call(); err != nil {
			return err
		}
		for r := range ranks {
			if err := checkBytes(recv[r], r, me); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// share is how many of n bytes go to one of the ranks.
func share(n, ranks, r int) int { return (r+1)*n/ranks - r*n/ranks }

// pattern is byte i of what rank from sends to rank to.
func pattern(from, to, i int) byte { return byte(i%period + 31*from + 57*to + 1) }

func checkBytes(p []byte, from, to int) error {
	for i, v := range p {
		if want := pattern(from, to, i); v != want {
			return fmt.Errorf("byte %d from worker %d is %d, want %d", i, from, v, want)
		}
	}
	return nil
}
