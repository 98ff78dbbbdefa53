package tcp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/pki"
)

func TestMain(m *testing.M) {
	if worker() || benchWorker() {
		return
	}
	goleak.VerifyTestMain(m)
}

var secret = []byte("a secret of thirty-two bytes, ok")

// patient is a timeout that no healthy test comes near.
const patient = time.Minute

// credential makes one cluster's node certificate for 127.0.0.1.
var credential = sync.OnceValues(func() (*tls.Config, error) { return newCredential("node") })

func newCredential(name string) (*tls.Config, error) {
	dir, err := os.MkdirTemp("", "covey-tcp-test")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	now := time.Now()
	if err := pki.Init(dir, now); err != nil {
		return nil, err
	}
	if err := pki.Issue(dir, name, now, "127.0.0.1"); err != nil {
		return nil, err
	}
	return pki.Load(dir, name, now)
}

// listen opens n listeners on loopback.
func listen(t testing.TB, n int, conf *tls.Config) (lns []*Listener, addrs []string) {
	t.Helper()
	for range n {
		ln, err := Listen(context.Background(), "127.0.0.1:0", conf)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		lns, addrs = append(lns, ln), append(addrs, ln.Addr())
	}
	return lns, addrs
}

// connect runs Connect on every listener at once.
func connect(lns []*Listener, addrs []string, cfg func(rank int) Config) ([]*group, []error) {
	groups, errs := make([]*group, len(lns)), make([]error, len(lns))
	var wg sync.WaitGroup
	for r, ln := range lns {
		wg.Go(func() {
			g, err := ln.Connect(context.Background(), comm.Rank(r), addrs, cfg(r))
			if errs[r] = err; err == nil {
				groups[r] = g.(*group)
			}
		})
	}
	wg.Wait()
	return groups, errs
}

// newGroups makes a whole group and closes it with the test.
func newGroups(t testing.TB, n int, conf *tls.Config, timeout time.Duration) []*group {
	t.Helper()
	lns, addrs := listen(t, n, conf)
	groups, errs := connect(lns, addrs, func(int) Config { return Config{Generation: 3, Secret: secret, Timeout: timeout} })
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAll(t, groups) })
	return groups
}

