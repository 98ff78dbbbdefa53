package commtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
)

// every collective, by name, on vectors of n elements.
func every(n int, tree comm.Tree) map[string]func(g comm.Group) error {
	calls := map[string]func(g comm.Group) error{
		"reduce-scatter": func(g comm.Group) error {
			return comm.ReduceScatter(bg, g, tree, parts(tree, g.Rank(), rough, n))
		},
		"update": func(g comm.Group) error {
			x := make([]float32, n)
			return comm.Update(bg, g, tree, parts(tree, g.Rank(), rough, n), x, func(lo, hi int) {})
		},
		"all-gather": func(g comm.Group) error { return comm.AllGather(bg, g, make([]float32, n)) },
		"all-gather of bytes": func(g comm.Group) error {
			_, err := comm.AllGatherBytes(bg, g, make([]byte, n), nil)
			return err
		},
		"all-to-all": func(g comm.Group) error {
			send, recv := make([][]byte, g.Size()), make([][]byte, g.Size())
			for r := range send {
				send[r], recv[r] = make([]byte, n), make([]byte, n)
			}
			return comm.AllToAll(bg, g, send, recv)
		},
		"barrier": func(g comm.Group) error { return comm.Barrier(bg, g) },
	}
	for _, alg := range algorithms {
		if !alg.Fits(tree) {
			continue
		}
		calls[alg.String()] = func(g comm.Group) error {
			return comm.AllReduceBy(bg, g, tree, parts(tree, g.Rank(), rough, n), alg)
		}
	}
	return calls
}

// killCollective: a rank dies in the middle of collectives. All others name it, in this collective and in every later
// one, even though they leave, too, as soon as they know.
func (x *exam) killCollective(t *testing.T) {
	const n, victim = 4, 2
	tree := comm.NewTree(n, n)
	calls := every(20000, tree)
	if x.o.Shared {
		calls["shared, staged"] = func(g comm.Group) error { return comm.AllReduce(bg, g, tree, parts(tree, g.Rank(), rough, 300)) }
		calls["shared, placed"] = func(g comm.Group) error {
			p := [][]float32{comm.Alloc(g, 100_000)}
			return comm.AllReduce(bg, g, tree, p)
		}
		calls["shared, bounced"] = func(g comm.Group) error { return comm.AllReduce(bg, g, tree, [][]float32{make([]float32, 700_000)}) }
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			g := x.group(t, n, patience)
			time.AfterFunc(3*time.Millisecond, func() { x.o.Kill(t, g, victim) })
			errs := all(g, func(g comm.Group) error {
				for {
					if err := call(g); err != nil {
						if g.Rank() != victim {
							again := comm.Barrier(bg, g)
							if again != err {
								err = fmt.Errorf("first %w, then %w", err, again)
							}
							g.Close()
						}
						return err
					}
				}
			})
			for r, err := range errs {
				var pe *comm.PeerError
				if r != victim && (!errors.As(err, &pe) || pe.Rank != victim || !errors.Is(err, comm.ErrLost)) {
					t.Errorf("rank %d says: %v", r, err)
				}
			}
		})
	}
}

// absent: a rank does not come. Those who wait for it say so when the timeout has passed, and everybody stops.
func (x *exam) absent(t *testing.T) {
	const n, missing = 4, 2
	g := x.group(t, n, 300*time.Millisecond)
	c, books := counted(g)
	tree := comm.NewTree(n, n)
	each(t, c, func(g comm.Group) error { return comm.Barrier(bg, g) }) // nobody's goroutine is late to start
	errs := all(c, func(g comm.Group) error {
		books[g.Rank()].SetStep(7)
		if g.Rank() == missing {
			return nil
		}
		err := comm.AllReduceBy(bg, g, tree, parts(tree, g.Rank(), rough, 1000), comm.Direct)
		if again := comm.Barrier(bg, g); again != err {
			return fmt.Errorf("first %w, then %w", err, again)
		}
		return err
	})
	for r, err := range errs {
		if r == missing {
			continue
		}
		if err := failed(err, missing, comm.OpAllReduce, comm.ErrTimeout); err != nil {
			t.Errorf("rank %d: %v", r, err)
		}
		var pe *comm.PeerError
		if errors.As(err, &pe); pe != nil && (pe.Step != 7 || pe.Missing != 1000) {
			t.Errorf("rank %d: %v: want step 7 and 1000 bytes missing", r, err)
		}
	}
	if err := failed(comm.Barrier(bg, c[missing]), missing, comm.OpAllReduce, comm.ErrTimeout); err != nil {
		t.Errorf("the rank that comes too late: %v", err)
	}
}

// cancelCollective: a context that ends before anything moved costs nothing; after that, everybody is told.
func (x *exam) cancelCollective(t *testing.T) {
	const n = 3
	g := x.group(t, n, patience)
	ended, cancel := context.WithCancel(bg)
	cancel()
	tree := comm.NewTree(n, n)
	sum := func(ctx context.Context, g comm.Group) error {
		return comm.AllReduceBy(ctx, g, tree, parts(tree, g.Rank(), rough, 50), comm.Direct)
	}
	if err := sum(ended, g[1]); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	waiting, cancel := context.WithCancel(bg)
	time.AfterFunc(2*time.Millisecond, cancel)
	p := make([]byte, 100)
	if err := comm.Broadcast(waiting, g[1], 0, p); !errors.Is(err, context.Canceled) { // nothing came, nothing was sent
		t.Fatal(err)
	}
	each(t, g, func(g comm.Group) error {
		if err := sum(bg, g); err != nil {
			return err
		}
		p := bytes.Repeat([]byte{byte(g.Rank()) + 1}, 100)
		if err := comm.Broadcast(bg, g, 0, p); err != nil || p[99] != 1 {
			return fmt.Errorf("%w, %d", err, p[99])
		}
		return comm.Barrier(bg, g)
	})
	waiting, cancel = context.WithCancel(bg)
	books := comm.NewLedger()
	go func() { // once it has sent its parts
		for b := books.Totals(); b[comm.OpAllReduce].Messages < n-1; b = books.Totals() {
			runtime.Gosched()
		}
		cancel()
	}()
	if err := failed(sum(waiting, comm.Count(g[1], books)), 1, comm.OpAllReduce, context.Canceled); err != nil {
		t.Fatal(err)
	}
	for _, r := range []comm.Rank{0, 2} {
		if err := failed(sum(bg, g[r]), 1, comm.OpAllReduce, context.Canceled); err != nil {
			t.Errorf("rank %d: %v", r, err)
		}
	}
}

