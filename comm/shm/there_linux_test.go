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

// grantThere has rank 0 wait for a message of n bytes from rank 1, gives leave for it, and returns with rank 0's engine locked.
func grantThere(t *testing.T, groups []comm.Group, n int, send func()) (*link, comm.Receipt) {
	t.Helper()
	e := groups[0].(*group).e
	l := e.links[1]
	r := comm.Post(groups[0], 1, 5, make([]byte, n))
	e.mu.Lock()
	go send()
	for l.r.incoming[0] == nil && !l.dead.Load() {
		l.look()
		runtime.Gosched()
	}
	return l, r
}

// A Send from an arena that is given up when leave was given, before the reader has copied, breaks the link: the reader may not take what
// it finds there later for the message.
func TestGivenUpInAnArena(t *testing.T) {
	groups := attachAll(t, 2, Options{}, 20*time.Second)
	p := comm.Alloc(groups[1], comm.EagerBytes)
	ctx, cancel := context.WithCancel(t.Context())
	sent := make(chan error, 1)
	l, r := grantThere(t, groups, 4*len(p), func() { sent <- groups[1].Send(ctx, 0, 5, vec.Bytes(p)) })
	for l.in.tail.Load() == l.r.head { // until the writer has said where the message is
		runtime.Gosched()
	}
	cancel()
	err := <-sent
	l.e.mu.Unlock()
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Send: %v", err)
	}
	if _, _, err := r.Wait(t.Context()); !errors.Is(err, comm.ErrLost) {
		t.Errorf("Recv: %v", err)
	}
}

// A place outside of the arena loses the peer.
func TestNoSuchPlaceInAnArena(t *testing.T) {
	for _, at := range []uint64{1<<64 - 1, 1 << 62, 2<<20 - 8} {
		groups := attachAll(t, 2, Options{Arena: 2 << 20}, 20*time.Second)
		const n = comm.EagerBytes + 8
		l, r := grantThere(t, groups, n, func() {
			l := groups[1].(*group).e.links[0]
			<-l.w.token // and keeps it
			l.out.asks[0].Store(askMade)
			l.write(t.Context(), frame{frameAsk, 0, 5, n}, nil)
			for l.out.asks[0].Load() != askGranted {
				runtime.Gosched()
			}
			l.write(t.Context(), frame{frameThere, 0, 5, n}, binary.LittleEndian.AppendUint64(nil, at))
			l.w.token <- struct{}{}
		})
		l.e.mu.Unlock()
		if _, _, err := r.Wait(t.Context()); !errors.Is(err, errRing) {
			t.Errorf("at %d: %v", at, err)
		}
	}
}
