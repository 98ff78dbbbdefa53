// Package commtest is the exam that every transport sits: what comm.Group promises, as tests.
//
//	func TestExam(t *testing.T) {
//		commtest.Run(t, func(t *testing.T, n int, timeout time.Duration) []comm.Group {
//			return inproc.New(n, timeout)
//		}, commtest.Options{Kill: func(_ *testing.T, groups []comm.Group, r comm.Rank) { inproc.Kill(groups[r]) }})
//	}
//
// The exam has two parts: messages (order, tags, sizes, the eager promise, deadlines, lost peers, poison) and
// collectives (every one, with every algorithm, at sizes 1 to 17 and lengths 0, 1, odd and large, against a naive
// sum in the canonical order and against a formula). Every group is closed and every goroutine must be gone at the
// end. With -short it uses fewer sizes.
package commtest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/covey-ml/covey/comm"
)

// Make opens a group of n ranks that run in this process, and returns its views by rank. What must be tidied up
// beyond closing them, it registers with t.Cleanup.
type Make func(t *testing.T, n int, timeout time.Duration) []comm.Group

// Options are what the exam must know about a transport.
type Options struct {
	// Kill makes a rank vanish as kill -9 does, in one instant and without goodbye (comm.Mesh.Vanish, then cut its
	// links). Calls of its group under way must return. It must be given.
	Kill func(t *testing.T, groups []comm.Group, r comm.Rank)
	// Sizes are the group sizes of the collectives; nil is 1 to 17, and 1, 2, 3, 4, 5, 8 with -short. One transport is
	// asked all of them; which algorithm sends what does not depend on the transport.
	Sizes []int
	// Sockets says that the transport's groups are a comm.Wire, whose counts are then held to the books.
	Sockets bool
	// Shared says that the transport's groups are a comm.Boarder, so that their collectives go by shared memory.
	Shared bool
}

// Run sits the exam. No question is skipped: what a transport's groups cannot do that they should fails.
func Run(t *testing.T, open Make, o Options) {
	if o.Kill == nil {
		t.Fatal("commtest: Options.Kill is nil: the exam asks what happens when a rank dies")
	}
	if o.Sizes == nil {
		o.Sizes = []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17}
		if testing.Short() {
			o.Sizes = []int{1, 2, 3, 4, 5, 8}
		}
	}
	x := &exam{open, o}
	for _, q := range []struct {
		name string
		ask  func(*testing.T)
	}{
		{"Order", x.order}, {"TooSmall", x.tooSmall}, {"AnyRank", x.anyRank}, {"Self", x.self}, {"Large", x.large},
		{"Eager", x.eager}, {"Posts", x.posts}, {"Concurrent", x.concurrent}, {"BadRank", x.badRank},
		{"Cancel", x.cancel}, {"CancelledSend", x.cancelledSend}, {"Timeout", x.timeout}, {"Close", x.close},
		{"ClosePeer", x.closePeer}, {"Kill", x.kill}, {"KillAnyRank", x.killAnyRank}, {"Poison", x.poison},
		{"Absent", x.absent}, {"CancelCollective", x.cancelCollective}, {"CloseCollective", x.closeCollective},
		{"Disagree", x.disagree}, {"Sockets", x.sockets}, {"KillSub", x.killSub}, {"KillCollective", x.killCollective},
		{"SharedPlaces", x.sharedPlaces}, {"SharedFaults", x.sharedFaults},
	} {
		t.Run(q.name, q.ask)
	}
	for _, n := range o.Sizes {
		t.Run(fmt.Sprintf("Collectives%d", n), func(t *testing.T) { x.collectives(t, n) })
	}
}

type exam struct {
	make Make
	o    Options
}

// patience is the timeout of groups on which nothing should time out.
const patience = time.Minute

// group opens a group, and closes it and looks for lost goroutines at the end of the test.
func (x *exam) group(t *testing.T, n int, timeout time.Duration) []comm.Group {
	t.Helper()
	now := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, now) })
	groups := x.make(t, n, timeout)
	if len(groups) != n {
		t.Fatalf("a group of %d has %d views", n, len(groups))
	}
	for r, g := range groups {
		if g.Rank() != comm.Rank(r) || g.Size() != n {
			t.Fatalf("view %d of a group of %d says rank %d of %d", r, n, g.Rank(), g.Size())
		}
	}
	t.Cleanup(func() {
		each(t, groups, func(g comm.Group) error { return g.Close() })
	})
	return groups
}

// each runs f on every rank at once and reports their errors.
func each(t *testing.T, groups []comm.Group, f func(g comm.Group) error) {
	t.Helper()
	errs := all(groups, f)
	for r, err := range errs {
		if err != nil {
			t.Errorf("rank %d: %v", r, err)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

// all runs f on every rank at once and returns their errors.
func all(groups []comm.Group, f func(g comm.Group) error) []error {
	errs := make([]error, len(groups))
	var wg sync.WaitGroup
	for i, g := range groups {
		wg.Go(func() { errs[i] = f(g) })
	}
	wg.Wait()
	return errs
}

// fill writes n bytes that no other key gives.
func fill(n int, key uint64) []byte {
	p := make([]byte, n)
	for i := range p {
		if i%8 == 0 {
			key = key*6364136223846793005 + 1442695040888963407
		}
		p[i] = byte(key >> (8 * (i % 8)))
	}
	return p
}

// same says where got differs from fill(n, key).
func same(got []byte, n int, key uint64) error {
	if len(got) != n {
		return fmt.Errorf("%d bytes came of %d", len(got), n)
	}
	for i, w := range fill(n, key) {
		if got[i] != w {
			return fmt.Errorf("byte %d of %d is %#x, not %#x", i, n, got[i], w)
		}
	}
	return nil
}

// failed checks that err is a *comm.PeerError that names rank and op and wraps cause.
func failed(err error, rank comm.Rank, op comm.Op, cause error) error {
	var pe *comm.PeerError
	switch {
	case !errors.As(err, &pe):
		return fmt.Errorf("got %v, want a PeerError of rank %d", err, rank)
	case pe.Rank != rank || pe.Op != op:
		return fmt.Errorf("%v: names rank %d in %v, want rank %d in %v", err, pe.Rank, pe.Op, rank, op)
	case !errors.Is(err, cause):
		return fmt.Errorf("%v: does not wrap %q", err, cause)
	}
	return nil
}

func number(i int) []byte { return binary.LittleEndian.AppendUint32(nil, uint32(i)) }