// disagree: ranks that hand in different lengths are told, and nobody hangs.
func (x *exam) disagree(t *testing.T) {
	const n = 3
	tree := comm.NewTree(n, n)
	g := x.group(t, n, patience)
	for r, g := range g { // a vector that does not fit its own parts harms nobody
		if err := comm.Update(bg, g, tree, parts(tree, comm.Rank(r), rough, 5), make([]float32, 4), nil); err == nil {
			t.Error("an update of 4 elements by parts of 5 succeeds")
		}
	}
	each(t, g, func(g comm.Group) error { return comm.Barrier(bg, g) })
	for _, alg := range []comm.Algorithm{comm.Direct, comm.Gather, comm.Binomial, comm.Hierarchical.Hosts(2)} {
		g := x.group(t, n, patience)
		for r, err := range all(g, func(g comm.Group) error {
			return comm.AllReduceBy(bg, g, tree, parts(tree, g.Rank(), rough, 300+3*int(g.Rank()/2)), alg)
		}) {
			var pe *comm.PeerError
			if !errors.As(err, &pe) {
				t.Errorf("%v, rank %d: %v", alg, r, err)
			}
		}
	}
}

// closeCollective: a group that is closed under a collective says so.
func (x *exam) closeCollective(t *testing.T) {
	g := x.group(t, 2, patience)
	time.AfterFunc(5*time.Millisecond, func() { g[0].Close() })
	if err := comm.Barrier(bg, g[0]); err != comm.ErrClosed {
		t.Errorf("%v", err)
	}
	if err := failed(comm.Barrier(bg, g[1]), 0, comm.OpBarrier, comm.ErrLost); err != nil {
		// The barrier's message may have come before the goodbye; then it is the next one that fails.
		if err := failed(comm.Barrier(bg, g[1]), 0, comm.OpBarrier, comm.ErrLost); err != nil {
			t.Error(err)
		}
	}
}

// sockets: what went out on the wire is what the books say, and what the transport says it sent for itself.
func (x *exam) sockets(t *testing.T) {
	const n = 3
	g := x.group(t, n, patience)
	if _, ok := g[0].(comm.Wire); ok != x.o.Sockets {
		t.Fatalf("the group counts bytes at sockets: %v; Options.Sockets says %v", ok, x.o.Sockets)
	}
	if !x.o.Sockets {
		return
	}
	c, books := counted(g)
	tree := comm.NewTree(12, n)
	each(t, c, func(g comm.Group) error {
		for _, size := range []int{0, 1, 1000, comm.EagerBytes, 3 << 20} {
			for _, op := range []comm.Op{comm.OpSend, comm.OpControl} {
				wg := make(chan error, 1)
				go func() { wg <- g.Send(bg, (g.Rank()+1)%n, comm.MakeTag(op, 1), make([]byte, size)) }()
				if _, _, err := g.Recv(bg, (g.Rank()+n-1)%n, comm.MakeTag(op, 1), make([]byte, size)); err != nil {
					return err
				}
				if err := <-wg; err != nil {
					return err
				}
			}
		}
		for _, call := range []string{"direct", "update", "gather", "tree", "ring", "hierarchical:hosts=2", "all-to-all", "barrier"} {
			if err := every(100000, tree)[call](g); err != nil {
				return fmt.Errorf("%s: %w", call, err)
			}
		}
		return nil
	})
	var out, in int64
	for r, g := range c {
		b := books[r].Totals()
		sent, received, _ := g.(comm.Wire).Wired()
		if want := b.Sum().Sent() + g.(comm.Wire).Controlled(); sent != want {
			t.Errorf("rank %d wrote %d bytes to its sockets; its books and its transport's own frames make %d:\n%s", r, sent, want, b.String())
		}
		out, in = out+sent, in+received
	}
	if out != in {
		t.Errorf("%d bytes were written and %d read", out, in)
	}
}

// killSub: a subgroup that loses a member names it by its rank in the whole group, whose collectives end, too.
func (x *exam) killSub(t *testing.T) {
	const victim = 3
	g := x.group(t, 4, patience)
	time.AfterFunc(2*time.Millisecond, func() { x.o.Kill(t, g, victim) })
	errs := all(g, func(g comm.Group) error {
		if g.Rank() == 0 {
			return comm.Barrier(bg, g) // nobody else comes
		}
		s, err := comm.Sub(g, []comm.Rank{victim, 2, 1}, 5)
		for err == nil {
			err = comm.Barrier(bg, s)
		}
		if g.Rank() != victim {
			if again := comm.Barrier(bg, g); again != err {
				err = fmt.Errorf("first %w, then, in the whole group, %w", err, again)
			}
		}
		return err
	})
	for r, err := range errs {
		var pe *comm.PeerError
		if r != victim && (!errors.As(err, &pe) || pe.Rank != victim || !errors.Is(err, comm.ErrLost)) {
			t.Errorf("rank %d says: %v", r, err)
		}
	}
}
