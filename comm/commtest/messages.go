package commtest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"

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
		t.Fatal("this transport takes no posts: its groups must be a comm.Poster")
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
