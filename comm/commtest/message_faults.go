package commtest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
)

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
		t.Fatal("this transport remembers no poison: its groups must be a comm.Poisoner")
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
