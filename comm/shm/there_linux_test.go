package shm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/vec"
)

// Messages that lie in the sender's arena, in several parts, arrive as others do, both ways at once.
func TestExchangeFromArenas(t *testing.T) {
	groups := attachAll(t, 2, Options{}, 20*time.Second)
	const tag = 3
	errs := make(chan error)
	for _, g := range groups {
		go func() {
			errs <- func() error {
				to := 1 - g.Rank()
				for round, n := range []int{1000, comm.EagerBytes + 4, partBytes, 3*partBytes + 20} {
					p, got, want := vec.Bytes(comm.Alloc(g, n/4)), make([]byte, n), make([]byte, n)
					if _, ok := g.(*group).e.shared.offset(p); !ok {
						return errors.New("the vector is not in the arena")
					}
					pattern(p, g.Rank(), round)
					pattern(want, to, round)
					r := comm.Post(g, to, tag, got)
					if err := g.Send(t.Context(), to, tag, p); err != nil {
						return err
					}
					clear(p) // it is the sender's again
					if _, k, err := r.Wait(t.Context()); err != nil || k != n || !bytes.Equal(got, want) {
						return fmt.Errorf("%d bytes: %d came, as they were: %v; %v", n, k, bytes.Equal(got, want), err)
					}
				}
				return nil
			}()
		}()
	}
	for range groups {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// A Send from an arena that is given up while the reader copies, or whose link is cut then, fails for both: the reader may not take what it
// has found there for the message.
func TestGivenUpInAnArena(t *testing.T) {
	t.Run("given up", func(t *testing.T) {
		givenUp(t, context.Canceled, func(_ *link, cancel context.CancelFunc) { cancel() })
	})
	t.Run("cut", func(t *testing.T) {
		givenUp(t, comm.ErrLost, func(l *link, _ context.CancelFunc) { l.Break(comm.ErrLost) })
	})
}

func givenUp(t *testing.T, want error, how func(*link, context.CancelFunc)) {
	groups := attachAll(t, 2, Options{}, 20*time.Second)
	p := comm.Alloc(groups[1], comm.EagerBytes)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	l := groups[0].(*group).e.links[1]
	l.e.mu.Lock()
	r := comm.Post(groups[0], 1, 5, make([]byte, 4*len(p)))
	sent := make(chan error, 1)
	go func() { sent <- groups[1].Send(ctx, 0, 5, vec.Bytes(p)) }()
	state := &l.in.asks[0]
	for !state.CompareAndSwap(askMade, askGranted) { // it begins to copy
		runtime.Gosched()
	}
	for l.in.tail.Load() == l.r.head {
		runtime.Gosched()
	}
	how(groups[1].(*group).e.links[0], cancel)
	if err := <-sent; !errors.Is(err, want) {
		t.Errorf("Send: %v", err)
	}
	if state.CompareAndSwap(askGranted, askTaken) {
		t.Error("the reader takes the message, after Send has failed")
	}
	l.e.mu.Unlock()
	if _, _, err := r.Wait(t.Context()); !errors.Is(err, comm.ErrLost) {
		t.Errorf("Recv: %v", err)
	}
}

// A Send from an arena that is given up before the reader copies is as if it had never been.
func TestWithdrawnFromAnArena(t *testing.T) {
	groups := attachAll(t, 2, Options{}, 20*time.Second)
	p := vec.Bytes(comm.Alloc(groups[1], comm.EagerBytes))
	ctx, cancel := context.WithCancel(t.Context())
	sent := make(chan error, 1)
	go func() { sent <- groups[1].Send(ctx, 0, 5, p) }()
	state := &groups[0].(*group).e.links[1].in.asks[0]
	for state.Load() != askMade {
		runtime.Gosched()
	}
	cancel()
	if err := <-sent; !errors.Is(err, context.Canceled) {
		t.Errorf("Send: %v", err)
	}
	pattern(p, 1, 1)
	got := make([]byte, len(p))
	r := comm.Post(groups[0], 1, 5, got)
	if err := groups[1].Send(t.Context(), 0, 5, p); err != nil {
		t.Fatal(err)
	}
	if _, n, err := r.Wait(t.Context()); err != nil || n != len(p) || !bytes.Equal(got, p) {
		t.Errorf("%d bytes, as they were: %v; %v", n, bytes.Equal(got, p), err)
	}
}

// A place outside of the arena loses the peer.
func TestNoSuchPlaceInAnArena(t *testing.T) {
	for _, at := range []uint64{1<<64 - 1, 1 << 62, 2<<20 - 8} {
		groups := attachAll(t, 2, Options{Arena: 2 << 20}, 20*time.Second)
		const n = comm.EagerBytes + 8
		r := comm.Post(groups[0], 1, 5, make([]byte, n))
		l := groups[1].(*group).e.links[0]
		<-l.w.token
		l.out.asks[0].Store(askMade)
		if err := l.write(t.Context(), frame{frameThere, 0, 5, n}, binary.LittleEndian.AppendUint64(nil, at)); err != nil {
			t.Fatal(err)
		}
		l.w.token <- struct{}{}
		if _, _, err := r.Wait(t.Context()); !errors.Is(err, errRing) {
			t.Errorf("at %d: %v", at, err)
		}
	}
}
