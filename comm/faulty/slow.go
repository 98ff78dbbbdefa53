package faulty

import (
	"bytes"
	"context"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/covey-ml/covey/comm"
)

// slowClock is the clock of a worker that is slow at times.
type slowClock struct {
	comm.Clock
	g *group
}

// Spend sleeps for as much longer as the computation takes that has just been made: since this goroutine last came back
// from the group or its clock.
func (c slowClock) Spend(cost comm.Cost) {
	g := c.g
	c.Clock.Spend(cost)
	took, known := g.seen.since(g)
	g.mu.Lock()
	factor := g.state.Slow(int(g.Rank()))
	g.mu.Unlock()
	if known && factor > 1 {
		c.Clock.Sleep(g.ctx, time.Duration(float64(took)*(factor-1))) // one that ends early is the group's end
	}
	g.seen.mark(g)
}

// Sleep implements comm.Clock.
func (c slowClock) Sleep(ctx context.Context, d time.Duration) error {
	defer c.g.seen.mark(c.g)
	return c.Clock.Sleep(ctx, d)
}

// Go implements comm.Clock.
func (c slowClock) Go(f func()) {
	c.Clock.Go(func() {
		c.g.seen.mark(c.g)
		defer c.g.seen.forget()
		f()
	})
}

// Event implements comm.Clock.
func (c slowClock) Event() comm.Event { return markedEvent{c.Clock.Event(), c.g} }

type markedEvent struct {
	comm.Event
	g *group
}

func (e markedEvent) Wait(ctx context.Context) error {
	defer e.g.seen.mark(e.g)
	return e.Event.Wait(ctx)
}

type markedReceipt struct {
	comm.Receipt
	g *group
}

func (r markedReceipt) Wait(ctx context.Context) (comm.Rank, int, error) {
	defer r.g.seen.mark(r.g)
	return r.Receipt.Wait(ctx)
}

// marks are when each of a worker's goroutines last came back from the group or its clock. A worker has few, and which
// one it is that has computed nobody else knows: one that talks meanwhile must not make the computation look short.
type marks struct {
	mu sync.Mutex
	at map[uint64]time.Duration // nil: nobody asks
}

func (m *marks) mark(g *group) {
	if m.at == nil {
		return
	}
	id := goroutine()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.at[id] = g.now()
}

// since is how long ago this goroutine was marked.
func (m *marks) since(g *group) (time.Duration, bool) {
	id := goroutine()
	m.mu.Lock()
	defer m.mu.Unlock()
	at, ok := m.at[id]
	return g.now() - at, ok
}

func (m *marks) forget() {
	id := goroutine()
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.at, id)
}

// goroutine is the number of the goroutine that calls it, as a stack trace begins with: "goroutine 7 [running]:".
func goroutine() uint64 {
	var trace [64]byte
	words := bytes.Fields(trace[:runtime.Stack(trace[:], false)])
	if len(words) < 2 {
		return 0
	}
	id, _ := strconv.ParseUint(string(words[1]), 10, 64) // 0, of nobody, were it to look otherwise
	return id
}
