package commtest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
)

var bg = context.Background()

func tag(n uint32) comm.Tag { return comm.MakeTag(comm.OpSend, n) }

// recv receives exactly fill(n, key).
func recv(ctx context.Context, g comm.Group, from comm.Rank, tag comm.Tag, n int, key uint64) error {
	p := make([]byte, n)
	_, got, err := g.Recv(ctx, from, tag, p)
	if err != nil {
		return err
	}
	return same(p[:got], n, key)
}

// order: messages of one sender, receiver and tag arrive in order; tags do not mix.
func (x *exam) order(t *testing.T) {
	g := x.group(t, 3, patience)
	const each3, tags = 300, 3
	each(t, g, func(g comm.Group) error {
		me := g.Rank()
		var wg sync.WaitGroup
		errs := make([]error, 3)
		for to := range comm.Rank(3) {
			wg.Go(func() {
				for i := range each3 * tags {
					p := append(number(i/tags), make([]byte, i*37%500)...)
					if err := g.Send(bg, to, tag(uint32(i%tags)), p); err != nil {
						errs[to] = err
						return
					}
				}
			})
		}
		p := make([]byte, 600)
		var first error
		for i := range each3 {
			for k := tags - 1; k >= 0; k-- { // not the order of sending
				for from := range comm.Rank(3) {
					got, n, err := g.Recv(bg, from, tag(uint32(k)), p)
					if err == nil && (got != from || n != 4+(i*tags+k)*37%500 || int(binary.LittleEndian.Uint32(p)) != i) {
						err = fmt.Errorf("rank %d from %d, tag %d, message %d: from %d, %d bytes, number %d", me, from, k, i, got, n, binary.LittleEndian.Uint32(p))
					}
					if err != nil {
						first = errors.Join(first, err)
						g.Close()
						wg.Wait()
						return first
					}
				}
			}
		}
		wg.Wait()
		return errors.Join(errs...)
	})
}

// tooSmall: a buffer that is too short costs nothing but the size's answer.
func (x *exam) tooSmall(t *testing.T) {
	g := x.group(t, 2, patience)
	for i, n := range []int{1, 100, 3 * comm.EagerBytes} {
		for _, posted := range []bool{false, true} {
			key := uint64(i)
			var early comm.Receipt
			if p, ok := g[1].(comm.Poster); ok && posted {
				early = p.Post(0, tag(0), make([]byte, n-1))
			}
			sent := make(chan error, 1)
			go func() { sent <- g[0].Send(bg, 1, tag(0), fill(n, key)) }()
			for _, short := range []int{0, n - 1} {
				var err error
				if early != nil {
					_, _, err = early.Wait(bg)
					short, early = n-1, nil
				} else {
					_, _, err = g[1].Recv(bg, 0, tag(0), make([]byte, short))
				}
				var se *comm.SizeError
				if !errors.As(err, &se) || *se != (comm.SizeError{From: 0, Need: n, Have: short}) {
					t.Fatalf("%d bytes into %d: %v", n, short, err)
				}
			}
			if err := recv(bg, g[1], 0, tag(0), n, key); err != nil {
				t.Fatal(err)
			}
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
		}
	}
}

// anyRank: a receive from anybody gets each message once and says whose it is.
func (x *exam) anyRank(t *testing.T) {
	const n, each4 = 5, 50
	g := x.group(t, n, patience)
	each(t, g, func(g comm.Group) error {
		if g.Rank() != 0 {
			for i := range each4 {
				if err := g.Send(bg, 0, tag(1), number(i)); err != nil {
					return err
				}
			}
			return nil
		}
		next := make([]int, n)
		for range each4 * (n - 1) {
			p := make([]byte, 4)
			from, k, err := g.Recv(bg, comm.AnyRank, tag(1), p)
			if err != nil {
				return err
			}
			if from < 1 || from >= n || k != 4 || int(binary.LittleEndian.Uint32(p)) != next[from] {
				return fmt.Errorf("from rank %d: %d bytes, number %v, want %d", from, k, p, next[from])
			}
			next[from]++
		}
		return nil
	})
}

