// Package bench measures what this machine makes of Covey: collectives over a group, matrix products, compressors,
// training steps.
//
// Every measurement first checks that the work is done right, against values that a formula gives, and only then times
// it. Collective and Steps are called by every rank of a group, with equal arguments, and return the same rows on each;
// Product and MeasureCodec need no group. Local is a group of goroutines to call them on; covey bench makes one of processes.
//
// # How time is taken
//
// A measurement is a number of blocks. A block is as many calls, one right after the other, as fill its share of the
// time; all ranks enter it through a barrier, and it lasts until the last rank is done. A row holds the median, the
// fastest and the slowest block, divided by the calls of a block. The time is the group's Clock's.
package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"slices"
	"time"

	"github.com/covey-ml/covey/comm"
)

// Effort is how much is measured. Its zero value takes the defaults.
type Effort struct {
	Time   time.Duration // of all blocks of one row together, about; 0: half a second
	Blocks int           // of a row; 0: 11
	Calls  int           // in a block; 0: as many as fill the time
	Here   int           // ranks of the group that are goroutines of this process; 0: 1
}

const (
	defaultTime   = 500 * time.Millisecond
	defaultBlocks = 11
	mostCalls     = 1 << 24
)

func (e Effort) fill() Effort {
	if e.Time <= 0 {
		e.Time = defaultTime
	}
	if e.Blocks <= 0 {
		e.Blocks = defaultBlocks
	}
	return e
}

// Timing is what one row took. Times are microseconds a call.
type Timing struct {
	Us     float64 `json:"us"` // of the median block
	Min    float64 `json:"us_min"`
	Max    float64 `json:"us_max"`
	Calls  int     `json:"calls"` // in a block
	Blocks int     `json:"blocks"`
	Allocs float64 `json:"allocs"` // objects a call, of one worker
}

// timing puts the blocks together. mallocs is the objects that all blocks of one worker allocated.
func timing(blocks []time.Duration, calls int, mallocs float64) Timing {
	slices.Sort(blocks)
	us := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 / float64(calls) }
	n := len(blocks)
	return Timing{Us: (us(blocks[(n-1)/2]) + us(blocks[n/2])) / 2, Min: us(blocks[0]), Max: us(blocks[n-1]), Calls: calls, Blocks: n,
		Allocs: math.Round(1000*mallocs/float64(n*calls)) / 1000}
}

// times repeats f in blocks, on every rank of g: see the package comment. f is called n times in a row by run(n).
func times(ctx context.Context, g comm.Group, e Effort, run func(n int) error) (Timing, error) {
	e = e.fill()
	clock := g.Clock()
	block := func(n int) (time.Duration, error) {
		if err := comm.Barrier(ctx, g); err != nil {
			return 0, err
		}
		t := clock.Now()
		err := run(n)
		return clock.Now() - t, err
	}
	calls := max(1, e.Calls)
	for next := calls; next > 0; { // the first blocks warm up, too
		calls = next
		d, err := block(calls)
		if err != nil {
			return Timing{}, err
		}
		if next, err = decide(ctx, g, e.next(calls, d)); err != nil {
			return Timing{}, err
		}
	}
	blocks := make([]time.Duration, e.Blocks)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range blocks {
		d, err := block(calls)
		if err != nil {
			return Timing{}, err
		}
		blocks[i] = d
	}
	runtime.ReadMemStats(&after)
	if err := slowest(ctx, g, blocks); err != nil {
		return Timing{}, err
	}
	return timing(blocks, calls, float64(after.Mallocs-before.Mallocs)/float64(max(1, e.Here))), nil
}

// next is how many calls to try after a block of so many took d, or 0 when those were enough.
func (e Effort) next(calls int, d time.Duration) int {
	share := e.Time / time.Duration(e.Blocks)
	if e.Calls > 0 || d >= share || calls >= mostCalls {
		return 0
	}
	more := float64(share) / float64(d+1)
	return min(mostCalls, max(calls+1, int(float64(calls)*min(16, more))))
}

// decide makes rank 0's number everybody's.
func decide(ctx context.Context, g comm.Group, n int) (int, error) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(n))
	err := comm.Broadcast(ctx, g, 0, b[:])
	return int(binary.LittleEndian.Uint64(b[:])), err
}

// slowest replaces each block's time by the longest that any rank took for it.
func slowest(ctx context.Context, g comm.Group, blocks []time.Duration) error {
	mine := make([]byte, 8*len(blocks))
	for i, d := range blocks {
		binary.LittleEndian.PutUint64(mine[8*i:], uint64(d))
	}
	all, err := comm.AllGatherBytes(ctx, g, mine, nil)
	if err != nil {
		return err
	}
	for _, theirs := range all {
		for i := range blocks {
			blocks[i] = max(blocks[i], time.Duration(binary.LittleEndian.Uint64(theirs[8*i:])))
		}
	}
	return nil
}

// agree returns an error on every rank when one has found its result wrong.
func agree(ctx context.Context, g comm.Group, wrong error) error {
	text := ""
	if wrong != nil {
		text = wrong.Error()
	}
	all, err := comm.AllGatherBytes(ctx, g, []byte(text), nil)
	if err != nil {
		return err
	}
	for r, b := range all {
		if len(b) > 0 {
			return fmt.Errorf("worker %d got a wrong result, so nothing was timed: %s", r, b)
		}
	}
	return nil
}
