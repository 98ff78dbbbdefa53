package inproc

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/covey-ml/covey/comm"
)

// memory is what a group's boards share: everything that a Go program can reach.
type memory struct {
	cells   []comm.Cell
	scratch [][]byte             // by rank; made by its rank before it shows anything there
	vectors [][comm.Slots][]byte // by rank, what it brings: each is written before the rank's turn and read after it
	tokens  []chan struct{}      // by rank, one token when its bell has rung
}

func newMemory(n int) *memory {
	m := &memory{cells: make([]comm.Cell, n), scratch: make([][]byte, n), vectors: make([][comm.Slots][]byte, n),
		tokens: make([]chan struct{}, n)}
	for r := range m.tokens {
		m.tokens[r] = make(chan struct{}, 1)
	}
	return m
}

// view is one rank's.
type view struct {
	*memory
	rank  comm.Rank
	timer *time.Timer
}

func stoppedTimer() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

func (v *view) Cell(r comm.Rank) *comm.Cell { return &v.cells[r] }

// Scratch implements comm.Memory. Every vector can be reached, so only the stage is asked for.
func (v *view) Scratch(r comm.Rank) []byte {
	if r == v.rank && v.scratch[r] == nil {
		v.scratch[r] = comm.AlignedBytes(comm.StageBytes)
	}
	return v.scratch[r]
}

func (v *view) Publish(slot int, p []byte) bool {
	v.vectors[v.rank][slot] = p
	return true
}

func (v *view) View(r comm.Rank, slot, n int) ([]byte, error) {
	p := v.vectors[r][slot]
	if len(p) < n {
		return nil, fmt.Errorf("its vector has %d bytes, not %d", len(p), n)
	}
	return p[:n], nil
}

func (v *view) Park(ctx context.Context, seen uint32, d time.Duration) {
	if v.cells[v.rank].Bell.Load() != seen {
		return
	}
	v.timer.Reset(d)
	select {
	case <-v.tokens[v.rank]:
	case <-ctx.Done():
	case <-v.timer.C:
	}
	v.timer.Stop()
}

func (v *view) Ring(r comm.Rank) {
	select {
	case v.tokens[r] <- struct{}{}:
	default:
	}
}

func (v *view) Pause()     { runtime.Gosched() }
func (v *view) Hold() bool { return true }
func (v *view) Release()   {}

// patience says how n goroutines wait: giving way is cheap among them, and lets the one run that is waited for.
func patience(n int) comm.BoardConfig {
	c := comm.BoardConfig{Yields: 50, Goroutines: true}
	if n <= runtime.GOMAXPROCS(0) {
		c.Spin = 5 * time.Microsecond
	}
	return c
}

var _ comm.Memory = (*view)(nil)