// self: a rank is its own peer, too.
func (x *exam) self(t *testing.T) {
	for _, n := range []int{1, 3} {
		g := x.group(t, n, patience)
		each(t, g, func(g comm.Group) error {
			for i, size := range []int{0, 1, 1000, comm.EagerBytes} {
				if err := g.Send(bg, g.Rank(), tag(2), fill(size, uint64(i))); err != nil {
					return err
				}
				if err := recv(bg, g, g.Rank(), tag(2), size, uint64(i)); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// large: messages far beyond every buffer, in all directions at once, asked for before and after they are sent.
func (x *exam) large(t *testing.T) {
	const n = 3
	g := x.group(t, n, patience)
	for round, size := range []int{comm.EagerBytes + 1, 1<<20 + 3, 5<<20 + 1} {
		each(t, g, func(g comm.Group) error {
			errs := make([]error, 2*n)
			var wg sync.WaitGroup
			for r := range comm.Rank(n) {
				wg.Go(func() { errs[r] = g.Send(bg, r, tag(3), fill(size, uint64(round)<<16|uint64(g.Rank())<<8|uint64(r))) })
				wg.Go(func() {
					errs[n+r] = recv(bg, g, r, tag(3), size, uint64(round)<<16|uint64(r)<<8|uint64(g.Rank()))
				})
			}
			wg.Wait()
			return errors.Join(errs...)
		})
	}
}

// eager: with no more than EagerBytes under way to a peer, Send waits for nobody.
func (x *exam) eager(t *testing.T) {
	const n = 3
	g := x.group(t, n, patience)
	for _, size := range []int{0, 1, comm.MinMessage, 1000, 10000, comm.EagerBytes} {
		count := comm.EagerBytes / max(size, comm.MinMessage)
		each(t, g, func(g comm.Group) error { // nobody receives before everybody has sent
			for i := range count {
				for to := range comm.Rank(n) {
					if err := g.Send(bg, to, tag(uint32(i%2)), fill(size, uint64(i))); err != nil {
						return fmt.Errorf("message %d of %d bytes to rank %d: %w", i, size, to, err)
					}
				}
			}
			return nil
		})
		each(t, g, func(g comm.Group) error {
			for i := range count {
				for from := range comm.Rank(n) {
					if err := recv(bg, g, from, tag(uint32(i%2)), size, uint64(i)); err != nil {
						return fmt.Errorf("message %d of %d bytes from rank %d: %w", i, size, from, err)
					}
				}
			}
			return nil
		})
	}
}

// posts: receives that were asked for first are filled in their order, and an exchange needs no second goroutine.
func (x *exam) posts(t *testing.T) {
	const n, size, deep = 4, 2 * comm.EagerBytes, 3
	g := x.group(t, n, patience)
	if _, ok := g[0].(comm.Poster); !ok {
		t.Skip("this transport takes no posts")
	}
	each(t, g, func(g comm.Group) error {
		var bufs [n][deep][]byte
		var rec [n][deep]comm.Receipt
		for i := range deep {
			for r := range comm.Rank(n) {
				bufs[r][i] = make([]byte, size)
				rec[r][i] = g.(comm.Poster).Post(r, tag(4), bufs[r][i])
			}
		}
		for i := range deep {
			for r := range comm.Rank(n) {
				if err := g.Send(bg, r, tag(4), fill(size, uint64(g.Rank())<<8|uint64(i))); err != nil {
					return err
				}
			}
		}
		for i := deep - 1; i >= 0; i-- {
			for r := range comm.Rank(n) {
				from, k, err := rec[r][i].Wait(bg)
				if err == nil && from != r {
					err = fmt.Errorf("from rank %d, asked for %d", from, r)
				}
				if err == nil {
					err = same(bufs[r][i][:k], size, uint64(r)<<8|uint64(i))
				}
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// concurrent: many goroutines of every rank send and receive at once.
func (x *exam) concurrent(t *testing.T) {
	const n, lanes, count = 3, 6, 40
	g := x.group(t, n, patience)
	each(t, g, func(g comm.Group) error {
		errs := make([]error, (1+n)*lanes)
		var wg sync.WaitGroup
		for lane := range lanes {
			size := func(i int) int { return 1 + (lane*9973+i*1201)%(1<<(8+2*lane)) }
			wg.Go(func() {
				for i := range count {
					for to := range comm.Rank(n) {
						if err := g.Send(bg, to, tag(uint32(lane)), fill(size(i), uint64(lane*count+i)<<8|uint64(g.Rank()))); err != nil {
							errs[lane] = err
							return
						}
					}
				}
			})
			// One receiver for each sender and lane: a message beyond EagerBytes that nobody asks for may hold up
			// its sender's later ones, so nobody may be asked for last.
			for from := range comm.Rank(n) {
				wg.Go(func() {
					for i := range count {
						if err := recv(bg, g, from, tag(uint32(lane)), size(i), uint64(lane*count+i)<<8|uint64(from)); err != nil {
							errs[lanes*(1+int(from))+lane] = err
							return
						}
					}
				})
			}
		}
		wg.Wait()
		return errors.Join(errs...)
	})
}

// badRank: a rank that is not in the group is refused.
func (x *exam) badRank(t *testing.T) {
	g := x.group(t, 2, patience)
	for _, r := range []comm.Rank{-2, 2, 99} {
		if err := g[0].Send(bg, r, tag(0), nil); err == nil {
			t.Errorf("Send to rank %d of 2 succeeds", r)
		}
		if _, _, err := g[0].Recv(bg, r, tag(0), nil); err == nil {
			t.Errorf("Recv from rank %d of 2 succeeds", r)
		}
	}
	if err := g[0].Send(bg, comm.AnyRank, tag(0), nil); err == nil {
		t.Error("Send to any rank succeeds")
	}
}

// cancel: a receive that its caller gives up loses nothing, before it began or while it waits.
func (x *exam) cancel(t *testing.T) {
	g := x.group(t, 2, patience)
	enough := errors.New("enough")
	for i, early := range []bool{true, false} {
		for _, from := range []comm.Rank{1, comm.AnyRank} {
			ctx, cancel := context.WithCancelCause(bg)
			if early {
				cancel(enough)
			} else {
				time.AfterFunc(time.Millisecond, func() { cancel(enough) })
			}
			_, _, err := g[0].Recv(ctx, from, tag(5), make([]byte, 10))
			if err := failed(err, from, comm.OpSend, enough); err != nil {
				t.Fatal(err)
			}
			if err := g[1].Send(bg, 0, tag(5), fill(10, uint64(i))); err != nil {
				t.Fatal(err)
			}
			if err := recv(bg, g[0], 1, tag(5), 10, uint64(i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	ctx, cancel := context.WithCancel(bg)
	cancel()
	if err := failed(g[0].Send(ctx, 1, tag(5), fill(10, 1)), 1, comm.OpSend, context.Canceled); err != nil {
		t.Fatal(err)
	}
	if err := g[0].Send(bg, 1, tag(5), fill(10, 2)); err != nil {
		t.Fatal(err)
	}
	if err := recv(bg, g[1], 0, tag(5), 10, 2); err != nil {
		t.Fatal(err)
	}
}

// cancelledSend: a Send that nobody receives ends with its context; at most that one link is lost by it.
func (x *exam) cancelledSend(t *testing.T) {
	g := x.group(t, 3, patience)
	ctx, cancel := context.WithCancel(bg)
	time.AfterFunc(5*time.Millisecond, cancel)
	if err := failed(g[0].Send(ctx, 1, tag(6), make([]byte, 64<<20)), 1, comm.OpSend, context.Canceled); err != nil {
		t.Fatal(err)
	}
	for _, p := range [][2]comm.Rank{{0, 2}, {2, 0}, {1, 2}, {2, 1}} {
		if err := g[p[0]].Send(bg, p[1], tag(6), fill(10, 3)); err != nil {
			t.Fatal(err)
		}
		if err := recv(bg, g[p[1]], p[0], tag(6), 10, 3); err != nil {
			t.Fatal(err)
		}
	}
}

// timeout: every wait ends, and says for whom, in what and how much was missing.
func (x *exam) timeout(t *testing.T) {
	const short = 100 * time.Millisecond
	g := x.group(t, 3, short)
	bcast := comm.MakeTag(comm.OpBroadcast, 1)
	begun := comm.RealClock().Now()
	_, _, err := g[0].Recv(bg, 2, bcast, make([]byte, 12))
	if took := comm.RealClock().Now() - begun; took < short {
		t.Errorf("a receive with a timeout of %v ended after %v", short, took)
	}
	if err := failed(err, 2, comm.OpBroadcast, comm.ErrTimeout); err != nil {
		t.Fatal(err)
	}
	var pe *comm.PeerError
	if errors.As(err, &pe); pe.Missing != 12 || pe.Step != -1 {
		t.Errorf("%v: %d bytes missing at step %d, want 12 at -1", err, pe.Missing, pe.Step)
	}
	_, _, err = g[0].Recv(bg, comm.AnyRank, tag(7), make([]byte, 12))
	if err := failed(err, comm.AnyRank, comm.OpSend, comm.ErrTimeout); err != nil {
		t.Fatal(err)
	}
	if err := failed(g[0].Send(bg, 1, tag(7), make([]byte, 64<<20)), 1, comm.OpSend, comm.ErrTimeout); err != nil {
		t.Fatal(err)
	}
	if err := g[0].Send(bg, 2, tag(7), fill(10, 4)); err != nil { // the other links are well
		t.Fatal(err)
	}
	if err := recv(bg, g[2], 0, tag(7), 10, 4); err != nil {
		t.Fatal(err)
	}
}

// close: what is under way when a group closes, and what comes after, returns ErrClosed.
func (x *exam) close(t *testing.T) {
	g := x.group(t, 2, patience)
	calls := []func() error{
		func() error { _, _, err := g[0].Recv(bg, 1, tag(8), nil); return err },
		func() error { _, _, err := g[0].Recv(bg, comm.AnyRank, tag(8), nil); return err },
		func() error { return g[0].Send(bg, 1, tag(8), make([]byte, 64<<20)) },
	}
	got := make(chan error)
	for _, call := range calls {
		go func() { got <- call() }()
	}
	time.AfterFunc(5*time.Millisecond, func() { got <- g[0].Close() })
	closed := 0
	for range len(calls) + 1 {
		switch err := <-got; err {
		case nil:
			closed++
		case comm.ErrClosed:
		default:
			t.Errorf("closing gave %v", err)
		}
	}
	if closed != 1 {
		t.Errorf("%d of the calls succeeded; only Close should", closed)
	}
	for i, call := range calls {
		if err := call(); err != comm.ErrClosed {
			t.Errorf("call %d after Close: %v", i, err)
		}
	}
	if err := g[0].Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

// closePeer: what was sent before Close still arrives; then the peer learns that nothing will come.
func (x *exam) closePeer(t *testing.T) {
	g := x.group(t, 3, patience)
	waiting := make(chan error, 1)
	go func() {
		_, _, err := g[2].Recv(bg, 0, tag(9), make([]byte, 10))
		waiting <- err
	}()
	for i := range 3 {
		if err := g[0].Send(bg, 1, tag(9), fill(20000, uint64(i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := g[0].Close(); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if err := recv(bg, g[1], 0, tag(9), 20000, uint64(i)); err != nil {
			t.Fatal(err)
		}
	}
	_, _, err := g[1].Recv(bg, 0, tag(9), make([]byte, 10))
	for _, err := range []error{err, <-waiting, sendUntilError(g[1], 0)} {
		if err := failed(err, 0, comm.OpSend, comm.ErrLost); err != nil {
			t.Error(err)
		}
	}
}

// sendUntilError sends small messages until the transport finds the peer gone.
func sendUntilError(g comm.Group, to comm.Rank) error {
	for {
		if err := g.Send(bg, to, tag(100), nil); err != nil {
			return err
		}
		g.Clock().Sleep(bg, time.Millisecond)
	}
}

// kill: a rank vanishes. Who waits for it or sends to it is told at once, and the others talk on.
func (x *exam) kill(t *testing.T) {
	if x.o.Kill == nil {
		t.Skip("this transport's ranks cannot be killed here")
	}
	g := x.group(t, 4, patience)
	errs := make(chan error, 3)
	for _, r := range []int{0, 1} {
		go func() {
			_, _, err := g[r].Recv(bg, 3, tag(10), make([]byte, 10))
			errs <- err
		}()
	}
	go func() { errs <- g[2].Send(bg, 3, tag(10), make([]byte, 64<<20)) }()
	time.AfterFunc(5*time.Millisecond, func() { x.o.Kill(t, g, 3) })
	for range 3 {
		if err := failed(<-errs, 3, comm.OpSend, comm.ErrLost); err != nil {
			t.Error(err)
		}
	}
	if err := failed(sendUntilError(g[1], 3), 3, comm.OpSend, comm.ErrLost); err != nil {
		t.Error(err)
	}
	each(t, g[:3], func(g comm.Group) error {
		for r := range comm.Rank(3) {
			if err := g.Send(bg, r, tag(11), fill(1000, uint64(r))); err != nil {
				return err
			}
		}
		for r := range comm.Rank(3) {
			if err := recv(bg, g, r, tag(11), 1000, uint64(g.Rank())); err != nil {
				return err
			}
		}
		return nil
	})
}

// killAnyRank: a receive from anybody goes on with the rest, and fails when nobody is left.
func (x *exam) killAnyRank(t *testing.T) {
	if x.o.Kill == nil {
		t.Skip("this transport's ranks cannot be killed here")
	}
	g := x.group(t, 3, patience)
	errs := make(chan error, 1)
	go func() {
		p := make([]byte, 10)
		from, n, err := g[0].Recv(bg, comm.AnyRank, tag(12), p)
		if err == nil && from != 1 {
			err = fmt.Errorf("from rank %d", from)
		}
		if err == nil {
			err = same(p[:n], 10, 9)
		}
		errs <- err
	}()
	x.o.Kill(t, g, 2)
	if err := failed(sendUntilError(g[0], 2), 2, comm.OpSend, comm.ErrLost); err != nil {
		t.Error(err)
	}
	if err := g[1].Send(bg, 0, tag(12), fill(10, 9)); err != nil {
		t.Fatal(err)
	}
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
	x.o.Kill(t, g, 1)
	_, _, err := g[0].Recv(bg, comm.AnyRank, tag(12), make([]byte, 10))
	if !errors.Is(err, comm.ErrLost) {
		t.Fatalf("nobody is left, and a receive from anybody says %v", err)
	}
}

// poison: one rank gives up a collective, and everybody's collectives end with its reason; messages go on.
func (x *exam) poison(t *testing.T) {
	g := x.group(t, 4, patience)
	p, ok := g[1].(comm.Poisoner)
	if !ok {
		t.Skip("this transport remembers no poison")
	}
	coll := comm.MakeTag(comm.OpAllReduce, 5)
	errs := make(chan error, 3)
	for _, r := range []int{0, 2, 3} {
		go func() {
			_, _, err := g[r].Recv(bg, 1, coll, make([]byte, 8))
			errs <- err
		}()
	}
	e := &comm.PeerError{Rank: 7, Op: comm.OpAllReduce, Step: 42, Missing: 1234, Cause: comm.ErrTimeout}
	if got := p.Poison(e); got != e {
		t.Fatalf("Poison returned %v", got)
	}
	for range 3 {
		err := <-errs
		if bad := failed(err, 7, comm.OpAllReduce, comm.ErrTimeout); bad != nil || err.Error() != e.Error() {
			t.Fatalf("%v, want %v", err, e)
		}
	}
	each(t, g, func(g comm.Group) error {
		first := g.(comm.Poisoner).Poisoned()
		if first == nil || first.Error() != e.Error() {
			return fmt.Errorf("poisoned by %v", first)
		}
		again := &comm.PeerError{Rank: 0, Op: comm.OpBarrier, Step: -1, Cause: comm.ErrLost}
		if got := g.(comm.Poisoner).Poison(again); got != first {
			return fmt.Errorf("the second poison returned %v", got)
		}
		if err := g.Send(bg, 0, coll, nil); !errors.Is(err, comm.ErrTimeout) {
			return fmt.Errorf("Send for a collective: %v", err)
		}
		if err := g.Send(bg, (g.Rank()+1)%4, tag(13), fill(3*comm.EagerBytes, 5)[:100]); err != nil {
			return err
		}
		return recv(bg, g, (g.Rank()+3)%4, tag(13), 100, 5)
	})
}
