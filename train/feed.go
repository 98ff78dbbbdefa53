package train

import (
	"context"
	"fmt"
	"sync"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/rng"
)

// feed hands out a worker's microshards. What it hands out is a function of the seed and the step's number; preparing it
// ahead, on a goroutine of its own, changes when it is made and nothing else.
//
// The first step is gathered as it is asked for, and shows in which order the strategy asks. From the second on, with
// ahead, the microshard after the one in use is being gathered meanwhile.
type feed struct {
	ds      data.Dataset
	sampler batches // Shard is the producer's, once there is one
	seed    uint64
	ctx     context.Context // of the step that microshards are asked for
	step    int
	last    int // the run's last step, not included
	ahead   bool
	clock   comm.Clock
	regular int  // steps before this one ask for any microshards
	loose   bool // steps ask for any microshards, and nothing can be made ahead
	hollow  bool // batches hold no samples but their number
	dim     int  // features a sample

	order []int // leaves in the order in which a step asks for them
	next  int   // of them, in this step
	known bool  // order is whole
	batch [2]data.Batch

	mu     sync.Mutex
	made   int // batches prepared, and handed out or not: the newest is batch[(made-1)%2]
	used   int // batches handed out
	more   comm.Event
	room   comm.Event
	ended  comm.Event
	cancel context.CancelFunc // nil while nothing is prepared ahead
}

// begin says which step is asked for from now on.
func (f *feed) begin(ctx context.Context, step int) {
	f.ctx = ctx
	if f.step == step {
		return // the first
	}
	f.known = f.known || !f.any()
	f.step, f.next = step, 0
	if f.ahead && f.cancel == nil && len(f.order) > 0 {
		f.more, f.room, f.ended = f.clock.Event(), f.clock.Event(), f.clock.Event()
		ctx, f.cancel = context.WithCancel(ctx)
		f.clock.Go(func() {
			f.produce(ctx, step)
			f.ended.Set()
		})
	}
}

// any tells whether any microshards may be asked for, in any order: nothing can be made ahead.
func (f *feed) any() bool { return f.loose || f.step < f.regular }

// stop ends the preparing, when there is any.
func (f *feed) stop() {
	if f.cancel != nil {
		f.cancel()
		f.ended.Wait(context.Background())
	}
}

// take hands out the microshard of a leaf. The batch is valid until the next call.
func (f *feed) take(leaf int) (*data.Batch, error) {
	switch {
	case f.any():
	case !f.known:
		f.order = append(f.order, leaf)
	case f.next == len(f.order) || f.order[f.next] != leaf:
		return nil, fmt.Errorf("train: microshard %d is asked for in step %d out of the first step's order, %v", leaf, f.step+1, f.order)
	}
	f.next++
	if f.cancel == nil {
		f.gather(&f.batch[0], f.step, leaf)
		return &f.batch[0], nil
	}
	for {
		f.mu.Lock()
		made := f.made
		f.mu.Unlock()
		if made > f.used {
			break
		}
		if err := f.more.Wait(f.ctx); err != nil {
			return nil, err
		}
	}
	f.mu.Lock()
	b := &f.batch[f.used%2]
	f.used++
	f.mu.Unlock()
	f.room.Set() // in the batch handed out before
	return b, nil
}

// produce prepares the microshards from a step on.
func (f *feed) produce(ctx context.Context, step int) {
	for n := 0; ; n++ {
		for {
			f.mu.Lock()
			used := f.used
			f.mu.Unlock()
			// Of two batches one is the caller's: it has batch used-1, and n is the other one when n <= used.
			if n <= used {
				break
			}
			if f.room.Wait(ctx) != nil {
				return
			}
		}
		at := step + n/len(f.order)
		if at >= f.last || ctx.Err() != nil {
			return
		}
		f.gather(&f.batch[n%2], at, f.order[n%len(f.order)])
		f.mu.Lock()
		f.made++
		f.mu.Unlock()
		f.more.Set()
	}
}

// gather fills b with one microshard of a step.
func (f *feed) gather(b *data.Batch, step, leaf int) {
	if f.hollow {
		b.N = f.sampler.Count(step, leaf)
		f.clock.Spend(comm.Cost{Bytes: 2 * 4 * int64(b.N) * int64(f.dim)})
		return
	}
	f.ds.Gather(b, f.sampler.Shard(step, leaf))
	f.clock.Spend(comm.Cost{Bytes: 2 * 4 * int64(len(b.X)+len(b.Val)+len(b.Col))})
	b.Seed = rng.Key(f.seed, "batch", uint64(step))
}
