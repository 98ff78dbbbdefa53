package ps

import (
	"context"
	"sync"

	"github.com/covey-ml/covey/comm"
)

// turn is a lock whose holder may wait for the group's clock: who asks first has it first. On a virtual clock a sync.Mutex that
// is held meanwhile would stand still for ever.
type turn struct {
	mu    sync.Mutex
	taken bool
	queue []comm.Event
}

// take waits for the turn. own is the caller's event, for nothing else meanwhile.
func (t *turn) take(ctx context.Context, own comm.Event) error {
	t.mu.Lock()
	if !t.taken {
		t.taken = true
		t.mu.Unlock()
		return nil
	}
	t.queue = append(t.queue, own)
	t.mu.Unlock()
	err := own.Wait(ctx)
	if err == nil {
		return nil
	}
	t.mu.Lock()
	for i, e := range t.queue {
		if e == own {
			t.queue = append(t.queue[:i], t.queue[i+1:]...)
			t.mu.Unlock()
			return err
		}
	}
	t.mu.Unlock() // it came at the same moment
	t.give()
	return err
}

// give hands it on.
func (t *turn) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queue) == 0 {
		t.taken = false
		return
	}
	next := t.queue[0]
	t.queue = append(t.queue[:0], t.queue[1:]...)
	next.Set()
}