func closeAll(t testing.TB, groups []*group) {
	var wg sync.WaitGroup
	for _, g := range groups {
		wg.Go(func() {
			if err := g.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// both runs a test without and with TLS.
func both(t *testing.T, f func(t *testing.T, conf *tls.Config)) {
	t.Run("plain", func(t *testing.T) { f(t, nil) })
	t.Run("tls", func(t *testing.T) {
		conf, err := credential()
		if err != nil {
			t.Fatal(err)
		}
		f(t, conf)
	})
}

var tag = comm.MakeTag(comm.OpAllReduce, 1)

// fillBytes writes values that tell place and sender apart.
func fillBytes(p []byte, from int) {
	for i := range p {
		p[i] = byte(i*7 + i>>8 + from*31)
	}
}

// check compares p with what fillBytes writes.
func check(p []byte, from int) error {
	for i := range p {
		if want := byte(i*7 + i>>8 + from*31); p[i] != want {
			return fmt.Errorf("byte %d of %d from rank %d is %d, want %d", i, len(p), from, p[i], want)
		}
	}
	return nil
}

// Everybody sends everybody one message of each size; all arrive whole, and the sockets' bytes are the payload, the
// header that Overhead announces and the control bytes.
func TestExchangeAndBooks(t *testing.T) {
	both(t, func(t *testing.T, conf *tls.Config) {
		const n = 3
		sizes := []int{0, 1, 1000, recordBytes - HeaderBytes, recordBytes, comm.EagerBytes + 1, FrameBytes, FrameBytes + 1, 3*FrameBytes + 17}
		groups := newGroups(t, n, conf, patient)
		var payload, header int64
		for _, s := range sizes {
			payload += (n - 1) * int64(s)
			header += (n - 1) * int64(groups[0].Overhead(s))
		}
		errs := make([]error, n)
		var wg sync.WaitGroup
		for r, g := range groups {
			wg.Go(func() { errs[r] = exchange(g, sizes) })
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		closeAll(t, groups)
		var out, in int64
		for r, g := range groups {
			sent, received, encrypted := g.Wired()
			if want := payload + header + g.Controlled(); sent != want {
				t.Errorf("rank %d sent %d bytes, want payload %d + header %d + control %d = %d", r, sent, payload, header, g.Controlled(), want)
			}
			if conf == nil && encrypted != 0 || conf != nil && encrypted <= sent {
				t.Errorf("rank %d: %d bytes made %d of TLS", r, sent, encrypted)
			}
			out, in = out+sent, in+received
		}
		// A goodbye that crosses another stays unread.
		if unread := out - in; unread < 0 || unread > n*(n-1)*HeaderBytes {
			t.Errorf("%d bytes sent, %d received", out, in)
		}
	})
}

func exchange(g *group, sizes []int) error {
	ctx := context.Background()
	for _, s := range sizes {
		bufs, receipts := make([][]byte, g.Size()), make([]comm.Receipt, g.Size())
		for r := range g.Size() {
			if comm.Rank(r) != g.Rank() {
				bufs[r] = make([]byte, s)
				receipts[r] = g.Post(comm.Rank(r), tag, bufs[r])
			}
		}
		mine := make([]byte, s)
		fillBytes(mine, int(g.Rank()))
		for r := range g.Size() {
			if comm.Rank(r) != g.Rank() {
				if err := g.Send(ctx, comm.Rank(r), tag, mine); err != nil {
					return err
				}
			}
		}
		for r, rc := range receipts {
			if rc == nil {
				continue
			}
			if _, got, err := rc.Wait(ctx); err != nil || got != s {
				return fmt.Errorf("%d bytes of %d: %w", got, s, err)
			}
			if err := check(bufs[r], r); err != nil {
				return err
			}
		}
	}
	return nil
}

// Unasked messages wait in the group up to EagerBytes and in the socket beyond; all come, in order.
func TestUnaskedMessagesWait(t *testing.T) {
	both(t, func(t *testing.T, conf *tls.Config) {
		groups := newGroups(t, 2, conf, patient)
		ctx := context.Background()
		const count, size = 40, 10 << 10
		done := make(chan error, 1)
		go func() {
			p := make([]byte, size)
			for i := range count {
				fillBytes(p, i)
				if err := groups[1].Send(ctx, 0, tag, p); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
		p := make([]byte, size)
		for i := range count {
			if _, _, err := groups[0].Recv(ctx, 1, tag, p); err != nil {
				t.Fatal(err)
			}
			if err := check(p, i); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

func peerError(t *testing.T, err error, rank comm.Rank, causes ...error) *comm.PeerError {
	t.Helper()
	var pe *comm.PeerError
	if !errors.As(err, &pe) || pe.Rank != rank {
		t.Fatalf("%v, want a PeerError of rank %d", err, rank)
	}
	for _, c := range causes {
		if !errors.Is(err, c) {
			t.Fatalf("%v, want it to wrap %q", err, c)
		}
	}
	return pe
}

// A peer that takes nothing ends a long Send at the timeout, and the link with it, since part of the message went.
func TestStalledPeerEndsSend(t *testing.T) {
	both(t, func(t *testing.T, conf *tls.Config) {
		groups := newGroups(t, 2, conf, 150*time.Millisecond)
		start := time.Now()
		err := groups[1].Send(context.Background(), 0, tag, make([]byte, 64<<20)) // more than any socket holds
		peerError(t, err, 0, comm.ErrTimeout)
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("it took %v", d)
		}
		peerError(t, groups[1].Send(context.Background(), 0, tag, nil), 0, comm.ErrLost, comm.ErrTimeout)
		// The other side learns of it in the middle of the message, too.
		_, _, err = groups[0].Recv(context.Background(), 1, tag, make([]byte, 64<<20))
		pe := peerError(t, err, 1, comm.ErrLost)
		if pe.Missing <= 0 || pe.Missing >= 64<<20 {
			t.Errorf("%d bytes missing", pe.Missing)
		}
	})
}

var errEnough = errors.New("enough")

// A context that ends before anything is on the wire harms nothing; one that ends in the middle breaks that link alone.
func TestContextEndsSend(t *testing.T) {
	both(t, func(t *testing.T, conf *tls.Config) {
		groups := newGroups(t, 3, conf, patient)
		ended, cancel := context.WithCancelCause(context.Background())
		cancel(errEnough)
		peerError(t, groups[1].Send(ended, 0, tag, []byte("x")), 0, errEnough)
		if err := groups[1].Send(context.Background(), 0, tag, []byte("x")); err != nil {
			t.Fatal(err)
		}

		ctx, cancel := context.WithCancelCause(context.Background())
		done := make(chan error)
		go func() { done <- groups[1].Send(ctx, 0, tag, make([]byte, 64<<20)) }()
		var one [1]byte
		if _, _, err := groups[0].Recv(ctx, 1, tag, one[:]); err != nil { // the first message
			t.Fatal(err)
		}
		_, _, err := groups[0].Recv(ctx, 1, tag, one[:]) // part of the second is here
		var se *comm.SizeError
		if !errors.As(err, &se) || se.Need != 64<<20 {
			t.Fatalf("%v, want a SizeError", err)
		}
		cancel(errEnough)
		peerError(t, <-done, 0, errEnough)
		peerError(t, groups[1].Send(context.Background(), 0, tag, nil), 0, comm.ErrLost)
		if err := groups[1].Send(context.Background(), 2, tag, []byte("x")); err != nil {
			t.Errorf("the link to rank 2 suffered: %v", err)
		}
	})
}

// The same context serves many Sends, and the watch over it ends with the group (goleak looks).
func TestContextIsWatchedOnce(t *testing.T) {
	groups := newGroups(t, 2, nil, patient)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p := []byte("0123456789")
	send := func() {
		if err := groups[1].Send(ctx, 0, tag, p); err != nil {
			t.Fatal(err)
		}
		if _, _, err := groups[0].Recv(ctx, 1, tag, p); err != nil {
			t.Fatal(err)
		}
	}
	send()
	if n := testing.AllocsPerRun(200, send); n > 0.5 && !raced { // the race detector empties pools at random
		t.Errorf("%.2f allocations a message, want none", n)
	}
}

// Who closes says goodbye: what was sent before still arrives, then the error says that the peer left in order.
func TestGoodbye(t *testing.T) {
	both(t, func(t *testing.T, conf *tls.Config) {
		groups := newGroups(t, 2, conf, patient)
		ctx := context.Background()
		if err := groups[1].Send(ctx, 0, tag, []byte("last words")); err != nil {
			t.Fatal(err)
		}
		if err := groups[1].Close(); err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 10)
		if _, _, err := groups[0].Recv(ctx, 1, tag, p); err != nil || string(p) != "last words" {
			t.Fatalf("%q, %v", p, err)
		}
		_, _, err := groups[0].Recv(ctx, 1, tag, p)
		peerError(t, err, 1, comm.ErrLeft)
		peerError(t, groups[0].Send(ctx, 1, tag, p), 1, comm.ErrLeft)
		if err := groups[1].Send(ctx, 0, tag, p); err != comm.ErrClosed {
			t.Errorf("Send after Close: %v", err)
		}
	})
}

// Close ends what is under way, here a Send that nobody receives and a Recv that nobody sends.
func TestCloseEndsWaits(t *testing.T) {
	both(t, func(t *testing.T, conf *tls.Config) {
		groups := newGroups(t, 2, conf, patient)
		ctx := context.Background()
		sent, received := make(chan error), make(chan error)
		go func() { sent <- groups[1].Send(ctx, 0, tag, make([]byte, 64<<20)) }()
		r := groups[1].Post(0, tag, make([]byte, 8))
		go func() { _, _, err := r.Wait(ctx); received <- err }()
		_, _, err := groups[0].Recv(ctx, 1, tag, nil) // the Send is under way
		var se *comm.SizeError
		if !errors.As(err, &se) {
			t.Fatal(err)
		}
		if err := groups[1].Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-sent; err != comm.ErrClosed {
			t.Errorf("Send: %v, want ErrClosed", err)
		}
		if err := <-received; err != comm.ErrClosed {
			t.Errorf("Recv: %v, want ErrClosed", err)
		}
		_, _, err = groups[0].Recv(ctx, 1, tag, make([]byte, 64<<20))
		peerError(t, err, 1, comm.ErrLost)
	})
}

// A collective given up on one rank fails on the others with the same words, also while a long message is on the link.
func TestAbort(t *testing.T) {
	both(t, func(t *testing.T, conf *tls.Config) {
		groups := newGroups(t, 3, conf, patient)
		ctx := context.Background()
		why := &comm.PeerError{Rank: 2, Op: comm.OpAllReduce, Step: 17, Missing: 4096, Cause: comm.ErrTimeout}
		r := groups[0].Post(2, tag, make([]byte, 8))
		const size = 32 << 20
		sent := make(chan error)
		plain := comm.MakeTag(comm.OpSend, 1)
		go func() { sent <- groups[1].Send(ctx, 0, plain, make([]byte, size)) }()
		_, _, err := groups[0].Recv(ctx, 1, plain, nil)
		var se *comm.SizeError
		if !errors.As(err, &se) {
			t.Fatal(err)
		}
		groups[1].Poison(why)
		if _, n, err := groups[0].Recv(ctx, 1, plain, make([]byte, size)); err != nil || n != size {
			t.Fatalf("the message that the abort came between: %d bytes, %v", n, err)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		_, _, err = r.Wait(ctx)
		pe := peerError(t, err, 2, comm.ErrTimeout)
		if pe.Step != 17 || pe.Missing != 4096 || pe.Error() != why.Error() {
			t.Errorf("rank 0 says %q, rank 1 %q", pe, why)
		}
		for groups[2].Poisoned() == nil { // it was told over its own link
			if _, _, err := groups[2].Recv(ctx, 1, tag, nil); err != nil {
				break
			}
		}
		if e := groups[2].Poisoned(); e == nil || e.Error() != why.Error() {
			t.Errorf("rank 2 says %v", e)
		}
	})
}

// Sockets closed without a goodbye, as by a kill, are noticed long before a timeout, whether the other side waits or sends.
func TestKilledPeer(t *testing.T) {
	both(t, func(t *testing.T, conf *tls.Config) {
		groups := newGroups(t, 4, conf, patient)
		ctx := context.Background()
		var waits []comm.Receipt
		for _, g := range groups[1:] {
			waits = append(waits, g.Post(0, tag, make([]byte, 1000)))
		}
		start := time.Now()
		kill(groups[0])
		for _, w := range waits {
			_, _, err := w.Wait(ctx)
			peerError(t, err, 0, comm.ErrLost)
		}
		for _, g := range groups[1:] {
			peerError(t, g.Send(ctx, 0, tag, nil), 0, comm.ErrLost)
		}
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("it took %v", d)
		}
		if err := groups[1].Send(ctx, 2, tag, []byte("x")); err != nil {
			t.Errorf("a healthy link: %v", err)
		}
	})
}

// kill closes a rank's sockets as the death of its process does.
func kill(g *group) {
	g.Vanish() // or it would tell of its first lost link on those that it still has
	for _, l := range g.links {
		if l != nil {
			if l.raw == nil {
				l.tcp.SetLinger(0)
			}
			l.fail(fmt.Errorf("%w: killed by the test", comm.ErrLost))
		}
	}
}

func TestGroupOfOne(t *testing.T) {
	g := newGroups(t, 1, nil, patient)[0]
	p := []byte("to myself")
	if err := g.Send(context.Background(), 0, tag, p); err != nil {
		t.Fatal(err)
	}
	q := make([]byte, 20)
	if _, n, err := g.Recv(context.Background(), 0, tag, q); err != nil || string(q[:n]) != string(p) {
		t.Fatalf("%q, %v", q[:n], err)
	}
}

func wantText(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want one with %q", parts)
		return
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("%q does not say %q", err, p)
		}
	}
}
