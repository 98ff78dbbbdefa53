package comm_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/inproc"
)

// summing is a group whose transport sums by itself, by another group, or fails.
type summing struct {
	comm.Group
	own  comm.Group
	tree comm.Tree
	err  error
}

func (s summing) AllReduce(ctx context.Context, x []float32) error {
	if s.err != nil {
		return s.err
	}
	return comm.AllReduce(ctx, s.own, s.tree, [][]float32{x})
}

func (s summing) Poison(e *comm.PeerError) *comm.PeerError {
	return s.Group.(comm.Poisoner).Poison(e)
}

func (s summing) Poisoned() *comm.PeerError { return s.Group.(comm.Poisoner).Poisoned() }

// Native sums a rank's own parts, hands the sum to the transport, and books it as handed over; a spare hands over zeros.
func TestNative(t *testing.T) {
	const n, leaves, length = 4, 7, 5
	tree := comm.NewTree(leaves, n)
	for _, tree := range []comm.Tree{tree, comm.NewTree(3, n)} {
		groups, own := inproc.New(n, time.Minute), inproc.New(n, time.Minute)
		errs := make(chan error, n)
		for r, g := range groups {
			books := comm.NewLedger()
			g := comm.Count(summing{Group: g, own: own[r], tree: comm.NewTree(n, n)}, books)
			go func() {
				parts := make([][]float32, tree.Vectors(g.Rank()))
				for j := range parts {
					parts[j] = slices.Repeat([]float32{1}, length)
				}
				err := comm.AllReduceBy(t.Context(), g, tree, parts, comm.Native)
				if want := slices.Repeat([]float32{float32(len(tree.AllParts()))}, length); err == nil && !slices.Equal(parts[0], want) {
					t.Errorf("rank %d has %v, not %v", g.Rank(), parts[0], want)
				}
				if b := books.Totals()[comm.OpAllReduce]; !b.Closes() || b.Messages != 1 || b.Payload != 4*length {
					t.Errorf("rank %d booked %+v", g.Rank(), b)
				}
				errs <- err
			}()
		}
		for range n {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
	}
}

// A sum that fails is the group's error from then on, and a group that cannot sum by itself says so and is as it was.
func TestNativeFails(t *testing.T) {
	tree := comm.NewTree(2, 2)
	groups := inproc.New(2, time.Minute)
	x := [][]float32{make([]float32, 3)}
	err := comm.AllReduceBy(t.Context(), groups[0], tree, x, comm.Native)
	if err == nil || !strings.Contains(err.Error(), "auto takes what there is") {
		t.Fatalf("a group that has no sum of its own: %v", err)
	}
	if pe := groups[0].(comm.Poisoner).Poisoned(); pe != nil {
		t.Fatalf("and is poisoned: %v", pe)
	}
	lost := &comm.PeerError{Rank: comm.AnyRank, Op: comm.OpAllReduce, Step: -1, Cause: comm.ErrTimeout}
	g := summing{Group: groups[0], err: lost}
	if err := comm.AllReduceBy(t.Context(), g, tree, x, comm.Native); !errors.Is(err, comm.ErrTimeout) {
		t.Fatal(err)
	}
	var pe *comm.PeerError
	if err := comm.Barrier(t.Context(), groups[1]); !errors.As(err, &pe) || pe.Error() != lost.Error() {
		t.Errorf("the other rank says %v, not %v", err, lost)
	}
}
